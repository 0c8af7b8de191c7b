//! The seam between a pool and the algorithm that keeps its free objects.
//!
//! A free list deals in object numbers only. [`RawPool`](crate::RawPool) adds the memory, the ledger of who is out, the closing and the statistics, once for all of them.

use crate::BuildError;
use crate::plan::Plan;

/// An object that a list gave away.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Taken {
    /// Its number.
    pub index: u32,
    /// The slot of the thread that took it.
    pub slot: u32,
    /// Whether it came from another slot.
    pub stolen: bool,
}

/// What a push tells its pool.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pushed {
    /// The slot of the thread that pushed.
    pub slot: u32,
    /// The list was closed before this push ended: the pool has to drain it once more.
    pub closed: bool,
}

/// A set of free object numbers. Sealed: pools rely on every list giving a number to one owner at a time.
///
/// # Contract
/// - A new list has all numbers of its plan.
/// - `pop` gives `None` only if at some moment during the call the list had no number. It never waits for another thread, nor for the thread it interrupted.
/// - The caller of `push` owns the number, which `pop` gave it; then push cannot fail.
///
/// # Context
/// `pop` and `push`: signal-safe, lock-free, never allocate, no system call (exceptions: [`RseqLifo`](crate::RseqLifo)).
pub trait FreeList: sealed::Sealed + Send + Sync + Sized + 'static {
    /// For tables.
    const NAME: &'static str;

    /// Whether `pop` and `push` look after `close` themselves. Otherwise the pool checks on every operation.
    const CLOSES_ITSELF: bool = false;

    /// A list of all objects.
    ///
    /// # Errors
    /// [`BuildError::OutOfMemory`].
    fn new(plan: &Plan) -> Result<Self, BuildError>;

    /// Takes a number.
    fn pop(&self) -> Option<Taken>;

    /// Gives a number back.
    fn push(&self, index: u32) -> Pushed;

    /// Whether this list has fast halves, which are asked first, and keeps who is out ([`mark_out`](Self::mark_out)). Everything else is then kept out of line: merging the rare outcomes with
    /// the common one costs the common one its registers.
    #[inline(always)]
    fn is_fast(&self) -> bool {
        false
    }

    /// The common case of [`pop`](Self::pop), a few instructions: number and slot. `None` says nothing.
    #[inline(always)]
    fn pop_fast(&self) -> Option<(u32, u32)> {
        None
    }

    /// The common case of [`push`](Self::push): the slot. `None`: nothing was done.
    #[inline(always)]
    fn push_fast(&self, _index: u32) -> Option<u32> {
        None
    }

    /// The caller has popped the number on `slot` and owns it.
    ///
    /// # Panics
    /// This list is not [fast](Self::is_fast).
    #[inline(always)]
    fn mark_out(&self, _index: u32, _slot: u32) {
        unreachable!("the ledger keeps who is out")
    }

    /// The slot that a number that is out was popped on; `None` for one that is not out. Exact for whoever owns the number.
    ///
    /// # Panics
    /// This list is not [fast](Self::is_fast).
    #[inline(always)]
    fn popped_on(&self, _index: u32) -> Option<u32> {
        unreachable!("the ledger keeps who is out")
    }

    /// From its return on, `pop` finds nothing and every push either is seen by a later [`drain`](Self::drain) or says [`Pushed::closed`].
    fn close(&self) {}

    /// Takes a number after `close`.
    fn drain(&self) -> Option<u32> {
        self.pop().map(|taken| taken.index)
    }
}

pub(crate) mod sealed {
    pub trait Sealed {}
}

/// Repeats a look at all parts of a list until one part gives a number, or two looks in a row found every part empty and at the same version.
///
/// `look` returns a number, or the sum of the versions of all parts, which it found empty. Versions only grow, so equal sums mean equal versions: nothing was pushed between the two looks,
/// and at the moment between them the list had nothing. A look that finds another sum means that others pushed meanwhile: lock-free.
#[inline(always)]
pub(crate) fn until_empty_twice<T>(mut look: impl FnMut() -> Result<T, u64>) -> Option<T> {
    let mut before = match look() {
        Ok(taken) => return Some(taken),
        Err(versions) => versions,
    };
    loop {
        match look() {
            Ok(taken) => return Some(taken),
            Err(versions) if versions == before => return None,
            Err(versions) => before = versions,
        }
    }
}
