//! Random windows: a few instructions, and the registers and memory that they run with.

use super::{CODE, SCRATCH, SCRATCH_BYTES, STACK, STACK_BYTES, THUNK_COUNT, THUNKS};
use iced_x86::{
    Code, Decoder, DecoderOptions, FlowControl, Instruction, Mnemonic, OpKind, Register,
};
use patch::{Body, Registers};

pub(crate) struct Random(pub(crate) u64);

impl Random {
    /// splitmix64
    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    pub(crate) fn below(&mut self, n: u64) -> u64 {
        self.next() % n
    }

    pub(crate) fn thunk(&mut self) -> u64 {
        THUNKS + self.below(THUNK_COUNT) * 64
    }
}

/// An instruction of a window under construction.
pub(crate) struct Piece {
    pub(crate) bytes: Vec<u8>,
    pub(crate) instruction: Instruction,
    pub(crate) displacement: usize,
}

pub(crate) fn decode(bytes: &[u8], ip: u64) -> Option<Piece> {
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
pub(crate) fn tame(i: &Instruction) -> bool {
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
    // The kernel may compute what smsw and its like store, and does not step then.
    const WILD: [&str; 47] = [
        "smsw", "sldt", "str", "sgdt", "sidt", "rd", "sys", "int", "iret", "retf", "popf", "f",
        "xsave", "xrstor", "wr", "umonitor", "tpause", "umwait", "tile", "ldtile", "sttile", "tdp",
        "vmcall", "vmmcall", "mwait", "monitor", "stui", "clui", "senduipi", "uiret", "testui",
        "xbegin", "xend", "xabort", "xtest", "enc", "cpuid", "enter", "xrel", "ldmx", "vldmx",
        "stmx", "vstmx", "emms", "lfs", "lgs", "lss",
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
pub(crate) fn random_piece(random: &mut Random, ip: u64) -> Piece {
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
pub(crate) fn assemble(random: &mut Random, mut pieces: Vec<Piece>) -> Option<Vec<u8>> {
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

pub(crate) fn random_registers(random: &mut Random) -> Registers {
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
pub(crate) type Memory = (Vec<u8>, Vec<u8>);

/// Both memories as they are before every run: numbers, and addresses of thunks for indirect
/// branches and returns.
pub(crate) fn fill(random: &mut Random) -> Memory {
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
pub(crate) fn presented(mut r: Registers, body: &Body) -> Registers {
    let offset = r.rip.wrapping_sub(super::RELOCATED);
    if offset < u64::from(body.size) {
        let p = body.present(offset as u32).expect("an address between instructions");
        r.rip = p.ip;
        r.rsp = r.rsp.wrapping_add_signed(p.sp);
    }
    r
}

/// Checks that a run of relocated code ended as one of the original.
pub(crate) fn compare(
    original: &super::Outcome,
    relocated: &super::Outcome,
    body: Option<&Body>,
    what: &str,
    code: &[u8],
) {
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

pub(crate) fn setting(name: &str, default: u64) -> u64 {
    std::env::var(name).ok().and_then(|v| v.parse().ok()).unwrap_or(default)
}
