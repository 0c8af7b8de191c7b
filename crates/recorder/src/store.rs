//! The depot, of either kind.

use stackdepot::{Depot, Flags, Handle, Miss, NoEviction};
use wire::NoStack;

/// A depot that keeps all stacks, or one in which old ones give way.
#[derive(Debug)]
pub(crate) enum Store {
    Keep(Depot<NoEviction>),
    Evict(Depot),
    /// Too many processes write already.
    Closed,
}

impl Store {
    /// The handle of a stack. In a depot that evicts, the caller then holds a reference.
    #[inline(always)]
    pub(crate) fn save(&self, frames: &[u64]) -> Result<u32, NoStack> {
        let grow = if uprobe::is_sealed() { Flags::NONE } else { Flags::CAN_GROW };
        let saved = match self {
            Self::Keep(depot) => depot.try_save(frames, grow),
            Self::Evict(depot) => depot.try_save(frames, grow | Flags::GET),
            Self::Closed => Err(Miss::Disabled),
        };
        saved.map(Handle::to_bits).map_err(why)
    }

    /// Gives a reference back.
    #[inline]
    pub(crate) fn put(&self, handle: u32) {
        if let Self::Evict(depot) = self {
            // Counted by the depot where it fails.
            let _ = depot.put(Handle::from_bits(handle));
        }
    }

    /// The process is about to lose its system calls.
    pub(crate) fn seal(&self) {
        match self {
            Self::Keep(depot) => depot.seal(),
            Self::Evict(depot) => depot.seal(),
            Self::Closed => {}
        }
    }

    /// In a fork child, with that number, of one that has lost them.
    pub(crate) fn adopt_as(&self, pid: u32) {
        match self {
            Self::Keep(depot) => depot.adopt_as(pid),
            Self::Evict(depot) => depot.adopt_as(pid),
            Self::Closed => {}
        }
    }

    pub(crate) fn evicts(&self) -> bool {
        matches!(self, Self::Evict(_))
    }
}

#[cold]
fn why(miss: Miss) -> NoStack {
    match miss {
        Miss::Full | Miss::GrowthRefused | Miss::Empty => NoStack::Full,
        Miss::Disabled => NoStack::Writers,
        Miss::Contended => NoStack::Contended,
    }
}
