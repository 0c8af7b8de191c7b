//! Plans as bytes: made for the file, they are those of the function wherever it is loaded.

mod files;

use files::each_function;
use patch::{Catalogue, Convention, Decisions, Function, Method, Options};
use std::path::Path;

/// Where the object is loaded, as the kernel does it.
const BASE: u64 = 0x7f12_3456_7000;

fn round_trip(f: &Function<'_>, options: &Options<'_>) -> Option<usize> {
    let plan = patch::plan(f, options);
    let mut bytes = vec![0xaa];
    patch::encode(&plan, 0, &mut bytes);
    let (same, len) = patch::decode(&bytes[1..], 0).expect("just written");
    assert_eq!((&same, len), (&plan, bytes.len() - 1));
    // What is planned where it is loaded is what is read there. Behind it may be others.
    let loaded = Function { address: f.address + BASE, ..*f };
    let at: Vec<u64> = options.branch_targets.iter().map(|at| at + BASE).collect();
    let there = patch::plan(&loaded, &Options { branch_targets: &at, ..*options });
    bytes.extend([1, 2, 3]);
    let (moved, _) = patch::decode(&bytes[1..], BASE).expect("just written");
    assert_eq!(moved, there, "{:x}", f.address);
    let mut again = Vec::new();
    patch::encode(&moved, BASE, &mut again);
    assert_eq!(again[..], bytes[1..=len], "bytes do not depend on where it is loaded");
    plan.is_ok().then_some(len)
}

#[test]
fn plans_of_real_programs_come_back() {
    let own = std::env::current_exe().expect("this test");
    let (mut plans, mut bytes, mut with_exits, mut code) = (0, 0, 0, 0);
    for path in [Path::new("/lib/x86_64-linux-gnu/libc.so.6"), &own] {
        each_function(path, |f, _| {
            for breakpoint in [false, true] {
                let options = Options { breakpoint, ..Options::default() };
                if let Some(len) = round_trip(f, &options).filter(|_| !breakpoint) {
                    (plans, bytes, code) = (plans + 1, bytes + len, code + f.code.len());
                }
                let options = Options { exits: true, ..options };
                if let Some(len) = round_trip(f, &options).filter(|_| !breakpoint) {
                    with_exits += len;
                }
                round_trip(f, &Options { convention: Convention::Go, ..options });
            }
        });
    }
    let [bytes, with_exits, code] = [bytes, with_exits, code].map(|all| all / plans);
    println!("{plans} plans, {bytes} bytes each, {with_exits} with exits, of {code} bytes of code");
    assert!(plans > 500);
}

#[test]
fn every_shape_comes_back() {
    let table: [&[u8]; 13] = [
        // ends: a frame, a conditional tail jump and a ret, tail jumps of each kind
        &[0x55, 0x48, 0x83, 0xec, 0x10, 0x90, 0x48, 0x83, 0xc4, 0x10, 0x5d, 0xc3],
        &[0x0f, 0x1f, 0x44, 0, 0, 0x85, 0xff, 0x0f, 0x84, 0, 0x10, 0, 0, 0xc3],
        &[0x0f, 0x1f, 0x44, 0, 0, 0x75, 6, 0xff, 0x25, 0, 0x10, 0, 0, 0xe9, 0, 0x10, 0, 0],
        // Go's look at the stack
        &[0x49, 0x3b, 0x66, 0x10, 0x76, 0x04, 0x90, 0x90, 0x90, 0xc3, 0xeb, 0xf4],
        // push, mov
        &[0x55, 0x48, 0x89, 0xe5, 0x41, 0x54, 0xc3],
        // ret: a breakpoint that is emulated
        &[0xc3],
        // a call among the displaced instructions, direct and through memory
        &[0x53, 0xe8, 0, 0x10, 0, 0, 0x5b, 0xc3],
        &[0xff, 0x15, 0, 0x10, 0, 0, 0xc3],
        // jrcxz
        &[0xe3, 0x05, 0x90, 0x90, 0x90, 0x90, 0x90, 0xc3],
        // a retry loop that is moved as a whole
        &[0x8b, 0x07, 0x89, 0xc1, 0xff, 0xc1, 0xf0, 0x0f, 0xb1, 0x0f, 0x75, 0xf6, 0xc3],
        // a branch back to byte 0, behind the window
        &[0x48, 0x8b, 0x07, 0x90, 0x90, 0x90, 0x90, 0x85, 0xc0, 0x75, 0xf5, 0x90, 0x90, 0xc3],
        // push imm, je: emulated with a constant and with a condition
        &[0x6a, 0xff, 0xc3],
        &[0x74, 0x01, 0x90, 0xc3],
    ];
    let (mut kinds, mut exits) = ([0; 2], 0);
    for code in table {
        for site in 0..code.len() as u32 {
            for breakpoint in [false, true] {
                let f = Function { address: 0x1000, code, after: &[0x90; 8], site };
                for branch_targets in [&[][..], &[0x1003]] {
                    let options = Options { breakpoint, branch_targets, ..Options::default() };
                    round_trip(&f, &options);
                    let with_exits = Options { exits: true, ..options };
                    round_trip(&f, &with_exits);
                    if let Ok(plan) = patch::plan(&f, &with_exits) {
                        exits += plan.exits.map_or(0, |exits| exits.len());
                    }
                    round_trip(&f, &Options { convention: Convention::Go, ..options });
                    if let Ok(plan) = patch::plan(&f, &options) {
                        kinds[usize::from(matches!(plan.method, Method::Detour(_)))] += 1;
                    }
                }
            }
        }
    }
    assert!(kinds.iter().all(|n| *n > 10) && exits > 20, "{kinds:?} {exits}");
}

/// Whatever the bytes are, they are read to an end, and what they give can be used.
#[test]
fn bytes_that_are_no_plan() {
    let code = [
        0x53, 0xe8, 0, 0x10, 0, 0, 0x5b, 0x48, 0x8b, 0x05, 0, 0, 0x10, 0, 0xe3, 0xf0, 0x75, 0xee,
        0x0f, 0x1f, 0x44, 0, 0, 0x0f, 0x84, 0, 0x10, 0, 0, 0xc3,
    ];
    let f = Function { address: 0x1000, code: &code, after: &[], site: 0 };
    let mut whole = Vec::new();
    let plan = patch::plan(&f, &Options { exits: true, ..Options::default() });
    assert!(plan.as_ref().is_ok_and(|plan| plan.exits.as_ref().is_ok_and(|all| all.len() == 1)));
    patch::encode(&plan, 0, &mut whole);
    for cut in 0..whole.len() {
        assert!(patch::decode(&whole[..cut], 0).is_err(), "{cut} of {}", whole.len());
    }
    let mut state = 0x1234_5678_9abc_def0_u64;
    let mut random = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state
    };
    let (mut read, mut exits) = (0, 0);
    for round in 0..200_000 {
        let mut bytes = whole.clone();
        for _ in 0..1 + random() % 3 {
            let at = random() as usize % bytes.len();
            bytes[at] =
                if round % 2 == 0 { random() as u8 } else { bytes[at] ^ 1 << (random() % 8) };
        }
        let Ok((Ok(plan), len)) = patch::decode(&bytes, 0) else { continue };
        assert!(len <= bytes.len());
        read += 1;
        for exit in plan.exits.iter().flatten() {
            let mut out = vec![7];
            let hook = &mut |_: &patch::Leaving, _, out: &mut Vec<u8>| out.extend([0x90; 300]);
            match exit.emit(0x9000, hook, &mut out) {
                Ok(body) => {
                    exits += 1;
                    assert_eq!(body.size as usize, out.len() - 1);
                    let shown = (0..body.size + 2).filter_map(|at| body.present(at)).count();
                    assert!(shown <= out.len());
                }
                Err(_) => assert_eq!(out, [7]),
            }
        }
        let mut out = vec![7];
        let result = match &plan.method {
            Method::Detour(d) => d.emit_redirected(0x9000, Some(&plan.redirect(0x9100)), &mut out),
            Method::Breakpoint(b) => b.emit_slot(0x9000, &mut out),
        };
        match result {
            Ok(body) => {
                assert_eq!(body.size as usize, out.len() - 1);
                assert!((0..body.size + 2).filter_map(|at| body.present(at)).count() <= out.len());
                assert!(out.len() < 64 << 10);
            }
            Err(_) => assert_eq!(out, [7]),
        }
    }
    assert!(read > 1000 && exits > 1000, "{read} of them were plans, with {exits} exits");
}

#[test]
fn decisions_are_found_by_function_and_site() {
    let code = [0x55, 0x48, 0x89, 0xe5, 0x41, 0x54, 0xc3];
    let mut catalogue = Catalogue::default();
    let decide = |address, site| {
        patch::plan(&Function { address, code: &code, after: &[], site }, &Options::default())
    };
    for (address, site) in [(0x3000, 0), (0x1000, 4), (0x1000, 0), (0x2000, 2)] {
        catalogue.add(address, site, &decide(address, site));
    }
    let decisions = Decisions::read(catalogue.bytes());
    assert_eq!(decisions.find(0x1000, 4, BASE), Some(decide(0x1000 + BASE, 4)));
    assert_eq!(decisions.find(0x2000, 2, 0), Some(decide(0x2000, 2)));
    assert!(decisions.find(0x2000, 2, 0).is_some_and(|refused| refused.is_err()));
    assert_eq!(decisions.find(0x2000, 0, 0), None);
    assert_eq!(decisions.find(0x4000, 0, 0), None);
    // Cut anywhere, what is whole of it is there.
    for cut in 0..catalogue.bytes().len() {
        let decisions = Decisions::read(&catalogue.bytes()[..cut]);
        assert_eq!(decisions.find(0x2000, 2, 0), None);
        let first = decisions.find(0x3000, 0, 0);
        assert!(first.is_none() || first == Some(decide(0x3000, 0)));
    }
}
