//! Instructions whose effect is computed, so that a breakpoint needs no relocated copy.
#![allow(unsafe_code)]

use super::registers::Registers;

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
    pub(crate) next: u64,
    pub(crate) effect: Effect,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Effect {
    Nothing,
    PushRegister(u8),
    PushConstant(u64),
    /// Return, and bytes to take off the stack besides.
    Return(u64),
    Jump(u64),
    JumpRegister(u8),
    /// Jump to what is stored at the address.
    JumpMemory(u64),
    /// Jump if the condition with this number (as in opcodes: 0 is overflow, 4 is equal) holds.
    JumpIf(u8, u64),
    /// Jump if rcx (or ecx) is zero.
    JumpIfZero {
        wide: bool,
        target: u64,
    },
    Call(u64),
}

impl Emulation {
    /// Does to `registers` and `memory` what the instruction does; `registers.rip` on entry does
    /// not matter.
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
            Effect::JumpIfZero { wide, target }
                if registers.rcx & (if wide { u64::MAX } else { 0xffff_ffff }) == 0 =>
            {
                target
            }
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
    /// `registers` are those of a thread of this process that is stopped at the instruction and
    /// will go on with the result, so that its stack is its own to change.
    pub unsafe fn apply(&self, registers: &mut Registers) {
        self.apply_with(registers, &mut OwnMemory(()));
    }
}

/// This process's memory. Made only in [`Emulation::apply`], whose caller answers for the
/// addresses.
struct OwnMemory(());

impl Memory for OwnMemory {
    fn read(&mut self, address: u64) -> u64 {
        // SAFETY: the interrupted instruction is about to read these eight bytes itself (promised
        // to `apply`); unaligned is allowed, volatile because other code writes there.
        unsafe { core::ptr::read_volatile(address as *const Unaligned) }.0
    }

    fn write(&mut self, address: u64, value: u64) {
        // SAFETY: the interrupted instruction is about to write these eight bytes of its own stack
        // itself (promised to `apply`).
        unsafe { core::ptr::write_volatile(address as *mut Unaligned, Unaligned(value)) }
    }
}

/// Eight bytes anywhere.
#[derive(Clone, Copy)]
#[repr(C, packed)]
struct Unaligned(u64);

/// Whether a condition (the low four bits of an opcode) holds with these flags.
fn holds(condition: u8, rflags: u64) -> bool {
    let flag = |bit: u32| rflags >> bit & 1 != 0;
    let (cf, pf, zf, sf, of) = (flag(0), flag(2), flag(6), flag(7), flag(11));
    let positive = match condition >> 1 & 7 {
        0 => of,
        1 => cf,
        2 => zf,
        3 => cf || zf,
        4 => sf,
        5 => pf,
        6 => sf != of,
        _ => zf || sf != of,
    };
    // An odd number is the opposite.
    positive ^ (condition & 1 != 0)
}
