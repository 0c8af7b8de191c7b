//! What the caller knows of a function.

use core::ops::Range;

/// A function, as its object file or the running process has it.
///
/// The bytes are the original ones: where the caller has patched already, it gives what was there
/// before.
#[derive(Clone, Copy, Debug)]
pub struct Function<'a> {
    /// Address of the first byte of `code` at run time.
    pub address: u64,
    /// The whole function. Its bounds are trusted: a symbol's or an unwind entry's.
    pub code: &'a [u8],
    /// Bytes behind the function that belong to nobody. They are taken only where they are padding
    /// (nops, `int3`), so that functions of less than five bytes can have a detour. Empty when
    /// unknown.
    pub after: &'a [u8],
    /// Offset of the probed instruction in `code`; 0 is the entry.
    pub site: u32,
}

/// What a function's callers keep to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Convention {
    /// The System V ABI, or nothing that could be relied on: what is dead, the code itself says.
    #[default]
    C,
    /// That of Go's compiler (`ABIInternal`). Goroutines' stacks have no room to be counted on, and
    /// move: nothing is pushed, and no return address is replaced. A function that looks at its
    /// entry whether there is room for its frame comes back there when its stack has grown, or when
    /// it was preempted: such a check is displaced as a whole, and hits are counted behind it
    /// ([`Plan::behind`](crate::Plan::behind)). No function is moved as a whole: a goroutine that
    /// was preempted in one goes on in its original code.
    Go,
}

/// What the caller knows besides.
#[derive(Clone, Copy, Default)]
pub struct Options<'a> {
    /// Restartable sequences (`struct rseq_cs`: start to start + post-commit offset). A trap or a
    /// detour in one breaks it: such sites are refused.
    pub rseq: &'a [Range<u64>],
    /// Addresses that control reaches in a way that the function's own code does not show: landing
    /// pads, targets of jump tables, other functions' jumps into this one
    /// ([`branch_targets`](crate::branch_targets) finds those), other probes' sites. A detour does
    /// not displace one. Ascending.
    pub branch_targets: &'a [u64],
    /// Never a detour.
    pub breakpoint: bool,
    /// What callers keep to.
    pub convention: Convention,
    /// Threads (or goroutines) may have been put aside anywhere in the function, where nobody
    /// finds them: a detour displaces one instruction only, or none that one can be put aside at.
    pub put_aside: bool,
    /// The same where it is left: the jump of an exit takes the bytes of one instruction only, and
    /// those that it displaces besides stay as they are, for whoever goes on there.
    pub exits_put_aside: bool,
    /// Find where the function is left, too ([`Plan::exits`](crate::Plan::exits)). `site` is the
    /// entry then.
    pub exits: bool,
    /// What else of the program may be looked at for that. Without it, functions that jump to
    /// addresses which they compute have no exits, nor have those of which parts lie elsewhere.
    pub surroundings: Option<&'a dyn Surroundings>,
}

/// What is around a function: for the exits of those that go by jump tables, and of those in parts.
pub trait Surroundings {
    /// Copies what lies at an address, as it is when the program runs. False: not all of it is
    /// there, or known.
    fn read(&self, address: u64, into: &mut [u8]) -> bool;

    /// The piece of code that an address lies in, by the same knowledge by which functions have
    /// their bounds: a symbol's, or an unwind entry's. None: not known.
    fn piece(&self, address: u64) -> Option<Piece<'_>>;
}

/// A function or a part of one.
#[derive(Clone, Copy, Debug)]
pub struct Piece<'a> {
    /// Address of the first byte.
    pub address: u64,
    /// The bytes, as they are without patches.
    pub code: &'a [u8],
    /// It is known that it is jumped to from a function that it belongs to, and never called
    /// (`.cold`).
    pub part: bool,
}
