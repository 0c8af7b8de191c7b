//! The public type: a counter and what to do at zero.

use super::counter::{Counter, Options, Sound};
use super::error::Error;
use core::fmt;
use core::mem;

/// A reference count whose `get` and `put` write no line that another CPU writes, until it is
/// killed.
///
/// `F` is called once each time that the count reaches zero: on the thread that put the last
/// reference, before that call returns `Ok(true)`. It must not free the memory of the `PercpuRef`
/// itself, which is still in use; whoever got the `Ok(true)` may. If it panics, the panic goes on
/// in that caller, and the count stays at zero.
///
/// # Examples
/// ```
/// use reclaim::percpu_ref::PercpuRef;
/// use std::sync::atomic::{AtomicBool, Ordering};
///
/// let released = AtomicBool::new(false);
/// let refs = PercpuRef::new(|| released.store(true, Ordering::Relaxed));
/// assert!(refs.try_get_live());
/// refs.get()?;
/// assert!(!refs.kill()?, "two references are held");
/// assert!(!refs.try_get_live());
/// assert!(!refs.put()?);
/// assert!(refs.put()?, "the last one");
/// assert!(released.load(Ordering::Relaxed));
/// # Ok::<(), reclaim::percpu_ref::Error>(())
/// ```
pub struct PercpuRef<F = fn()> {
    counter: Counter<Sound>,
    release: F,
}

impl<F: Fn()> PercpuRef<F> {
    /// A live count with one reference, which [`kill`](Self::kill) puts; in per-CPU mode.
    ///
    /// # Context
    /// Allocates 128 bytes per possible CPU.
    pub fn new(release: F) -> Self {
        Self::with_options(Options::default(), release)
    }

    /// A count that begins as `options` say.
    ///
    /// # Context
    /// As [`new`](Self::new).
    pub fn with_options(options: Options, release: F) -> Self {
        Self { counter: Counter::new(options), release }
    }

    /// Takes a reference. For callers that hold one already (or whose object is not killed
    /// meanwhile).
    ///
    /// # Context
    /// Signal-safe after [`percpu::init`]; no allocation, no system call. Per-CPU mode: one plain
    /// add. Atomic mode: one compare-and-swap loop.
    ///
    /// # Errors
    /// [`Error::Zero`]: the count was at zero, which only atomic mode can tell.
    /// [`Error::Overflow`].
    #[inline(always)]
    pub fn get(&self) -> Result<(), Error> {
        self.counter.get(1)
    }

    /// Takes `n` references.
    ///
    /// # Context
    /// As [`get`](Self::get); more than 32 are taken from the shared word in every mode.
    ///
    /// # Errors
    /// As [`get`](Self::get).
    #[inline]
    pub fn get_many(&self, n: u32) -> Result<(), Error> {
        self.counter.get(n)
    }

    /// Takes a reference unless the count is at zero. For callers that hold none but know the
    /// memory to be there (an RCU section, say).
    ///
    /// # Context
    /// As [`get`](Self::get).
    #[inline(always)]
    pub fn try_get(&self) -> bool {
        self.counter.try_get(1)
    }

    /// Takes `n` references unless the count is at zero, or would overflow.
    ///
    /// # Context
    /// As [`get`](Self::get).
    #[inline]
    pub fn try_get_many(&self, n: u32) -> bool {
        self.counter.try_get(n)
    }

    /// Takes a reference unless the count was killed. It may still succeed while
    /// [`kill`](Self::kill) runs, and fails everywhere once that has confirmed.
    ///
    /// # Context
    /// As [`get`](Self::get).
    #[inline(always)]
    pub fn try_get_live(&self) -> bool {
        self.counter.try_get_live()
    }

    /// Gives a reference back. True: it was the last, and `F` has been called.
    ///
    /// # Context
    /// As [`get`](Self::get), as far as `F` is.
    ///
    /// # Errors
    /// [`Error::Underflow`]: there was none. In per-CPU mode a put too many is not seen here, but
    /// by the switch to atomic mode ([`Error::Unbalanced`]).
    #[inline(always)]
    pub fn put(&self) -> Result<bool, Error> {
        self.put_many(1)
    }

    /// Gives `n` references back. True: they were the last.
    ///
    /// # Context
    /// As [`put`](Self::put).
    ///
    /// # Errors
    /// As [`put`](Self::put).
    #[inline(always)]
    pub fn put_many(&self, n: u32) -> Result<bool, Error> {
        let last = self.counter.put(n)?;
        if last {
            (self.release)();
        }
        Ok(last)
    }

    /// Starts the end: no new reference to a live object, atomic mode from here on, and the first
    /// reference is put. True: it was the last.
    ///
    /// # Context
    /// May wait for another switch of modes, so not for signal handlers. One or two system calls
    /// (0.4 to 9 µs); without restartable sequences, an RCU grace period.
    ///
    /// # Errors
    /// [`Error::AlreadyDead`] for all callers but one; [`Error::Unbalanced`] (the count is dead
    /// then, and never released); [`Error::InsideRcuSection`]; [`Error::Abandoned`].
    pub fn kill(&self) -> Result<bool, Error> {
        self.kill_and_confirm(|| ())
    }

    /// [`kill`](Self::kill) that calls `confirm` when [`try_get_live`](Self::try_get_live) fails
    /// everywhere, and before the first reference is put.
    ///
    /// # Context
    /// As [`kill`](Self::kill).
    ///
    /// # Errors
    /// As [`kill`](Self::kill); then `confirm` was not called.
    ///
    /// # Panics
    /// When `confirm` does; the first reference is put all the same.
    pub fn kill_and_confirm(&self, confirm: impl FnOnce()) -> Result<bool, Error> {
        struct First<'a, F: Fn()>(&'a PercpuRef<F>);
        impl<F: Fn()> Drop for First<'_, F> {
            fn drop(&mut self) {
                // An error says that somebody has put too often, which is not this caller's.
                let _ = self.0.put();
            }
        }
        self.counter.kill()?;
        let first = First(self);
        confirm();
        mem::forget(first);
        self.put()
    }

    /// Leaves per-CPU mode until [`switch_to_percpu`](Self::switch_to_percpu): from here on the
    /// count is exact. The caller holds a reference, or the count is live.
    ///
    /// # Context
    /// As [`kill`](Self::kill).
    ///
    /// # Errors
    /// [`Error::Unbalanced`], [`Error::InsideRcuSection`], [`Error::Abandoned`].
    pub fn switch_to_atomic(&self) -> Result<(), Error> {
        self.counter.switch_to_atomic()
    }

    /// Goes back to per-CPU mode; for a dead count, when it comes back to life.
    ///
    /// # Context
    /// May wait for another switch of modes, so not for signal handlers. No system call.
    ///
    /// # Errors
    /// [`Error::Zero`], [`Error::Unbalanced`], [`Error::Abandoned`].
    pub fn switch_to_percpu(&self) -> Result<(), Error> {
        self.counter.switch_to_percpu()
    }

    /// Begins a new life after the release: live, with one reference.
    ///
    /// # Context
    /// As [`switch_to_percpu`](Self::switch_to_percpu).
    ///
    /// # Errors
    /// [`Error::NotDead`], [`Error::NotZero`], [`Error::NotReinitable`], [`Error::Unbalanced`],
    /// [`Error::Abandoned`].
    pub fn reinit(&self) -> Result<(), Error> {
        self.counter.reinit()
    }

    /// Takes a [`kill`](Self::kill) back before the release: live, with one more reference.
    ///
    /// # Context
    /// As [`switch_to_percpu`](Self::switch_to_percpu).
    ///
    /// # Errors
    /// [`Error::NotDead`], [`Error::Zero`], [`Error::NotReinitable`], [`Error::Unbalanced`],
    /// [`Error::Abandoned`].
    pub fn resurrect(&self) -> Result<(), Error> {
        self.counter.resurrect()
    }

    /// Whether it was killed.
    pub fn is_dying(&self) -> bool {
        self.counter.is_dead()
    }

    /// Whether no reference is left. False in per-CPU mode, whatever the sum.
    pub fn is_zero(&self) -> bool {
        self.counter.is_zero()
    }

    /// Whether it is in per-CPU mode. A hint.
    pub fn is_percpu(&self) -> bool {
        self.counter.is_percpu()
    }
}

impl<F> fmt::Debug for PercpuRef<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PercpuRef").field("counter", &self.counter).finish_non_exhaustive()
    }
}
