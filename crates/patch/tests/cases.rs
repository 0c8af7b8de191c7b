//! What a function looks like, and how it is patched: one row for each special case.

use patch::{
    Body, Convention, Function, Liveness, Memory, Method, NoDetour, NoReturn, Options, Plan,
    Refusal, Registers, Resume,
};

const AT: u64 = 0x55_0000_1000;
const STUB: u64 = AT + 0x10_0000;

fn hex(text: &str) -> Vec<u8> {
    text.split_whitespace().map(|b| u8::from_str_radix(b, 16).expect("hexadecimal")).collect()
}

fn plan_of(code: &[u8], after: &[u8], site: u32, options: &Options<'_>) -> Result<Plan, Refusal> {
    patch::plan(&Function { address: AT, code, after, site }, options)
}

fn plan(code: &str) -> Plan {
    plan_of(&hex(code), &[], 0, &Options::default()).expect(code)
}

fn body(plan: &Plan) -> (Body, Vec<u8>) {
    let mut out = Vec::new();
    let body = match &plan.method {
        Method::Detour(d) => d.emit_body(STUB, &mut out),
        Method::Breakpoint(b) => b.emit_slot(STUB, &mut out),
    };
    (body.expect("near"), out)
}

/// Where a `rel32` at `offset` in the stub leads.
fn leads_to(out: &[u8], offset: usize) -> u64 {
    let rel = i32::from_le_bytes(out[offset..offset + 4].try_into().expect("four bytes"));
    (STUB + offset as u64 + 4).wrapping_add_signed(i64::from(rel))
}

/// Expected: `Ok(window, boundaries)` for a detour, `Err(reason)` for a breakpoint.
type Expected = Result<(usize, &'static [u8]), NoDetour>;

#[test]
fn methods() {
    // (what, code, behind it, expected, loops)
    let table: &[(&str, &str, &str, Expected, bool)] = &[
        ("push, mov", "55 48 89 e5 41 54 c3", "", Ok((6, &[1, 4])), false),
        ("one long instruction", "48 8b 05 00 10 00 00 c3", "", Ok((7, &[])), false),
        ("nop5", "0f 1f 44 00 00 c3", "", Ok((5, &[])), false),
        ("xchg ax, ax; nop", "66 90 90 90 90 c3", "", Ok((5, &[2, 3, 4])), false),
        ("ret alone", "c3", "", Err(NoDetour::TooShort), false),
        ("ret with padding behind", "c3", "66 0f 1f 44 00 00", Ok((5, &[])), false),
        ("ret with int3 behind", "c3", "cc cc cc cc", Ok((5, &[])), false),
        ("ret with too little padding", "c3", "90 90 90", Err(NoDetour::TooShort), false),
        ("ret with a function behind", "c3", "55 48 89 e5", Err(NoDetour::TooShort), false),
        (
            "falls out of its end: the padding runs",
            "31 c0",
            "90 90 90 90",
            Err(NoDetour::TooShort),
            false,
        ),
        ("3 bytes", "31 c0 c3", "0f 1f 44 00 00 90", Ok((5, &[2])), false),
        ("padding of its own", "f3 c3 0f 1f 44 00 00", "", Ok((5, &[])), false),
        ("code behind a ret", "c3 31 c0 ff c0 c3", "", Err(NoDetour::CodeBehindJump), false),
        (
            "ud2 that a handler skips",
            "0f 0b 90 90 90 b8 06 00 00 00 c3",
            "",
            Err(NoDetour::CodeBehindJump),
            false,
        ),
        ("jmp short out", "eb 40", "90 90 90 90", Ok((5, &[])), false),
        ("jmp near out", "e9 00 10 00 00", "", Ok((5, &[])), false),
        ("jmp [rip]", "ff 25 00 10 00 00", "", Ok((6, &[])), false),
        ("jcc over the window", "85 ff 74 05 b8 01 00 00 00 c3", "", Ok((9, &[2, 4])), false),
        ("jcc into the window", "85 ff 74 01 90 31 c0 c3", "", Ok((5, &[2, 4])), false),
        (
            "a branch from behind into the window",
            "48 ff c7 48 ff c7 75 fb e8 00 00 00 00 c3",
            "",
            Err(NoDetour::BranchIntoWindow),
            false,
        ),
        (
            "a loop from behind into the window",
            "31 c0 48 ff c7 e2 fb e8 00 00 00 00 c3",
            "",
            Err(NoDetour::BranchIntoWindow),
            false,
        ),
        (
            "jrcxz from behind into the window",
            "31 c0 48 ff c7 e3 fb ff e0",
            "",
            Err(NoDetour::BranchIntoWindow),
            false,
        ),
        (
            "a small function is moved as a whole",
            "31 c0 48 ff c7 e2 fb c3",
            "",
            Ok((8, &[2])),
            false,
        ),
        ("moved, with padding inside", "31 c0 48 ff c7 75 fb c3 cc cc", "", Ok((10, &[2])), false),
        (
            "not moved: shorter than a jump, and it branches into what is behind it",
            "7a 02 c3",
            "90 90 90 90 90",
            Err(NoDetour::BranchIntoWindow),
            false,
        ),
        (
            "not moved: a branch between its instructions",
            "31 c0 48 ff c7 75 fc c3",
            "",
            Err(NoDetour::BranchIntoWindow),
            false,
        ),
        (
            "a label in the window is taken",
            "31 c0 48 ff c7 48 8d 05 f8 ff ff ff ff e0",
            "",
            Err(NoDetour::BranchIntoWindow),
            false,
        ),
        ("a branch to byte 0", "48 ff c7 48 ff ce 75 f8 c3", "", Ok((6, &[3])), true),
        ("a branch of the window to byte 0", "48 ff cf 75 fb c3", "", Ok((5, &[3])), false),
        ("recursion is no loop", "48 ff cf 48 ff ce e8 f5 ff ff ff c3", "", Ok((6, &[3])), false),
        (
            "a branch to the middle of an instruction",
            "85 ff 74 01 f0 48 ff 07 c3",
            "",
            Ok((8, &[2, 4])),
            false,
        ),
        ("call first", "e8 00 10 00 00 c3", "", Ok((5, &[])), false),
        ("push, call", "53 e8 00 10 00 00 5b c3", "", Ok((6, &[1])), false),
        (
            "call rax returns into the window",
            "ff d0 48 83 c4 08 c3",
            "",
            Err(NoDetour::CallInWindow),
            false,
        ),
        ("call [rip]", "ff 15 00 10 00 00 c3", "", Ok((6, &[])), false),
        ("call [rsp-8]", "48 89 c0 ff 54 24 f8 c3", "", Err(NoDetour::NotRelocatable), false),
        ("call rsp", "48 89 c0 ff d4 c3", "", Err(NoDetour::NotRelocatable), false),
        ("jrcxz first", "e3 03 31 c0 c3 31 c0 c3", "", Ok((5, &[2, 4])), false),
        ("jrcxz", "e3 03 48 31 c0 48 31 db c3", "", Ok((5, &[2])), false),
        ("lock prefix", "f0 48 ff 07 31 c0 c3", "", Ok((6, &[4])), false),
        ("syscall", "b8 27 00 00 00 0f 05 c3", "", Ok((5, &[])), false),
        ("syscall in the window", "31 c0 0f 05 c3", "", Ok((5, &[2, 4])), false),
        (
            "xbegin in the window",
            "31 c0 c7 f8 00 00 00 00 c3",
            "",
            Err(NoDetour::NotRelocatable),
            false,
        ),
        ("int3 in the window", "31 c0 cc 31 c0 c3", "", Err(NoDetour::NotRelocatable), false),
        ("data behind a jump", "55 48 89 e5 ff e0 06 07 0e 16", "", Ok((6, &[1, 4])), false),
        ("runs into data", "55 48 89 e5 90 90 06 07", "", Err(NoDetour::Undecodable), false),
        (
            "data behind a call that does not return",
            "55 48 89 e5 90 e8 00 10 00 00 06",
            "",
            Ok((5, &[1, 4])),
            false,
        ),
        (
            "jmp short with a data prefix",
            "66 eb 10 90 90 90",
            "",
            Err(NoDetour::NotRelocatable),
            false,
        ),
    ];
    for (what, code, after, expected, loops) in table {
        let (code, after) = (hex(code), hex(after));
        let plan = match plan_of(&code, &after, 0, &Options::default()) {
            Ok(plan) => plan,
            // A single instruction that cannot be relocated at the site itself.
            Err(Refusal::NotRelocatable) if *expected == Err(NoDetour::NotRelocatable) => continue,
            Err(refusal) => panic!("{what}: refused: {refusal}"),
        };
        match (&plan.method, expected) {
            (Method::Detour(d), Ok((window, boundaries))) => {
                assert_eq!((d.window(), d.boundaries()), (*window, *boundaries), "{what}");
                let all: Vec<u8> = code.iter().chain(&after).copied().collect();
                assert_eq!(d.original(), &all[..*window], "{what}");
                assert!(d.reach().contains(&STUB));
            }
            (Method::Breakpoint(b), Err(why)) => assert_eq!(b.why(), *why, "{what}"),
            (method, _) => panic!("{what}: {method}, not {expected:?}"),
        }
        assert_eq!(plan.site, AT, "{what}");
        assert_eq!(plan.loops, *loops, "{what}");
        let (body, out) = body(&plan);
        assert_eq!(body.relocated(AT), Some(0), "{what}");
        assert_eq!(body.size as usize, out.len(), "{what}");
    }
}

#[test]
fn refusals() {
    let table: &[(&str, &str, u32, Refusal)] = &[
        ("nothing", "", 0, Refusal::Empty),
        ("behind the end", "c3", 1, Refusal::Empty),
        ("no instruction", "06 c3", 0, Refusal::Undecodable),
        ("half an instruction", "48 8b", 0, Refusal::Undecodable),
        ("inside an instruction", "b8 90 90 90 90 c3", 1, Refusal::NotAnInstruction),
        ("somebody's breakpoint", "cc 48 89 e5 c3", 0, Refusal::ForeignBreakpoint),
        (
            "somebody's breakpoint behind endbr64",
            "f3 0f 1e fa cc 48 89 e5 c3",
            0,
            Refusal::ForeignBreakpoint,
        ),
        ("xbegin", "c7 f8 00 00 00 00 c3", 0, Refusal::Transaction),
        ("rt_sigreturn", "48 c7 c0 0f 00 00 00 0f 05", 0, Refusal::SignalReturn),
        ("rt_sigreturn, one nop early", "90 48 c7 c0 0f 00 00 00 0f 05", 0, Refusal::SignalReturn),
        ("far call", "ff 1f c3", 0, Refusal::NotRelocatable),
        ("operand relative to eip", "67 8b 05 00 00 00 00 c3", 0, Refusal::NotRelocatable),
    ];
    for (what, code, site, expected) in table {
        match plan_of(&hex(code), &[], *site, &Options::default()) {
            Err(refusal) => assert_eq!(refusal, *expected, "{what}"),
            Ok(plan) => panic!("{what}: {}", plan.method),
        }
        assert!(!expected.to_string().is_empty());
    }
}

#[test]
fn what_the_caller_knows() {
    let code = hex("55 48 89 e5 41 54 31 c0 c3");
    let why = |options: &Options<'_>| match plan_of(&code, &[], 0, options).expect("a plan").method
    {
        Method::Detour(_) => None,
        Method::Breakpoint(b) => Some(b.why()),
    };
    assert_eq!(why(&Options::default()), None);
    assert_eq!(why(&Options { breakpoint: true, ..Options::default() }), Some(NoDetour::Asked));
    // The jump covers five bytes; what lies behind is still there.
    for (target, expected) in [
        (0, None),
        (1, Some(NoDetour::BranchTargetInWindow)),
        (4, Some(NoDetour::BranchTargetInWindow)),
        (5, None),
    ] {
        assert_eq!(
            why(&Options { branch_targets: &[AT - 9, AT + target, AT + 99], ..Options::default() }),
            expected,
            "{target}"
        );
    }
    let sequence = |from| [from..AT + 20, AT + 100..AT + 120];
    assert_eq!(
        why(&Options { rseq: &sequence(AT + 4), ..Options::default() }),
        Some(NoDetour::Rseq)
    );
    assert_eq!(why(&Options { rseq: &sequence(AT + 6), ..Options::default() }), None);
    let inside = plan_of(&code, &[], 0, &Options { rseq: &sequence(AT), ..Options::default() });
    assert_eq!(inside.err(), Some(Refusal::Rseq));
}

/// Where branches back to byte 0 are redirected, as offsets: (of the jump, if one has room; of the
/// trap).
#[test]
fn branches_back_are_redirected() {
    type Ways = &'static [(Option<u64>, u64)];
    let table: &[(&str, &str, &str, Option<Ways>)] = &[
        ("none", "31 c0 48 ff c7 c3", "", Some(&[])),
        // dec edi; jle +12; call; add rdi, 1; jmp 0; nothing behind
        (
            "with the instruction before it",
            "ff cf 7e 0b e8 00 00 00 00 48 83 c7 01 eb f1 c3",
            "",
            Some(&[(Some(9), 13)]),
        ),
        (
            "conditional, with code behind",
            "90 e8 00 00 00 00 74 f8 31 c0 31 c9 c3",
            "",
            Some(&[(Some(6), 6)]),
        ),
        ("near", "90 e8 00 00 00 00 e9 f5 ff ff ff", "", Some(&[(Some(6), 6)])),
        (
            "with padding behind",
            "90 e8 00 00 00 00 74 01 c3 eb f5",
            "90 90 90",
            Some(&[(Some(9), 9)]),
        ),
        ("without", "90 e8 00 00 00 00 74 01 c3 eb f5", "55", Some(&[(None, 9)])),
        // A jump to the jmp, in front of which there would be room.
        ("branched to", "90 e8 00 00 00 00 74 03 48 89 c0 eb f3", "55", Some(&[(None, 11)])),
        (
            "one behind the other",
            "90 e8 00 00 00 00 74 f8 75 f6 31 c0 31 c0 c3",
            "",
            Some(&[(None, 6), (Some(8), 8)]),
        ),
        // A jump through a register may lead to what is behind the branch.
        (
            "a label may be there",
            "90 e8 00 00 00 00 74 f8 31 c0 31 c0 ff e0",
            "",
            Some(&[(None, 6)]),
        ),
        // Data behind a ret looks like a branch to byte 0.
        ("data", "90 e8 00 00 00 00 c3 eb f7 06 06 06", "", None),
        ("with a prefix that processors disagree about", "90 e8 00 00 00 00 66 75 f7 c3", "", None),
    ];
    for (what, code, after, expected) in table {
        let plan = plan_of(&hex(code), &hex(after), 0, &Options::default()).expect("a plan");
        let ways = plan.back.as_ref().map(|all| {
            all.iter()
                .map(|b| (b.detour.as_ref().map(|d| d.site() - AT), b.trap.site() - AT))
                .collect::<Vec<_>>()
        });
        assert_eq!(ways.as_deref(), *expected, "{what}");
        assert_eq!(plan.loops, ways.is_none_or(|w| !w.is_empty()), "{what}");
        for back in plan.back.iter().flatten() {
            let redirect = plan.redirect(STUB + 0x100);
            let mut out = Vec::new();
            let body =
                back.trap.emit_redirected(STUB, Some(&redirect), &mut out).expect("in reach");
            let jump = out.windows(5).position(|w| w[0] == 0xe9 || w[0] == 0x0f).expect("a branch");
            let place = jump + if out[jump] == 0x0f { 2 } else { 1 };
            assert_eq!(leads_to(&out, place), STUB + 0x100, "{what}");
            assert_eq!(body.relocated(back.trap.site()), Some(0), "{what}");
            let Some(detour) = &back.detour else { continue };
            out.clear();
            let body = detour.emit_redirected(STUB, Some(&redirect), &mut out).expect("in reach");
            let at =
                body.relocated(back.trap.site()).expect("the branch is in the window") as usize;
            let place = at + if out[at] == 0x0f { 2 } else { 1 };
            assert_eq!(leads_to(&out, place), STUB + 0x100, "{what}");
        }
    }
    let code = hex("90 e8 00 00 00 00 74 f8 31 c0 31 c9 c3");
    let targets = Options { branch_targets: &[AT + 8], ..Options::default() };
    let plan = plan_of(&code, &[], 0, &targets).expect("a plan");
    assert!(plan.back.expect("a trap has room")[0].detour.is_none(), "reached from elsewhere");
    let plan = plan_of(&code, &[], 2, &Options::default());
    assert!(plan.is_err() || plan.is_ok_and(|p| p.back.is_none()), "not at the entry");
}

#[test]
fn endbr64_stays() {
    let plan = plan("f3 0f 1e fa 55 48 89 e5 31 c0 75 f4 c3");
    assert_eq!(plan.site, AT + 4);
    assert!(plan.loops, "it branches back to the endbr64");
    assert!(plan.live.red_zone);
    let Method::Detour(d) = &plan.method else { panic!("{}", plan.method) };
    assert_eq!(d.original(), hex("55 48 89 e5 31 c0"));
    assert_eq!(plan.returns, Ok(()));
    // Nothing behind it: a breakpoint on it, emulated.
    let plan = self::plan("f3 0f 1e fa");
    assert_eq!(plan.site, AT);
    assert!(
        matches!(&plan.method, Method::Breakpoint(b) if matches!(b.resume(), Resume::Emulate(_)))
    );
}

#[test]
fn a_call_pushes_the_original_return_address() {
    let plan = plan("53 e8 00 10 00 00 5b c3");
    let (body, out) = body(&plan);
    // push rbx; call L; L: lea rsp,[rsp+8]; push [ra]; jmp X
    assert_eq!(out[..13], hex("53 e8 00 00 00 00 48 8d 64 24 08 ff 35")[..]);
    assert_eq!(out[17], 0xe9);
    assert_eq!(leads_to(&out, 18), AT + 6 + 0x1000);
    let constant = (leads_to(&out, 13) - STUB) as usize;
    assert_eq!(out[constant..constant + 8], (AT + 6).to_le_bytes());
    assert_eq!((STUB + constant as u64) % 8, 0);
    // (offset, shown ip, shown rsp)
    for (offset, ip, sp) in
        [(0, AT, 0), (1, AT + 1, 0), (6, AT + 1, 8), (11, AT + 1, 0), (17, AT + 1, 8)]
    {
        let p = body.present(offset).expect("code");
        assert_eq!((p.ip, p.sp), (ip, sp), "{offset}");
    }
    assert_eq!(body.present(22), None);
    assert_eq!(body.relocated(AT + 1), Some(1));
    assert_eq!(body.relocated(AT + 2), None);
    // The return address is the original one: nothing comes back to the stub.
    assert_eq!(body.relocated(AT + 6), None);
}

/// It is a call of the function as any other, which the probe has to see.
#[test]
fn a_call_of_the_function_itself_goes_by_the_probe() {
    // dec edi; je +5; call the first byte; ret
    let plan = plan("ff cf 74 05 e8 f7 ff ff ff c3");
    let Method::Detour(d) = &plan.method else { panic!("{}", plan.method) };
    assert_eq!(d.window(), 9);
    assert!(!plan.loops);
    let (body, out) = body(&plan);
    let jump = body.relocated(AT + 4).expect("the call") as usize + 16;
    assert_eq!(out[jump], 0xe9);
    assert_eq!(leads_to(&out, jump + 1), AT);
    // A call of what is behind the first byte pushes its address and goes on in the copy.
    let plan = self::plan("90 90 90 e8 00 00 00 00 59 c3");
    let (body, out) = self::body(&plan);
    assert_eq!(leads_to(&out, body.relocated(AT + 3).unwrap() as usize + 17), AT + 8);
}

#[test]
fn operands_keep_their_addresses() {
    // mov rax,[rip+0x1000]; cmp dword [rip+0x2000], 7 (the displacement is not last)
    let plan = plan("48 8b 05 00 10 00 00 83 3d 00 20 00 00 07 c3");
    let (_, out) = body(&plan);
    assert_eq!(leads_to(&out, 3), AT + 7 + 0x1000);
    assert_eq!(leads_to(&out, 8), AT + 7, "the jump back");
    let plan = self::plan("83 3d 00 20 00 00 07 c3");
    let (_, out) = body(&plan);
    assert_eq!(leads_to(&out, 2) + 1, AT + 7 + 0x2000);
    // Out of reach of its operand.
    let Method::Detour(d) = &plan.method else { panic!() };
    let mut out = vec![1, 2, 3];
    assert_eq!(d.emit_body(AT + (3 << 30), &mut out), Err(Refusal::OutOfReach));
    assert_eq!(out, [1, 2, 3]);
    for at in [d.reach().start, d.reach().end - 64] {
        d.emit_body(at, &mut out).expect("both ends of the reach");
    }
    // A slot whose instruction refers to nothing may be anywhere.
    let plan = plan_of(&hex("8b 07 c3"), &[], 0, &Options::default()).expect("a plan");
    let Method::Breakpoint(b) = &plan.method else { panic!() };
    let mut out = Vec::new();
    let slot = b.emit_slot(0x7fff_0000_0000, &mut out).expect("anywhere");
    assert_eq!(out[..8], hex("8b 07 ff 25 00 00 00 00")[..]);
    assert_eq!(out[8..], (AT + 2).to_le_bytes());
    assert_eq!(slot.relocated(AT + 2), Some(2));
}

#[test]
fn liveness() {
    // (code, live: flags rax rcx rdx rdi)
    let table = [
        ("55 48 89 e5 53 c3", [true, true, true, true, true]),
        ("31 c0 48 89 c1 c3", [false, false, false, true, true]),
        ("83 ff 01 19 c0 c3", [false, true, true, true, true]),
        ("11 c0 31 c9 c3", [true, true, false, true, true]),
        ("b8 01 00 00 00 48 d3 e0 c3", [true, false, true, true, true]),
        ("b0 01 0f b6 c0 48 83 c1 01 c3", [false, true, true, true, true]),
        ("e8 00 00 00 00 31 c0 c3", [true, true, true, true, true]),
        ("0f 05 31 c0 31 c9 c3", [true, true, true, true, true]),
        ("eb 04 90 90 90 90 31 ff 31 d2 74 02 31 c0 c3", [false, true, true, false, false]),
        ("48 c1 e0 00 31 c9 c3", [false, true, false, true, true]),
    ];
    for (code, live) in table {
        let l = plan(code).live;
        assert_eq!([l.flags, l.rax, l.rcx, l.rdx, l.rdi], live, "{code}");
        assert!(!l.red_zone, "{code}");
    }
    assert!(
        plan_of(&hex("31 c0 31 c9 31 d2 c3"), &[], 2, &Options::default())
            .expect("a plan")
            .live
            .red_zone
    );
}

#[test]
fn return_probes() {
    let table: &[(&str, &str, Result<(), NoReturn>)] = &[
        ("ordinary", "55 48 89 e5 53 48 83 ec 08 48 8b 45 f8 48 83 c4 08 5b 5d c3", Ok(())),
        ("a stack argument", "48 8b 44 24 08 31 c9 c3", Ok(())),
        ("reads [rsp]", "48 8b 34 24 31 c9 c3", Err(NoReturn::ReadsReturnAddress)),
        (
            "reads it below a frame",
            "48 83 ec 18 48 8b 74 24 18 48 83 c4 18 c3",
            Err(NoReturn::ReadsReturnAddress),
        ),
        (
            "reads it through rbp",
            "55 48 89 e5 48 8b 7d 08 5d c3",
            Err(NoReturn::ReadsReturnAddress),
        ),
        (
            "reads it behind a branch",
            "85 ff 74 01 c3 48 8b 34 24 c3",
            Err(NoReturn::ReadsReturnAddress),
        ),
        ("jumps by a return", "48 89 04 24 c3 90", Err(NoReturn::WritesReturnAddress)),
        (
            "retpoline: a jump, its own call pushed what it overwrites",
            "e8 07 00 00 00 f3 90 0f ae e8 eb f9 48 89 04 24 c3",
            Ok(()),
        ),
        ("call to the next, pop", "53 e8 00 00 00 00 5b 48 8b 03 5b c3", Ok(())),
        ("pops it", "5f b8 3a 00 00 00 0f 05 57 c3", Err(NoReturn::DropsReturnAddress)),
        ("drops it", "48 83 c4 08 31 c0 c3", Err(NoReturn::DropsReturnAddress)),
        ("thunk", "48 8b 1c 24 c3 90", Err(NoReturn::ReadsReturnAddress)),
        ("loads rsp", "48 8b 67 08 31 c0 c3", Err(NoReturn::SwitchesStack)),
        (
            "realigns its stack",
            "4c 8d 54 24 08 48 83 e4 e0 41 ff 72 f8 55 48 89 e5 41 52 5d c3",
            Ok(()),
        ),
        ("alloca", "55 48 89 e5 48 29 fc 48 8d 65 f0 5b 41 5c 5d c3", Ok(())),
        ("two depths meet", "85 ff 74 02 50 50 48 8b 44 24 10 c3", Ok(())),
    ];
    for (what, code, expected) in table {
        assert_eq!(plan(code).returns, *expected, "{what}");
    }
    let inside = plan_of(&hex("55 48 89 e5 41 54 31 c0 31 c9 c3"), &[], 1, &Options::default())
        .expect("a plan");
    assert_eq!(inside.returns, Err(NoReturn::NotEntry));
}

/// A stack of a few words.
struct Words([u64; 8]);

impl Memory for Words {
    fn read(&mut self, address: u64) -> u64 {
        self.0[address as usize / 8]
    }

    fn write(&mut self, address: u64, value: u64) {
        self.0[address as usize / 8] = value;
    }
}

#[test]
fn emulation() {
    // (code, flags, rip, rsp, what is on the stack); rsp is 32 before, [32] is 0x77, rcx is 0, r12
    // is 0xabc
    let table = [
        ("90", 0, AT + 1, 32, 0x77),
        ("0f 1f 00", 0, AT + 3, 32, 0x77),
        ("55", 0, AT + 1, 24, 0xb9),
        ("54", 0, AT + 1, 24, 32),
        ("41 54", 0, AT + 2, 24, 0xabc),
        ("6a ff", 0, AT + 2, 24, u64::MAX),
        ("c3", 0, 0x77, 40, 0),
        ("c2 08 00", 0, 0x77, 48, 0),
        ("eb 10", 0, AT + 0x12, 32, 0x77),
        ("41 ff e4", 0, 0xabc, 32, 0x77),
        ("74 10", 0, AT + 2, 32, 0x77),
        ("74 10", 0x40, AT + 0x12, 32, 0x77),
        ("72 10", 0x1, AT + 0x12, 32, 0x77),
        ("7f 10", 0x880, AT + 0x12, 32, 0x77),
        ("7c 10", 0x80, AT + 0x12, 32, 0x77),
        ("e3 10", 0, AT + 0x12, 32, 0x77),
    ];
    for (code, rflags, rip, rsp, top) in table {
        let plan = plan_of(&hex(code), &[], 0, &Options { breakpoint: true, ..Options::default() })
            .expect(code);
        let Method::Breakpoint(b) = &plan.method else { panic!() };
        let Resume::Emulate(e) = b.resume() else { panic!("{code}: {:?}", b.resume()) };
        let mut words = Words([0, 0, 0, 0, 0x77, 0, 0, 0]);
        let mut r = Registers {
            rsp: 32,
            rbp: 0xb9,
            r12: 0xabc,
            rflags,
            rip: AT + 1,
            ..Registers::default()
        };
        e.apply_with(&mut r, &mut words);
        assert_eq!((r.rip, r.rsp, words.read(r.rsp), r.rflags), (rip, rsp, top, rflags), "{code}");
    }
    let plan = plan_of(
        &hex("e8 00 10 00 00"),
        &[],
        0,
        &Options { breakpoint: true, ..Options::default() },
    )
    .expect("a plan");
    let Method::Breakpoint(b) = &plan.method else { panic!() };
    let Resume::Emulate(e) = b.resume() else { panic!() };
    let mut words = Words([0; 8]);
    let mut r = Registers { rsp: 32, ..Registers::default() };
    e.apply_with(&mut r, &mut words);
    assert_eq!((r.rip, r.rsp, words.0[3]), (AT + 0x1005, 24, AT + 5));
}

#[test]
fn nothing_panics() {
    let mut state = 0x1234_5678_9abc_def0u64;
    let mut random = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state
    };
    let options = [Options::default(), Options { breakpoint: true, ..Options::default() }];
    for round in 0..20_000 {
        let code: Vec<u8> = (0..random() % 40).map(|_| random() as u8).collect();
        let after: Vec<u8> =
            (0..random() % 8).map(|_| [0x90, 0xcc, 0x66, 0x0f][random() as usize % 4]).collect();
        let address = [AT, 0, u64::MAX - 3, 1 << 63, random()][random() as usize % 5];
        let f = Function { address, code: &code, after: &after, site: (random() % 6) as u32 };
        let Ok(plan) = patch::plan(&f, &options[round % 2]) else { continue };
        let mut out = Vec::new();
        let at = address.wrapping_add(random() % 0x1000);
        let _ = match &plan.method {
            Method::Detour(d) => d.emit_body(at, &mut out),
            Method::Breakpoint(b) => b.emit_slot(at, &mut out),
        };
        let mut targets = Vec::new();
        patch::branch_targets(address, &code, &mut targets, &mut Vec::new());
    }
    // Whole functions, cut anywhere.
    let code = hex(
        "f3 0f 1e fa 41 54 55 53 48 8b 1d 00 10 00 00 e8 00 00 01 00 85 c0 74 05 e2 f0 ff 15 00 \
            00 00 00 5b 5d 41 5c c3",
    );
    for end in 0..=code.len() {
        for site in 0..=end as u32 {
            let _ = plan_of(&code[..end], &[], site, &Options::default());
        }
    }
}

/// Functions of Go's: the look at the stack is displaced as a whole, whatever its form.
#[test]
fn a_go_function_is_counted_behind_its_stack_check() {
    let go = Options { convention: Convention::Go, ..Options::default() };
    // The check in three forms; a frame; the way to where the stack grows, and back to byte 0.
    for (check, window) in [
        ("49 3b 66 10 76 0a", 6),
        ("4c 8d a4 24 d8 fe ff ff 4d 3b 66 10 76 0a", 14),
        ("49 89 e4 49 81 ec 00 40 00 00 72 10 4d 3b 66 10 76 0a", 18),
    ] {
        let mut code = hex(check);
        code.extend(hex("48 83 ec 18 48 83 c4 18 90 c3 e8 00 10 00 00"));
        let back = -(code.len() as i32 + 5);
        code.push(0xe9);
        code.extend(back.to_le_bytes());
        for put_aside in [false, true] {
            let plan = plan_of(&code, &[], 0, &Options { put_aside, ..go }).expect(check);
            let Method::Detour(detour) = &plan.method else { panic!("{}", plan.method) };
            assert_eq!((plan.site, detour.window()), (AT, window), "{check}");
            assert!(plan.behind && !plan.loops && plan.back.is_none(), "{check}");
            assert_eq!((plan.live, plan.returns), (Liveness::GO, Err(NoReturn::Goroutine)));
            let mut out = Vec::new();
            let onward = STUB + 0x40;
            let (body, back) = detour.emit_onward(STUB, onward, &mut out).expect("within reach");
            assert_eq!(back, Some(AT + window as u64));
            let jump = patch::jump(STUB + u64::from(body.size) - 5, onward).expect("within reach");
            assert!(out.ends_with(&jump), "{check}: {out:x?}");
        }
        // Nobody else's: what C does there is no check.
        let c = plan_of(&code, &[], 0, &Options::default()).expect(check);
        assert!(!c.behind && c.loops, "{check}");
    }
}

#[test]
fn what_is_left_alone_in_go() {
    let go = Options { convention: Convention::Go, ..Options::default() };
    let aside = Options { put_aside: true, ..go };
    let plan = |code: &str, options: &Options<'_>| plan_of(&hex(code), &[0xcc; 8], 0, options);
    // Two instructions in the window: a goroutine may stand between them.
    let load = "48 8b 00 c3";
    assert!(plan(load, &go).is_ok_and(|plan| !plan.behind));
    assert_eq!(plan(load, &aside).err(), Some(Refusal::GoPutAside));
    // One.
    assert!(plan("48 8b 84 24 00 01 00 00 c3", &aside).is_ok());
    // A fault behind a change of rsp.
    assert_eq!(plan("55 48 89 e5 48 8b 00 5d c3", &go).err(), Some(Refusal::GoFaults));
    // Too short, without padding behind it; a breakpoint is no way out.
    assert_eq!(plan_of(&hex("c3"), &[], 0, &go).err(), Some(Refusal::GoNoJump));
    // A loop into the first bytes: the function is not moved as a whole.
    let retry = "8b 07 89 c1 ff c1 f0 0f b1 0f 75 f6 c3";
    assert!(plan(retry, &Options::default()).is_ok_and(|p| p.method.original().len() == 13));
    assert_eq!(plan(retry, &go).err(), Some(Refusal::GoNoJump));
}
