//! Which registers a function uses, and whether as compilers do.
//!
//! Callers may know what a function leaves alone (GCC's -fipa-ra), or what it returns in registers
//! of its own choice (assembly). What a compiled function overwrites anywhere, no compiled caller
//! relies on: that is what the compiler's knowledge of it is made of. A function that does not save
//! the registers that the ABI wants saved is taken for assembly, and nothing of it is dead.

use super::values::CALLEE_SAVED;
use iced_x86::{
    FlowControl, Instruction, InstructionInfoFactory, Mnemonic, OpAccess, OpKind, Register,
};

/// The general registers that calls may overwrite.
const CALLER_SAVED: u16 = !CALLEE_SAVED;
const SP: u16 = 1 << 4;

/// What an instruction does to general registers: bits by their numbers.
#[derive(Clone, Copy, Default)]
pub(crate) struct Used {
    pub(crate) read: u16,
    /// Overwritten, all or in part.
    pub(crate) written: u16,
}

impl Used {
    pub(crate) fn of(i: &Instruction, factory: &mut InstructionInfoFactory) -> Self {
        let mut used = Self::default();
        for register in factory.info(i).used_registers() {
            let Some(number) = super::values::number(register.register()) else { continue };
            let bit = 1 << number;
            match register.access() {
                OpAccess::Read | OpAccess::CondRead => used.read |= bit,
                OpAccess::Write | OpAccess::CondWrite => used.written |= bit,
                OpAccess::ReadWrite | OpAccess::ReadCondWrite => {
                    used.read |= bit;
                    used.written |= bit;
                }
                OpAccess::None | OpAccess::NoMemAccess => {}
            }
        }
        used
    }
}

/// Of all of a function.
#[derive(Default)]
pub(crate) struct Usage {
    written: u16,
    /// Loaded from the stack: perhaps what callers had in them.
    restored: u16,
    saved: u16,
    /// Read otherwise than to be saved.
    read: u16,
    flags: bool,
}

impl Usage {
    /// Takes an instruction into account.
    pub(crate) fn see(&mut self, i: &Instruction, used: Used) {
        let on_stack = |operand: u32| {
            i.op_kind(operand) == OpKind::Memory
                && matches!(i.memory_base(), Register::RSP | Register::RBP)
        };
        let bit = |operand: u32| match i.op_kind(operand) {
            OpKind::Register => super::values::number(i.op_register(operand)).map_or(0, |n| 1 << n),
            _ => 0,
        };
        match i.mnemonic() {
            Mnemonic::Push => self.saved |= bit(0),
            Mnemonic::Pop => self.restored |= bit(0),
            Mnemonic::Leave => self.restored |= 1 << 5,
            Mnemonic::Mov if on_stack(0) => self.saved |= bit(1),
            Mnemonic::Mov if on_stack(1) => self.restored |= bit(0),
            _ => {
                self.written |= used.written;
                self.read |= used.read;
            }
        }
        if i.flow_control() == FlowControl::IndirectCall {
            self.written |= CALLER_SAVED;
        }
        self.flags |= i.rflags_modified() != 0;
    }

    /// The function keeps to the ABI as compilers do, as far as it shows.
    fn is_conventional(&self) -> bool {
        let ours = CALLEE_SAVED & !SP;
        (self.written | self.read) & ours & !self.saved == 0
    }

    /// Registers in which no caller finds anything, where the function returns or another returns
    /// in its place; results, and what others get, aside.
    pub(crate) fn overwritten(&self) -> u16 {
        if self.is_conventional() { self.written & !self.restored & CALLER_SAVED } else { 0 }
    }

    /// No caller relies on the flags.
    pub(crate) fn flags_overwritten(&self) -> bool {
        self.is_conventional() && self.flags
    }
}
