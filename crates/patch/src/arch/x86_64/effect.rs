//! Which instructions have an effect that can be computed.

use super::decode::{Decoded, direct_target, ip_relative, narrow, opcode_at};
use super::emulate::{Effect, Emulation};
use iced_x86::{Code, FlowControl, Mnemonic, OpKind, Register};

/// The effect of an instruction; `None` when it needs a slot.
pub(crate) fn emulation(d: &Decoded<'_>) -> Option<Emulation> {
    let branch = d.instruction.flow_control() != FlowControl::Next;
    effect(d)
        .filter(|_| !branch || !narrow(d.bytes))
        .map(|effect| Emulation { next: d.instruction.next_ip(), effect })
}

fn effect(d: &Decoded<'_>) -> Option<Effect> {
    let i = &d.instruction;
    if let Some(to) = direct_target(i) {
        return match () {
            () if i.op0_kind() != OpKind::NearBranch64 => None,
            () if i.is_jmp_short_or_near() => Some(Effect::Jump(to)),
            () if i.is_jcc_short_or_near() => Some(Effect::JumpIf(condition(d.bytes), to)),
            () if i.code() == Code::Jrcxz_rel8_64 => {
                Some(Effect::JumpIfZero { wide: true, target: to })
            }
            () if i.code() == Code::Jecxz_rel8_64 => {
                Some(Effect::JumpIfZero { wide: false, target: to })
            }
            () if i.is_call_near() => Some(Effect::Call(to)),
            () => None,
        };
    }
    match i.code() {
        Code::Push_r64 => number(i.op0_register()).map(Effect::PushRegister),
        Code::Pushq_imm8 | Code::Pushq_imm32 => Some(Effect::PushConstant(i.immediate(0))),
        Code::Retnq => Some(Effect::Return(0)),
        Code::Retnq_imm16 => Some(Effect::Return(u64::from(i.immediate16()))),
        Code::Endbr64 => Some(Effect::Nothing),
        Code::Jmp_rm64 if i.op0_kind() == OpKind::Register => {
            number(i.op0_register()).map(Effect::JumpRegister)
        }
        Code::Jmp_rm64 => ip_relative(i)
            .filter(|_| i.memory_base() == Register::RIP && i.segment_prefix() == Register::None)
            .map(Effect::JumpMemory),
        _ if i.mnemonic() == Mnemonic::Nop && !i.has_lock_prefix() => Some(Effect::Nothing),
        _ => None,
    }
}

/// The number of a 64-bit general register.
fn number(r: Register) -> Option<u8> {
    (r.is_gpr64()).then(|| r.number() as u8)
}

/// The number of a conditional jump's condition, as its opcode has it.
pub(crate) fn condition(bytes: &[u8]) -> u8 {
    let opcode = &bytes[opcode_at(bytes)..];
    if opcode[0] == 0x0f { opcode[1] & 15 } else { opcode[0] & 15 }
}
