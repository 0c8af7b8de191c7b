//! Relocated instructions do what the originals do: random windows, and those of real functions,
//! run at both places with the same registers and memory; stepped, so that every state of relocated
//! code that a signal handler could see is one that the original goes through.
//!
//! `RELOCATION_CASES` (default 4,000) and `RELOCATION_SEED` choose how many and which.

mod arena;

use arena::{
    Arena, CODE, Outcome, RELOCATED, RUNAWAY, SCRATCH, SCRATCH_BYTES, STACK, STACK_BYTES,
    THUNK_COUNT, THUNKS,
};
use iced_x86::{
    Code, Decoder, DecoderOptions, FlowControl, Instruction, Mnemonic, OpKind, Register,
};
use object::{Object, ObjectSection, ObjectSymbol, SymbolKind};
use patch::{Body, Function, Method, Options, Registers, Resume};

struct Random(u64);

impl Random {
    /// splitmix64
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    fn below(&mut self, n: u64) -> u64 {
        self.next() % n
    }

    fn thunk(&mut self) -> u64 {
        THUNKS + self.below(THUNK_COUNT) * 64
    }
}

/// An instruction of a window under construction.
struct Piece {
    bytes: Vec<u8>,
    instruction: Instruction,
    displacement: usize,
}

fn decode(bytes: &[u8], ip: u64) -> Option<Piece> {
    let mut decoder = Decoder::with_ip(64, bytes, ip, DecoderOptions::NONE);
    let instruction = decoder.decode();
    let displacement = decoder.get_constant_offsets(&instruction).displacement_offset();
    (!instruction.is_invalid()).then(|| Piece {
        bytes: bytes[..instruction.len()].to_vec(),
        instruction,
        displacement,
    })
}

/// It does the same every time, harms nobody outside the arena, and ends.
fn tame(i: &Instruction) -> bool {
    use FlowControl::{
        Call, ConditionalBranch, Exception, IndirectBranch, IndirectCall, Next, Return,
        UnconditionalBranch,
    };
    if !matches!(
        i.flow_control(),
        Next | Return
            | UnconditionalBranch
            | ConditionalBranch
            | Call
            | IndirectBranch
            | IndirectCall
            | Exception
    ) {
        return false;
    }
    let name = format!("{:?}", i.mnemonic()).to_lowercase();
    const WILD: [&str; 42] = [
        "rd", "sys", "int", "iret", "retf", "popf", "f", "xsave", "xrstor", "wr", "umonitor",
        "tpause", "umwait", "tile", "ldtile", "sttile", "tdp", "vmcall", "vmmcall", "mwait",
        "monitor", "stui", "clui", "senduipi", "uiret", "testui", "xbegin", "xend", "xabort",
        "xtest", "enc", "cpuid", "enter", "xrel", "ldmx", "vldmx", "stmx", "vstmx", "emms", "lfs",
        "lgs", "lss",
    ];
    if WILD.iter().any(|w| name.starts_with(w))
        || i.has_rep_prefix()
        || i.has_repne_prefix()
        || matches!(i.segment_prefix(), Register::FS | Register::GS)
    {
        return false;
    }
    if matches!(i.mnemonic(), Mnemonic::Bt | Mnemonic::Bts | Mnemonic::Btr | Mnemonic::Btc)
        && i.op0_kind() == OpKind::Memory
        && i.op1_kind() == OpKind::Register
    {
        return false;
    }
    for k in 0..i.op_count() {
        if i.op_kind(k) == OpKind::Register && i.op_register(k).is_segment_register()
            || matches!(i.op_kind(k), OpKind::FarBranch16 | OpKind::FarBranch32)
        {
            return false;
        }
        if i.op_kind(k) == OpKind::Memory && !i.is_ip_rel_memory_operand() {
            let near = (i.memory_displacement64() as i64).unsigned_abs() < 0x800;
            if !near || i.memory_index() != Register::None || !i.memory_base().is_gpr64() {
                return false;
            }
        }
        if i.op_kind(k) == OpKind::Memory && i.memory_base() == Register::EIP {
            return false;
        }
    }
    !matches!(
        i.code(),
        Code::Jmp_m1616
            | Code::Jmp_m1632
            | Code::Jmp_m1664
            | Code::Call_m1616
            | Code::Call_m1632
            | Code::Call_m1664
    )
}

/// Random bytes that are an instruction, with a taste for what relocation treats specially.
fn random_piece(random: &mut Random, ip: u64) -> Piece {
    loop {
        let mut bytes = [0u8; 15];
        for chunk in bytes.chunks_mut(8) {
            chunk.copy_from_slice(&random.next().to_le_bytes()[..chunk.len()]);
        }
        let register = random.below(8) as u8;
        let noise = [bytes[0], bytes[1], bytes[2]];
        match random.below(24) {
            0 => bytes[0] = 0x70 | noise[0] & 15,
            1 => bytes[..2].copy_from_slice(&[0x0f, 0x80 | noise[1] & 15]),
            2 => bytes[0] = 0xe8,
            3 => bytes[0] = [0xe9, 0xeb][random.below(2) as usize],
            4 => bytes[0] = 0xe0 + random.below(4) as u8,
            5 => bytes[..2].copy_from_slice(&[0x67, 0xe3]),
            // call and jmp through a register, memory, rip, the stack
            6 => bytes[..2]
                .copy_from_slice(&[0xff, [0xd0, 0xe0][random.below(2) as usize] | register]),
            7 => bytes[..2].copy_from_slice(&[
                0xff,
                [0x50, 0x60, 0x10, 0x20][random.below(4) as usize] | register,
            ]),
            8 => bytes[..2].copy_from_slice(&[0xff, [0x15, 0x25][random.below(2) as usize]]),
            9 => bytes[..4].copy_from_slice(&[0xff, 0x54, 0x24, random.below(16) as u8 * 8]),
            10 => {
                bytes[..7].copy_from_slice(&[0x41, 0xff, 0x94, 0x24, random.below(200) as u8, 0, 0])
            }
            // rip-relative with and without an immediate
            11..=13 => bytes[..3].copy_from_slice(&[
                0x48 | noise[0] & 5,
                [0x8b, 0x8d, 0x89, 0x03, 0x3b, 0x81, 0x83, 0xc7][random.below(8) as usize],
                0x05 | noise[2] & 0x38,
            ]),
            14 => bytes[0] = 0x50 | noise[0] & 15,
            15 => bytes[..2].copy_from_slice(&[0x41, 0x50 | noise[1] & 15]),
            16 => bytes[0] = [0xc3, 0x90, 0x6a, 0x68, 0xc9, 0x9c][random.below(6) as usize],
            17 => bytes[..4].copy_from_slice(&[0xf3, 0x0f, 0x1e, 0xfa]),
            18 => bytes[..5].copy_from_slice(&[0x0f, 0x1f, 0x44, 0, 0]),
            _ => {}
        }
        if let Some(piece) = decode(&bytes, ip).filter(|p| tame(&p.instruction)) {
            return piece;
        }
    }
}

/// Joins pieces to a window at [`CODE`]: operands relative to rip go to the scratch area, branches
/// to another piece or to a thunk.
fn assemble(random: &mut Random, mut pieces: Vec<Piece>) -> Option<Vec<u8>> {
    let offsets: Vec<u64> = pieces
        .iter()
        .scan(0, |at, p| {
            let here = *at;
            *at += p.bytes.len() as u64;
            Some(here)
        })
        .collect();
    let total = pieces.iter().map(|p| p.bytes.len() as u64).sum::<u64>();
    for (k, piece) in pieces.iter_mut().enumerate() {
        let next = CODE + offsets[k] + piece.bytes.len() as u64;
        let i = piece.instruction;
        if i.is_ip_rel_memory_operand() {
            let to = SCRATCH + SCRATCH_BYTES / 2 + random.below(64) * 8;
            let at = piece.displacement;
            piece.bytes[at..at + 4]
                .copy_from_slice(&((to as i64 - next as i64) as i32).to_le_bytes());
        }
        if matches!(i.op_count().min(1), 1) && i.op0_kind() == OpKind::NearBranch64 {
            let inside = (random.below(2) == 0)
                .then(|| CODE + offsets[random.below(offsets.len() as u64) as usize]);
            let counted = i.is_loop() || i.is_loopcc();
            let last = piece.bytes.len();
            let short = i.is_jcc_short() || i.is_jmp_short() || i.is_jcx_short() || counted;
            // Short ones reach the thunks that lie behind the window; a loop may go to itself, if
            // it comes first and so finds the small count.
            let near = CODE + total + 14 + random.below(4) * 5;
            let to = match inside {
                _ if counted && k == 0 && random.below(2) == 0 => CODE,
                _ if i.is_jcc_short()
                    && k + 1 == offsets.len()
                    && k > 1
                    && random.below(2) == 0 =>
                {
                    CODE + offsets[1]
                }
                Some(to) => to,
                None if short => near,
                None => random.thunk(),
            };
            let distance = to as i64 - next as i64;
            if short {
                piece.bytes[last - 1] = i8::try_from(distance).ok()? as u8;
            } else {
                piece.bytes[last - 4..].copy_from_slice(&(distance as i32).to_le_bytes());
            }
        } else if i.op_count() > 0
            && matches!(i.op0_kind(), OpKind::NearBranch16 | OpKind::NearBranch32)
        {
            return None;
        }
    }
    let mut code: Vec<u8> = pieces.iter().flat_map(|p| p.bytes.iter().copied()).collect();
    // The way out at the end, then four more that short branches reach.
    let jump = |code: &mut Vec<u8>, to: u64| {
        let at = CODE + code.len() as u64;
        code.push(0xe9);
        code.extend(((to as i64 - (at as i64 + 5)) as i32).to_le_bytes());
    };
    jump(&mut code, THUNKS);
    code.extend([0x90; 9]);
    for _ in 0..4 {
        let to = random.thunk();
        jump(&mut code, to);
    }
    Some(code)
}

fn random_registers(random: &mut Random) -> Registers {
    let mut pointer = || {
        let p = SCRATCH + SCRATCH_BYTES / 2 - 512 + random.below(128) * 8;
        if random.below(8) == 0 { THUNKS + random.below(THUNK_COUNT) * 64 } else { p }
    };
    let mut r = Registers {
        rax: pointer(),
        rdx: pointer(),
        rbx: pointer(),
        rbp: pointer(),
        rsi: pointer(),
        rdi: pointer(),
        ..Registers::default()
    };
    (r.r8, r.r9, r.r10, r.r11, r.r12, r.r13, r.r14, r.r15) =
        (pointer(), pointer(), pointer(), pointer(), pointer(), pointer(), pointer(), pointer());
    // A count, for loops that are allowed to repeat.
    r.rcx = random.below(4);
    r.rsp = STACK + STACK_BYTES / 2 + random.below(16) * 8;
    r.rflags = random.next();
    r.rflags &= 0x8d5;
    r
}

/// Scratch and stack.
type Memory = (Vec<u8>, Vec<u8>);

/// Both memories as they are before every run: numbers, and addresses of thunks for indirect
/// branches and returns.
fn fill(random: &mut Random) -> Memory {
    let mut make = |bytes: u64| {
        (0..bytes / 8)
            .flat_map(|_| {
                if random.below(2) == 0 { random.thunk() } else { random.next() }.to_le_bytes()
            })
            .collect::<Vec<u8>>()
    };
    (make(SCRATCH_BYTES), make(STACK_BYTES))
}

/// A state in relocated code as the application would see it.
fn presented(mut r: Registers, body: &Body) -> Registers {
    let offset = r.rip.wrapping_sub(RELOCATED);
    if offset < u64::from(body.size) {
        let p = body.present(offset as u32).expect("an address between instructions");
        r.rip = p.ip;
        r.rsp = r.rsp.wrapping_add_signed(p.sp);
    }
    r
}

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

fn compare(original: &Outcome, relocated: &Outcome, body: Option<&Body>, what: &str, code: &[u8]) {
    let mut shown = relocated.registers;
    let (mut scratch, mut stack) = (relocated.scratch.clone(), relocated.stack.clone());
    if relocated.fault != 0 {
        shown = body.map_or(shown, |b| presented(shown, b));
        if shown.rsp != relocated.registers.rsp {
            // A call that faulted has pushed already; what is below the stack pointer is nobody's.
            for (base, mine, theirs) in
                [(STACK, &mut stack, &original.stack), (SCRATCH, &mut scratch, &original.scratch)]
            {
                let below = relocated.registers.rsp.wrapping_sub(base) as usize;
                if let (Some(mine), Some(theirs)) = (
                    mine.get_mut(below..below.saturating_add(8)),
                    theirs.get(below..below.saturating_add(8)),
                ) {
                    mine.copy_from_slice(theirs);
                }
            }
        }
    }
    assert_eq!(
        original.fault, relocated.fault,
        "{what} {code:02x?}: {:x?} {shown:x?}",
        original.registers
    );
    assert_eq!(
        original.registers, shown,
        "{what} {code:02x?}: {:x?} {shown:x?}",
        original.registers
    );
    assert!(original.scratch == scratch, "{what} {code:02x?}: other memory");
    assert!(original.stack == stack, "{what} {code:02x?}: other stack");
}

fn setting(name: &str, default: u64) -> u64 {
    std::env::var(name).ok().and_then(|v| v.parse().ok()).unwrap_or(default)
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
