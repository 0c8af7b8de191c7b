//! Where a function leaves, and what is put there.
//!
//! A function is left by `ret`, or by a jump to another function. The instructions in front of the
//! one that leaves are displaced with it, and a hook runs between them and it: with the registers
//! that the program has there, and rsp at the return address.

use crate::arch::x86_64::template::{Cut, Ways};
use crate::{Body, Detour, Liveness, Redirect, Refusal};
use alloc::vec::Vec;

/// A jump over instructions of which one or more leave the function.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Exit {
    pub(crate) at_entry: bool,
    pub(crate) detour: Detour,
    pub(crate) leaves: Vec<Leaving>,
}

/// An instruction that leaves a function.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Leaving {
    /// Address of the instruction.
    pub address: u64,
    /// How it leaves.
    pub leave: Leave,
    /// What a hook in front of it must preserve. rsp is as at the function's entry, so the return
    /// address is on top of the stack.
    pub live: Liveness,
    pub(crate) cut: Cut,
}

/// How a function is left.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Leave {
    /// By `ret`.
    Return,
    /// By a jump to another function, which returns to this one's caller; where to, if the
    /// instruction says it.
    Tail(Option<u64>),
}

/// Appends the code of a hook in front of this instruction, to run at this address: at most 65,535
/// bytes, behind the last of which the instruction is. How long it is may not depend on the
/// address.
pub type Hook<'h> = &'h mut dyn FnMut(&Leaving, u64, &mut Vec<u8>);

impl Exit {
    /// The jump that is written, and what it displaces. Emitted by itself it has no hooks.
    pub fn detour(&self) -> &Detour {
        &self.detour
    }

    /// The function is left among the instructions that the probe at its entry displaces: there is
    /// one jump for both, and what [`Exit::emit`] appends stands in the place of what
    /// [`Detour::emit_body`] of the plan's own detour would.
    pub fn at_entry(&self) -> bool {
        self.at_entry
    }

    /// The instructions that leave, ascending; at least one. More where one window has several,
    /// such as a conditional jump to another function and the `ret` behind it.
    pub fn leaves(&self) -> &[Leaving] {
        &self.leaves
    }

    /// Appends the relocated instructions, with a hook in front of each that leaves, to run with
    /// their first byte at `at`. Where a conditional jump leaves, the hook runs if it does. A hook
    /// is presented as the instruction that leaves.
    ///
    /// Context: allocates.
    ///
    /// # Errors
    /// [`Refusal::OutOfReach`] when the code does not reach what it refers to from `at`, never when
    /// all that is appended lies inside [`Detour::reach`]; `out` is then as it was.
    pub fn emit(&self, at: u64, hook: Hook<'_>, out: &mut Vec<u8>) -> Result<Body, Refusal> {
        self.emit_redirected(at, None, hook, out)
    }

    /// [`Exit::emit`] with the branches that lead to `redirect.from` leading to `redirect.to`.
    ///
    /// # Errors
    /// As there; also when `redirect.to` is not within reach of `at`.
    pub fn emit_redirected(
        &self,
        at: u64,
        redirect: Option<&Redirect>,
        hook: Hook<'_>,
        out: &mut Vec<u8>,
    ) -> Result<Body, Refusal> {
        let cuts: Vec<Cut> = self.leaves.iter().map(|leave| leave.cut).collect();
        let mut insert = |k: usize, at: u64, out: &mut Vec<u8>| hook(&self.leaves[k], at, out);
        let ways = Ways { redirect, onward: None, cuts: &cuts, insert: &mut insert };
        self.detour.template.emit(ways, at, out)
    }
}
