//! What stands before the relocated instructions in a stub.
#![allow(unsafe_code)]

use alloc::vec::Vec;
use core::sync::atomic::{AtomicU64, Ordering};
use patch::Registers;

/// Where the program's arithmetic flags are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Flags {
    /// In the flags register, or nobody needs them.
    Untouched,
    /// In ax, as `lahf; seto al` leaves them.
    AllInAx,
    /// The overflow flag is in its place, the others are in ah.
    HalfInAx,
}

/// How the program's registers are found while the instruction pointer is in a range of a stub's
/// own code: for signal frames, which have to show the site.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Undo {
    /// First byte, from the start of the stub.
    pub(crate) start: u32,
    /// First byte behind.
    pub(crate) end: u32,
    /// The program's rsp is that many bytes above the present one.
    pub(crate) sp: u32,
    /// Registers that were pushed: number, and distance above rsp. All others are in their places,
    /// or dead.
    pub(crate) saved: [Option<(u8, u32)>; 2],
    /// Where the flags are.
    pub(crate) flags: Flags,
}

impl Undo {
    /// Makes `registers`, with which a thread was interrupted in this range, those that the program
    /// has at the site; `rip` is left to the caller.
    ///
    /// # Context
    /// Signal-safe. Reads the interrupted stack.
    pub(crate) fn apply(&self, registers: &mut Registers) {
        const ARITHMETIC: u64 = 0b1101_0101;
        const OVERFLOW: u64 = 1 << 11;
        let ah = registers.rax >> 8 & ARITHMETIC;
        match self.flags {
            Flags::Untouched => {}
            Flags::AllInAx => {
                registers.rflags =
                    registers.rflags & !(ARITHMETIC | OVERFLOW) | ah | (registers.rax & 1) << 11
            }
            Flags::HalfInAx => registers.rflags = registers.rflags & !ARITHMETIC | ah,
        }
        for (number, above) in self.saved.into_iter().flatten() {
            let place = core::ptr::with_exposed_provenance::<AtomicU64>(
                (registers.rsp + u64::from(above)) as usize,
            );
            // SAFETY: the stub pushed the register there, and the thread that did stands in the
            // range where it is not popped yet.
            let word = unsafe { &*place };
            let value = word.load(Ordering::Relaxed);
            match number {
                0 => registers.rax = value,
                1 => registers.rcx = value,
                _ => registers.rdx = value,
            }
        }
        registers.rsp += u64::from(self.sp);
    }
}

/// The code that [`emit`](crate::arch::x86_64::prologue::emit) wrote. The order of a stub: `emit`
/// (control comes in at its first byte and falls through to the body), the body, `finish`.
/// Afterwards the caller stores `body` and `resume` into the [`Site`](crate::site_table::Site), and
/// sets its action with `loops` and `skips_red_zone`.
#[derive(Clone, Debug)]
pub(crate) struct Prologue {
    /// Address of the first byte.
    pub(crate) at: u64,
    /// Address of the relocated instructions.
    pub(crate) body: u64,
    /// For [`Site::resume`](crate::site_table::Site::resume). Right after `finish`.
    pub(crate) resume: u64,
    /// Whether the site needs [`SKIPS_RED_ZONE`](crate::site_table::SKIPS_RED_ZONE).
    pub(crate) skips_red_zone: bool,
    /// How to present each byte of the prologue and of what `finish` wrote. What is not in it is
    /// the body (or constants).
    pub(crate) undo: Vec<Undo>,
    /// What `finish` has to write.
    pub(crate) tail: crate::arch::x86_64::tail::Tail,
}

impl Prologue {
    /// How to present a thread at this offset from the stub's start; `None`: it is in the body.
    ///
    /// # Context
    /// Signal-safe.
    pub(crate) fn undo_at(&self, offset: u32) -> Option<&Undo> {
        let after = self.undo.partition_point(|u| u.start <= offset);
        self.undo[..after].last().filter(|u| offset < u.end)
    }
}
