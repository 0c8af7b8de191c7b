//! Relocated instructions do what the originals do: random windows, and those of real functions,
//! run at both places with the same registers and memory; stepped, so that every state of relocated
//! code that a signal handler could see is one that the original goes through.
//!
//! `RELOCATION_CASES` (default 4,000) and `RELOCATION_SEED` choose how many and which.

mod arena;

use arena::windows::{
    Memory, Piece, Random, assemble, compare, decode, fill, presented, random_piece,
    random_registers, setting, tame,
};
use arena::{Arena, CODE, RELOCATED, RUNAWAY, SCRATCH, SCRATCH_BYTES, STACK};
use iced_x86::OpKind;
use object::{Object, ObjectSection, ObjectSymbol, SymbolKind};
use patch::{Function, Method, Options, Registers, Resume};

#[derive(Default, Debug)]
struct Seen {
    detours: usize,
    /// Of those, moved as a whole.
    whole: usize,
    slots: usize,
    emulated: usize,
    faults: usize,
    steps: usize,
    refused: usize,
}

fn check(
    (arena, fills): &(Arena, Vec<Memory>),
    random: &mut Random,
    code: &[u8],
    seen: &mut Seen,
    what: &str,
) {
    let mut registers = Registers { rip: CODE, ..random_registers(random) };
    if decode(code, CODE).is_some_and(|p| p.instruction.is_loop() || p.instruction.is_loopcc()) {
        // Zero is 2^64 rounds.
        registers.rcx += 1;
    }
    let (scratch, stack) = &fills[random.below(fills.len() as u64) as usize];
    let reset = || {
        arena.write(SCRATCH, scratch);
        arena.write(STACK, stack);
    };
    let f = Function { address: CODE, code, after: &[], site: 0 };
    let Ok(plan) =
        patch::plan(&f, &Options { breakpoint: random.below(3) == 0, ..Options::default() })
    else {
        seen.refused += 1;
        return;
    };
    arena.write(CODE, code);
    let run = |start: &Registers, step| {
        reset();
        arena.run(start, step)
    };
    let start = Registers { rip: plan.site, ..registers };
    let stepped = run(&start, true);
    // A call whose operand lies where it pushes reads its own return address when relocated: the
    // one difference that is accepted.
    let aliased = |r: &Registers| {
        let call =
            code.get(r.rip.wrapping_sub(CODE) as usize..).and_then(|rest| decode(rest, r.rip));
        call.is_some_and(|p| {
            p.instruction.is_call_near_indirect() && p.instruction.op0_kind() == OpKind::Memory
        }) && r.rsp.wrapping_sub(SCRATCH) <= SCRATCH_BYTES
    };
    if stepped.fault == RUNAWAY || stepped.trace.iter().any(aliased) {
        return;
    }
    let plain = run(&start, false);
    let mut out = Vec::new();
    let body = match &plan.method {
        Method::Detour(d) => {
            seen.detours += 1;
            seen.whole += usize::from(d.window() == code.len());
            d.emit_body(RELOCATED, &mut out).expect("near")
        }
        Method::Breakpoint(b) => {
            if let Resume::Emulate(e) = b.resume() {
                seen.emulated += 1;
                reset();
                let mut after = start;
                // SAFETY: these registers belong to no running thread; the stack pointer is in the
                // arena, and rip-relative operands are in its scratch area.
                unsafe { e.apply(&mut after) };
                // A jump to a non-canonical address faults at the jump, which is no longer there.
                if plain.fault == 0 {
                    compare(&plain, &arena.run(&after, false), None, what, code);
                }
            }
            seen.slots += 1;
            b.emit_slot(RELOCATED, &mut out).expect("near")
        }
    };
    arena.write(RELOCATED, &out);
    let start = Registers { rip: RELOCATED, ..registers };
    let moved = run(&start, true);
    if moved.fault == RUNAWAY && stepped.trace.len() > 20 {
        // Expansions are longer than what they expand.
        return;
    }
    compare(&stepped, &moved, Some(&body), what, code);
    compare(&plain, &run(&start, false), Some(&body), what, code);
    // In order, every state of the relocated run is one of the original's.
    let mut original = stepped.trace.iter().peekable();
    for state in &moved.trace {
        let shown = presented(*state, &body);
        while original.peek().is_some_and(|&&o| o != shown) {
            original.next();
        }
        // The state at an exit is the end of the trace, which is recorded only inside CODE.
        let at_exit = !(CODE..CODE + 0x1000).contains(&shown.rip);
        assert!(
            at_exit || original.peek().is_some(),
            "{what} {code:02x?}: {state:x?} is shown as {shown:x?}, and the original was never \
                there: {:x?}",
            stepped.trace
        );
    }
    seen.steps += moved.trace.len();
    seen.faults += usize::from(plain.fault != 0);
}

/// The first instructions of functions of a program of the system, as pieces.
fn real_pieces(path: &str) -> Vec<Vec<Vec<u8>>> {
    let Ok(data) = std::fs::read(path) else { return Vec::new() };
    let Ok(file) = object::File::parse(&*data) else { return Vec::new() };
    let mut windows = Vec::new();
    for symbol in file.dynamic_symbols().filter(|s| s.kind() == SymbolKind::Text && s.size() > 0) {
        let Some(section) = file
            .sections()
            .find(|s| (s.address()..s.address() + s.size()).contains(&symbol.address()))
        else {
            continue;
        };
        let Some(bytes) = section
            .data()
            .ok()
            .and_then(|d| d.get((symbol.address() - section.address()) as usize..))
        else {
            continue;
        };
        let mut at = 0;
        let mut pieces = Vec::new();
        while at < (symbol.size() as usize).min(bytes.len()).min(8) {
            let Some(piece) =
                decode(&bytes[at..bytes.len().min(at + 15)], 0).filter(|p| tame(&p.instruction))
            else {
                break;
            };
            at += piece.bytes.len();
            pieces.push(piece.bytes);
        }
        if at >= 5 {
            windows.push(pieces);
        }
    }
    windows
}

#[test]
fn relocated_instructions_do_the_same() {
    let seed = setting("RELOCATION_SEED", 1);
    let arena = (
        Arena::new(),
        (0..16).map(|k| fill(&mut Random(seed.wrapping_mul(77).wrapping_add(k)))).collect(),
    );
    let mut seen = Seen::default();
    for case in 0..setting("RELOCATION_CASES", 4_000) {
        let mut random = Random(seed.wrapping_mul(0x1_0000_0001).wrapping_add(case));
        let count = 1 + random.below(5);
        let mut pieces: Vec<Piece> = (0..count).map(|_| random_piece(&mut random, CODE)).collect();
        if random.below(4) == 0 {
            // A retry loop: a conditional branch at the end, often back to the second instruction.
            pieces.extend(decode(&[0x70 | random.below(16) as u8, 0], CODE));
        }
        if let Some(code) = assemble(&mut random, pieces) {
            check(&arena, &mut random, &code, &mut seen, &format!("seed {seed} case {case}"));
        }
    }
    println!("random: {seen:?}");
    // Every function when asked for many cases.
    let stride = if setting("RELOCATION_CASES", 0) > 10_000 { 1 } else { 8 };
    let mut seen = Seen::default();
    for path in [
        "/bin/bash",
        "/lib/x86_64-linux-gnu/libc.so.6",
        "/usr/lib/x86_64-linux-gnu/libstdc++.so.6",
        "/lib64/libc.so.6",
    ] {
        for (case, window) in real_pieces(path).into_iter().enumerate().step_by(stride) {
            let mut random = Random(seed.wrapping_add(case as u64));
            let pieces = window.iter().filter_map(|bytes| decode(bytes, CODE)).collect();
            if let Some(code) = assemble(&mut random, pieces) {
                check(&arena, &mut random, &code, &mut seen, &format!("{path} function {case}"));
            }
        }
    }
    println!("real: {seen:?}");
}
