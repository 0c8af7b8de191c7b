//! The seam between a pool and the algorithm that keeps its free objects.
//!
//! A free list deals in object numbers only. [`RawPool`](crate::RawPool) adds the memory, the
//! ledger of who is out, the closing and the statistics, once for all of them.

use crate::BuildError;
use crate::hold::Hold;
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

/// Which algorithm keeps a pool's free objects: a type parameter, nothing to call.
///
/// Sealed, and a list cannot be made outside of a pool: it believes the numbers that it is given.
/// ```compile_fail,E0432
/// use objpool::Plan; // what a list is made from
/// ```
/// ```compile_fail,E0277
/// struct Mine;
/// impl objpool::FreeList for Mine {}
/// ```
///
/// # Contract
/// A list is a set of free object numbers.
/// - A new list has all numbers of its plan.
/// - `pop` gives `None` only if at some moment during the call the list had no number. It never
///   waits for another thread, nor for the thread it interrupted.
/// - The caller of `push` owns the number, which `pop` gave it; then push cannot fail.
///
/// # Context
/// `pop` and `push`: signal-safe, lock-free, never allocate, no system call (exceptions:
/// [`RseqLifo`](crate::RseqLifo)).
pub trait FreeList: sealed::Sealed + Send + Sync + Sized + 'static {
    /// For tables.
    const NAME: &'static str;

    /// A list of all objects.
    ///
    /// # Errors
    /// [`BuildError::OutOfMemory`].
    #[doc(hidden)]
    fn new(plan: &Plan) -> Result<Self, BuildError>;

    /// Takes a number.
    #[doc(hidden)]
    fn pop(&self) -> Option<Taken>;

    /// Gives a number back. Returns the slot of the thread that pushed.
    #[doc(hidden)]
    fn push(&self, index: u32) -> u32;

    /// Orders a `push` of this thread before its next look at the pool's state, against `close` and
    /// [`hold`](Self::hold) on other threads. Nothing to do for a list whose pushes and pops are
    /// sequentially consistent; the state is read so, too.
    #[doc(hidden)]
    #[inline(always)]
    fn settle(&self) {
        total_order();
    }

    /// From its return until the result is dropped, every push either is seen by
    /// [`pop_held`](Self::pop_held) of this thread, or sees what this thread wrote to the pool's
    /// state before. The fast halves do not look there, so they give nothing meanwhile.
    ///
    /// # Context
    /// May block, and make system calls.
    #[doc(hidden)]
    fn hold(&self) -> Option<Hold<'_>> {
        total_order();
        None
    }

    /// [`pop`](Self::pop) with what [`hold`](Self::hold) returned.
    #[doc(hidden)]
    fn pop_held(&self, _hold: Option<&Hold<'_>>) -> Option<Taken> {
        self.pop()
    }

    /// Whether this list has fast halves, which are asked first, and keeps who is out
    /// ([`mark_out`](Self::mark_out)). Everything else is then kept out of line: merging the rare
    /// outcomes with the common one costs the common one its registers.
    #[doc(hidden)]
    #[inline(always)]
    fn is_fast(&self) -> bool {
        false
    }

    /// The common case of [`pop`](Self::pop), a few instructions: number and slot. `None` says
    /// nothing.
    #[doc(hidden)]
    #[inline(always)]
    fn pop_fast(&self) -> Option<(u32, u32)> {
        None
    }

    /// The common case of [`push`](Self::push): the slot. `None`: nothing was done.
    #[doc(hidden)]
    #[inline(always)]
    fn push_fast(&self, _index: u32) -> Option<u32> {
        None
    }

    /// The caller has popped the number on `slot` and owns it.
    ///
    /// # Panics
    /// This list is not [fast](Self::is_fast).
    #[doc(hidden)]
    #[inline(always)]
    fn mark_out(&self, _index: u32, _slot: u32) {
        unreachable!("the ledger keeps who is out")
    }

    /// The slot that a number that is out was popped on; `None` for one that is not out. Exact for
    /// whoever owns the number.
    ///
    /// # Panics
    /// This list is not [fast](Self::is_fast).
    #[doc(hidden)]
    #[inline(always)]
    fn popped_on(&self, _index: u32) -> Option<u32> {
        unreachable!("the ledger keeps who is out")
    }

    /// The pool's state says that it is closed. From the return of this on every push either is
    /// seen by a later [`drain`](Self::drain), or sees that state after [`settle`](Self::settle);
    /// and the fast halves give nothing.
    #[doc(hidden)]
    fn close(&self) {}

    /// Takes a number after `close`.
    #[doc(hidden)]
    fn drain(&self) -> Option<u32> {
        self.pop().map(|taken| taken.index)
    }
}

pub(crate) mod sealed {
    pub trait Sealed {}
}

/// Nothing: sequentially consistent accesses have one order. The model checker takes them for
/// AcqRel, so it is shown a fence.
#[inline(always)]
fn total_order() {
    #[cfg(loom)]
    percpu::sync::atomic::fence(percpu::sync::atomic::Ordering::SeqCst);
}

/// Repeats a look at all parts of a list until one part gives a number, or two looks in a row found
/// every part empty and at the same version.
///
/// `look` returns a number, or the sum of the versions of all parts, which it found empty. Versions
/// only grow, so equal sums mean equal versions: nothing was pushed between the two looks, and at
/// the moment between them the list had nothing. A look that finds another sum means that others
/// pushed meanwhile: lock-free.
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
