//! What is dead at a site.
//!
//! Compilers that see both caller and callee (GCC's -fipa-ra) keep values in registers that the
//! calling convention gives away, so only code can say that something is dead: the instructions
//! from the site on overwrite it before anything reads it, in a straight line. A branch, a call, a
//! return or a system call ends the search, except for a direct jump inside the function.

use super::decode::{Text, direct_target};
use super::liveness::Liveness;
use iced_x86::{
    Code, FlowControl, Instruction, InstructionInfoFactory, OpAccess, OpKind, Register, RflagsBits,
};

/// How far to look. What is not decided by then is live.
const INSTRUCTIONS: usize = 48;

/// The flags that instructions compute.
const ARITHMETIC: u32 = RflagsBits::OF
    | RflagsBits::SF
    | RflagsBits::ZF
    | RflagsBits::AF
    | RflagsBits::PF
    | RflagsBits::CF;

const REGISTERS: [Register; 9] = [
    Register::RAX,
    Register::RCX,
    Register::RDX,
    Register::RSI,
    Register::RDI,
    Register::R8,
    Register::R9,
    Register::R10,
    Register::R11,
];

/// What is live at the offset `site`.
pub(crate) fn liveness(text: Text<'_>, site: usize, red_zone: bool) -> Liveness {
    let mut flags = Flags { live: 0, open: ARITHMETIC };
    // None: not decided yet.
    let mut registers: [Option<bool>; REGISTERS.len()] = [None; REGISTERS.len()];
    let mut factory = InstructionInfoFactory::new();
    let mut offset = site;
    for _ in 0..INSTRUCTIONS {
        let Some(d) = text.at(offset) else { break };
        let i = &d.instruction;
        offset += d.bytes.len();
        if i.flow_control() == FlowControl::UnconditionalBranch {
            match direct_target(i).and_then(|to| text.offset(to)) {
                Some(to) => offset = to,
                None => break,
            }
            continue;
        }
        if i.flow_control() != FlowControl::Next
            || matches!(i.code(), Code::Syscall | Code::Sysenter)
        {
            break;
        }
        flags.pass(i);
        let info = factory.info(i);
        for (register, state) in REGISTERS.iter().zip(&mut registers).filter(|(_, s)| s.is_none()) {
            let mut written = false;
            for used in
                info.used_registers().iter().filter(|u| u.register().full_register() == *register)
            {
                match used.access() {
                    // Four bytes written clear the upper four.
                    OpAccess::Write if used.register().size() >= 4 => written = true,
                    OpAccess::Write | OpAccess::NoMemAccess | OpAccess::None => {}
                    _ => *state = Some(true),
                }
            }
            if written && state.is_none() {
                *state = Some(false);
            }
        }
        if flags.open == 0 && registers.iter().all(Option::is_some) {
            break;
        }
    }
    let live = |k: usize| registers[k].unwrap_or(true);
    Liveness {
        flags: flags.live | flags.open != 0,
        rax: live(0),
        rcx: live(1),
        rdx: live(2),
        rsi: live(3),
        rdi: live(4),
        r8: live(5),
        r9: live(6),
        r10: live(7),
        r11: live(8),
        red_zone,
        r12_r13: true,
        no_stack: false,
    }
}

/// Flags that were read before they were written, and those not decided.
struct Flags {
    live: u32,
    open: u32,
}

impl Flags {
    fn pass(&mut self, i: &Instruction) {
        self.live |= i.rflags_read() & self.open;
        self.open &= !self.live;
        if !writes_flags_sometimes(i) {
            self.open &= !i.rflags_modified();
        }
    }
}

/// Shifts by a count that may be zero and repeated string instructions that may run no times leave
/// the flags alone.
fn writes_flags_sometimes(i: &Instruction) -> bool {
    let by_cl = (0..i.op_count())
        .any(|k| i.op_kind(k) == OpKind::Register && i.op_register(k) == Register::CL)
        && shifts(i);
    let by_zero = shifts(i)
        && (0..i.op_count())
            .any(|k| i.op_kind(k) == OpKind::Immediate8 && i.immediate(k) & 31 == 0);
    by_cl || by_zero || i.has_rep_prefix() || i.has_repne_prefix()
}

fn shifts(i: &Instruction) -> bool {
    use iced_x86::Mnemonic::{Rcl, Rcr, Rol, Ror, Sal, Sar, Shl, Shld, Shr, Shrd};
    matches!(i.mnemonic(), Rcl | Rcr | Rol | Ror | Sal | Sar | Shl | Shld | Shr | Shrd)
}
