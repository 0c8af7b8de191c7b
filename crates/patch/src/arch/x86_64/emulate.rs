//! Instructions whose effect is computed, so that a breakpoint needs no relocated copy.
#![allow(unsafe_code)]

use super::registers::Registers;

/// The stack of the interrupted thread, and what it points to.
pub trait Memory {
    /// The eight bytes at `address`.
    fn read(&mut self, address: u64) -> u64;
    /// Stores eight bytes at `address`.
    fn write(&mut self, address: u64, value: u64);
}

/// The effect of one instruction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Emulation {
    next: u64,
}

impl Emulation {
    /// Does to `registers` and `memory` what the instruction does; `registers.rip` on entry does not matter.
    ///
    /// Context: signal-safe, no allocation, no system call.
    pub fn apply_with(&self, registers: &mut Registers, memory: &mut impl Memory) {
        let _ = memory;
        registers.rip = self.next;
    }

    /// [`Emulation::apply_with`] on the memory of this process.
    ///
    /// Context: signal-safe, no allocation, no system call. Faults where the instruction would.
    ///
    /// # Safety
    /// `registers` are those of a thread of this process that is stopped at the instruction and will go on with the result, so that its stack is its own to change.
    pub unsafe fn apply(&self, registers: &mut Registers) {
        registers.rip = self.next;
    }
}
