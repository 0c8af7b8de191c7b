//! What stands before the relocated instructions in a stub.

use core::ops::Range;

/// How the program's registers are to be found while the instruction pointer is in a range of a stub's own code: for signal frames, which have to show the site.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Undo {
    /// First byte, from the start of the stub.
    pub(crate) start: u32,
    /// First byte behind.
    pub(crate) end: u32,
    /// The program's rsp is that many bytes above the present one.
    pub(crate) sp: u32,
    /// Registers that were saved: number (patch's order: rax 0, rcx 1, rdx 2, rbx 3, rsp 4, rbp 5, rsi 6, rdi 7, r8 ...), and distance above rsp. None: unchanged.
    pub(crate) saved: [Option<(u8, u32)>; 2],
    /// The flags are in ax as `lahf; seto al` leaves them.
    pub(crate) flags_in_ax: bool,
}

/// The code that [`emit`] wrote. The relocated instructions go right behind it (it falls through), and [`Prologue::finish`] puts the rest behind those.
///
/// The order of a stub: `emit` (control comes in at its first byte), body, `finish`. Afterwards the caller stores `body` and `resume` into the [`Site`](crate::site_table::Site).
#[derive(Clone, Debug)]
pub(crate) struct Prologue {
    /// Address of the relocated instructions.
    pub(crate) body: u64,
    /// For [`Site::resume`](crate::site_table::Site::resume). Known after `finish`.
    pub(crate) resume: u64,
    /// Whether the site needs [`SKIPS_RED_ZONE`](crate::site_table::SKIPS_RED_ZONE).
    pub(crate) skips_red_zone: bool,
    /// How to present each byte of the prologue and of what `finish` wrote. Offsets from `at`. Everything not listed is the body.
    pub(crate) undo: Vec<Undo>,
    /// Ranges of instructions written by us, for whoever looks at single bytes.
    pub(crate) own: Vec<Range<u32>>,
}
