//! What is displaced where functions leave does the same elsewhere, and the hook runs exactly when
//! the function leaves there: random ends of functions, run at both places with the same registers
//! and memory; stepped, so that every state of relocated code that a signal handler could see is
//! one that the original goes through.
//!
//! `RELOCATION_CASES` (default 4,000) and `RELOCATION_SEED` choose how many and which, and
//! `RELOCATION_STEPPED=n` that only every nth is stepped.

mod arena;

use arena::windows::{
    Memory, Piece, Random, assemble, compare, decode, fill, presented, random_piece,
    random_registers, setting,
};
use arena::{Arena, CODE, NOTE, RELOCATED, RUNAWAY, SCRATCH, STACK};
use iced_x86::FlowControl;
use patch::{Exit, Function, Options, Registers};
use std::collections::BTreeMap;

#[derive(Default, Debug)]
struct Seen {
    windows: usize,
    stepped: usize,
    at_entry: usize,
    two_leaves: usize,
    conditional: usize,
    tails: usize,
    left: usize,
    faults: usize,
    none: BTreeMap<String, usize>,
}

fn known(bytes: &[u8]) -> Piece {
    decode(bytes, CODE).expect("an instruction")
}

/// The end of a function: what compilers write there, with random instructions among it. Returns
/// how many of the pieces are the function; those behind are padding.
fn pieces(random: &mut Random) -> (Vec<Piece>, usize) {
    let mut pieces = Vec::new();
    if random.below(8) != 0 {
        pieces.push(known(&[0x0f, 0x1f, 0x44, 0, 0]));
    }
    let pushed = random.below(3);
    for k in 0..pushed {
        pieces.push(known(&[0x50 | (3 + 2 * k as u8)]));
    }
    let room = random.below(3) as u8 * 8;
    if room > 0 && random.below(2) == 0 {
        pieces.push(known(&[0x48, 0x83, 0xec, room]));
    }
    for _ in 0..random.below(4) {
        // Ways that end leave what is behind them to nobody.
        let piece = loop {
            let piece = random_piece(random, CODE);
            let flow = piece.instruction.flow_control();
            let ends = !matches!(flow, FlowControl::Next | FlowControl::ConditionalBranch);
            if !ends || random.below(16) == 0 {
                break piece;
            }
        };
        pieces.push(piece);
    }
    if pieces.iter().any(|p| p.bytes[..] == [0x48, 0x83, 0xec, room]) {
        pieces.push(known(&[0x48, 0x83, 0xc4, room]));
    }
    for k in (0..pushed).rev() {
        pieces.push(known(&[0x58 | (3 + 2 * k as u8)]));
    }
    // Something that keeps the stack, so that there is something to displace where nothing was
    // pushed.
    for _ in 0..random.below(3) {
        let piece = random_piece(random, CODE);
        if piece.instruction.flow_control() == FlowControl::Next {
            pieces.push(piece);
        }
    }
    let register = [0, 1, 2, 3, 5, 6, 7][random.below(7) as usize];
    let leaves: &[&[u8]] = &[
        &[0xc3],
        &[0xc3],
        &[0xf3, 0xc3],
        &[0xc2, 8, 0],
        &[0xe9, 0, 0, 0, 0],
        &[0xeb, 0],
        &[0xff, 0xe0 | register],
        &[0xff, 0x60 | register, 8],
        &[0xff, 0x25, 0, 0, 0, 0],
    ];
    if random.below(4) == 0 {
        // A conditional one in front.
        let condition = random.below(16) as u8;
        let near = [0x0f, 0x80 | condition, 0, 0, 0, 0];
        pieces.push(if random.below(2) == 0 {
            known(&near)
        } else {
            known(&[0x70 | condition, 0])
        });
        if random.below(2) == 0 {
            pieces.push(known(&[0x5b]));
            pieces.push(known(&[0x53]));
        }
    }
    pieces.push(known(leaves[random.below(leaves.len() as u64) as usize]));
    let own = pieces.len();
    for _ in 0..random.below(9) {
        pieces.push(known(&[0x90]));
    }
    (pieces, own)
}

/// Writes down rsp, and touches neither flags nor registers.
fn note(at: u64, out: &mut Vec<u8>) {
    out.extend([0x48, 0x89, 0x25]);
    out.extend(((NOTE as i64 - (at as i64 + 7)) as i32).to_le_bytes());
}

fn check(
    (arena, fills): &(Arena, Vec<Memory>),
    random: &mut Random,
    step: bool,
    (exit, code, own): (&Exit, &[u8], usize),
    seen: &mut Seen,
    what: &str,
) {
    let registers = Registers { rip: exit.detour().site(), ..random_registers(random) };
    let (scratch, stack) = &fills[random.below(fills.len() as u64) as usize];
    let run = |start: &Registers, step| {
        arena.write(SCRATCH, scratch);
        arena.write(STACK, stack);
        arena.write(NOTE, &[0; 8]);
        let outcome = arena.run(start, step);
        let noted = arena.read(NOTE..NOTE + 8);
        (outcome, u64::from_le_bytes(noted.try_into().expect("eight bytes")))
    };
    arena.write(CODE, code);
    let stepped = step.then(|| run(&registers, true).0);
    if stepped.as_ref().is_some_and(|stepped| stepped.fault == RUNAWAY) {
        return;
    }
    let (plain, _) = run(&registers, false);
    let mut out = Vec::new();
    let body = exit.emit(RELOCATED, &mut |_, at, out| note(at, out), &mut out).expect("it is near");
    arena.write(RELOCATED, &out);
    // Who comes by again takes the jump.
    let site = exit.detour().site();
    arena.write(site, &patch::jump(site, RELOCATED).expect("it is near"));
    let start = Registers { rip: RELOCATED, ..registers };
    let (moved, _) = run(&start, false);
    if plain.fault == RUNAWAY || moved.fault == RUNAWAY {
        return;
    }
    compare(&plain, &moved, Some(&body), what, code);
    seen.windows += 1;
    seen.at_entry += usize::from(exit.at_entry());
    seen.two_leaves += usize::from(exit.leaves().len() > 1);
    seen.faults += usize::from(plain.fault != 0);
    let Some(stepped) = stepped else { return };
    let (moved, noted) = run(&start, true);
    if moved.fault == RUNAWAY {
        return;
    }
    seen.stepped += 1;
    compare(&stepped, &moved, Some(&body), what, code);
    let mut original = stepped.trace.iter().peekable();
    for state in &moved.trace {
        let shown = presented(*state, &body);
        while original.peek().is_some_and(|&&o| o != shown) {
            original.next();
        }
        let at_exit = !(CODE..CODE + 0x1000).contains(&shown.rip);
        assert!(
            at_exit || original.peek().is_some(),
            "{what} {code:02x?}: {state:x?} is shown as {shown:x?}, where the original never was: \
                {:x?}",
            stepped.trace
        );
    }
    // It left by the last of its instructions that it came to.
    let own = CODE..CODE + own as u64;
    let last = stepped.trace.iter().rfind(|r| own.contains(&r.rip)).copied().unwrap_or_default();
    let leaves = exit.leaves().iter().find(|leaving| leaving.address == last.rip);
    if stepped.fault == 0 {
        let expected = if leaves.is_some() { last.rsp } else { 0 };
        assert_eq!(noted, expected, "{what} {code:02x?}: {exit:x?}, {:x?}", stepped.trace);
        seen.left += usize::from(leaves.is_some());
    }
}

/// Whether code has a branch to what is not behind it.
fn goes_back(code: &[u8]) -> bool {
    let mut at = 0;
    while let Some(piece) = code.get(at..).and_then(|rest| decode(rest, CODE + at as u64)) {
        let i = &piece.instruction;
        if i.near_branch_target() != 0 && i.near_branch_target() <= i.ip() {
            return true;
        }
        at += piece.bytes.len();
    }
    false
}

#[test]
fn relocated_exits_do_the_same() {
    let seed = setting("RELOCATION_SEED", 1);
    let arena = (
        Arena::new(),
        (0..16).map(|k| fill(&mut Random(seed.wrapping_mul(77).wrapping_add(k)))).collect(),
    );
    let mut seen = Seen::default();
    let every = setting("RELOCATION_STEPPED", 1);
    if every > 1 {
        arena.0.end_all();
    }
    for case in 0..setting("RELOCATION_CASES", 4_000) {
        let mut random = Random(seed.wrapping_mul(0x1_0000_0001).wrapping_add(case));
        let (pieces, own) = pieces(&mut random);
        let len = pieces.iter().take(own).map(|p| p.bytes.len()).sum::<usize>();
        let nops = pieces.len() - own;
        let Some(code) = assemble(&mut random, pieces) else { continue };
        let (own, rest) = code.split_at(len);
        let f = Function { address: CODE, code: own, after: &rest[..nops], site: 0 };
        let Ok(plan) = patch::plan(&f, &Options { exits: true, ..Options::default() }) else {
            continue;
        };
        let exits = match plan.exits {
            Ok(exits) => exits,
            Err(why) => {
                *seen.none.entry(why.to_string()).or_default() += 1;
                continue;
            }
        };
        // One that may go around for ever is stepped.
        let step = case % every == 0 || goes_back(own);
        for exit in &exits {
            let tail = |l: &patch::Leaving| !matches!(l.leave, patch::Leave::Return);
            seen.tails += exit.leaves().iter().filter(|l| tail(l)).count();
            let jcc = |l: &patch::Leaving| {
                let at = (l.address - CODE) as usize;
                decode(&code[at..], l.address).is_some_and(|p| p.instruction.is_jcc_short_or_near())
            };
            seen.conditional += exit.leaves().iter().filter(|l| jcc(l)).count();
            let what = format!("seed {seed} case {case}");
            check(&arena, &mut random, step, (exit, &code, len), &mut seen, &what);
        }
    }
    println!("{seen:?}");
    if setting("RELOCATION_CASES", 4_000) >= 4_000 {
        let all = [seen.windows / 4, seen.at_entry, seen.two_leaves, seen.conditional, seen.tails];
        assert!(all.iter().all(|n| *n > 50), "{seen:?}");
    }
}
