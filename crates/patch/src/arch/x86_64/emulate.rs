//! Instructions whose effect is computed, so that a breakpoint needs no relocated copy.
#![allow(unsafe_code)]

use super::decode::{Decoded, direct_target, ip_relative, narrow};
use super::registers::Registers;
use iced_x86::{Code, ConditionCode, FlowControl, Instruction, Mnemonic, OpKind, Register};

/// The stack of the interrupted thread, and what its instructions point to.
pub trait Memory {
    /// The eight bytes at `address`.
    fn read(&mut self, address: u64) -> u64;
    /// Stores eight bytes at `address`.
    fn write(&mut self, address: u64, value: u64);
}

/// The effect of one instruction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Emulation {
    /// The instruction behind it.
    next: u64,
    effect: Effect,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Effect {
    Nothing,
    PushRegister(u8),
    PushConstant(u64),
    /// Return, and bytes to take off the stack besides.
    Return(u64),
    Jump(u64),
    JumpRegister(u8),
    /// Jump to what is stored at the address.
    JumpMemory(u64),
    JumpIf(ConditionCode, u64),
    /// Jump if rcx (or ecx) is zero.
    JumpIfZero {
        wide: bool,
        target: u64,
    },
    Call(u64),
}

impl Emulation {
    /// The effect of an instruction; `None` when it needs a slot.
    pub(crate) fn of(d: &Decoded<'_>) -> Option<Self> {
        let branch = d.instruction.flow_control() != FlowControl::Next;
        effect(&d.instruction).filter(|_| !branch || !narrow(d.bytes)).map(|effect| Self { next: d.instruction.next_ip(), effect })
    }

    /// Does to `registers` and `memory` what the instruction does; `registers.rip` on entry does not matter.
    ///
    /// Context: signal-safe, no allocation, no system call.
    pub fn apply_with(&self, registers: &mut Registers, memory: &mut impl Memory) {
        let mut push = |registers: &mut Registers, value| {
            let top = registers.rsp.wrapping_sub(8);
            memory.write(top, value);
            registers.rsp = top;
        };
        registers.rip = match self.effect {
            Effect::Nothing => self.next,
            Effect::PushRegister(n) => {
                let value = registers.get(n);
                push(registers, value);
                self.next
            }
            Effect::PushConstant(value) => {
                push(registers, value);
                self.next
            }
            Effect::Return(more) => {
                let to = memory.read(registers.rsp);
                registers.rsp = registers.rsp.wrapping_add(8).wrapping_add(more);
                to
            }
            Effect::Jump(to) => to,
            Effect::JumpRegister(n) => registers.get(n),
            Effect::JumpMemory(address) => memory.read(address),
            Effect::JumpIf(condition, to) if holds(condition, registers.rflags) => to,
            Effect::JumpIfZero { wide, target } if registers.rcx & (if wide { u64::MAX } else { 0xffff_ffff }) == 0 => target,
            Effect::JumpIf(..) | Effect::JumpIfZero { .. } => self.next,
            Effect::Call(to) => {
                push(registers, self.next);
                to
            }
        };
    }

    /// [`Emulation::apply_with`] on the memory of this process.
    ///
    /// Context: signal-safe, no allocation, no system call. Faults where the instruction would.
    ///
    /// # Safety
    /// `registers` are those of a thread of this process that is stopped at the instruction and will go on with the result, so that its stack is its own to change.
    pub unsafe fn apply(&self, registers: &mut Registers) {
        self.apply_with(registers, &mut OwnMemory(()));
    }
}

/// This process's memory. Made only in [`Emulation::apply`], whose caller answers for the addresses.
struct OwnMemory(());

impl Memory for OwnMemory {
    fn read(&mut self, address: u64) -> u64 {
        // SAFETY: the interrupted instruction is about to read these eight bytes itself (promised to `apply`); unaligned is allowed, volatile because other code writes there.
        unsafe { core::ptr::read_volatile(address as *const Unaligned) }.0
    }

    fn write(&mut self, address: u64, value: u64) {
        // SAFETY: the interrupted instruction is about to write these eight bytes of its own stack itself (promised to `apply`).
        unsafe { core::ptr::write_volatile(address as *mut Unaligned, Unaligned(value)) }
    }
}

/// Eight bytes anywhere.
#[derive(Clone, Copy)]
#[repr(C, packed)]
struct Unaligned(u64);

fn effect(i: &Instruction) -> Option<Effect> {
    if let Some(to) = direct_target(i) {
        return match () {
            () if i.op0_kind() != OpKind::NearBranch64 => None,
            () if i.is_jmp_short_or_near() => Some(Effect::Jump(to)),
            () if i.is_jcc_short_or_near() => Some(Effect::JumpIf(i.condition_code(), to)),
            () if i.code() == Code::Jrcxz_rel8_64 => Some(Effect::JumpIfZero { wide: true, target: to }),
            () if i.code() == Code::Jecxz_rel8_64 => Some(Effect::JumpIfZero { wide: false, target: to }),
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
        Code::Jmp_rm64 if i.op0_kind() == OpKind::Register => number(i.op0_register()).map(Effect::JumpRegister),
        Code::Jmp_rm64 => {
            ip_relative(i).filter(|_| i.memory_base() == Register::RIP && i.segment_prefix() == Register::None).map(Effect::JumpMemory)
        }
        _ if i.mnemonic() == Mnemonic::Nop && !i.has_lock_prefix() => Some(Effect::Nothing),
        _ => None,
    }
}

/// The number of a 64-bit general register.
fn number(r: Register) -> Option<u8> {
    (r.is_gpr64()).then(|| r.number() as u8)
}

/// Whether a condition holds with these flags.
fn holds(condition: ConditionCode, rflags: u64) -> bool {
    let flag = |bit: u32| rflags >> bit & 1 != 0;
    let (cf, pf, zf, sf, of) = (flag(0), flag(2), flag(6), flag(7), flag(11));
    match condition {
        ConditionCode::None => true,
        ConditionCode::o => of,
        ConditionCode::no => !of,
        ConditionCode::b => cf,
        ConditionCode::ae => !cf,
        ConditionCode::e => zf,
        ConditionCode::ne => !zf,
        ConditionCode::be => cf || zf,
        ConditionCode::a => !cf && !zf,
        ConditionCode::s => sf,
        ConditionCode::ns => !sf,
        ConditionCode::p => pf,
        ConditionCode::np => !pf,
        ConditionCode::l => sf != of,
        ConditionCode::ge => sf == of,
        ConditionCode::le => zf || sf != of,
        ConditionCode::g => !zf && sf == of,
    }
}
