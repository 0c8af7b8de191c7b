//! The public face of a domain.
#![allow(unsafe_code)]

use super::flavour::{Flavour, Normal};
use super::machine::Machine;
use crate::backoff::Backoff;
use crate::callbacks::{Callback, Callbacks, GracePeriods, Head};
use alloc::boxed::Box;
use core::fmt;
use core::ptr::NonNull;

/// A point in a domain's time, to be asked about later.
///
/// It keeps its meaning for 2^61 grace periods and means nothing to another domain.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Cookie(u64);

impl Cookie {
    /// The cookie as a number, to be stored where a `Cookie` cannot be.
    pub const fn to_bits(self) -> u64 {
        self.0
    }

    /// The inverse of [`to_bits`](Self::to_bits).
    pub const fn from_bits(bits: u64) -> Self {
        Self(bits)
    }
}

/// What [`SrcuDomain::read_lock_raw`] returns and [`SrcuDomain::read_unlock_raw`] takes: on which
/// of the domain's two counters the section is.
#[derive(Debug, PartialEq, Eq)]
#[must_use = "the section can only be ended with it"]
pub struct Index(u8);

/// Readers that may block, and the grace periods and callbacks that wait for them.
///
/// The flavour, [`Normal`] or [`Fast`](super::Fast), is part of the type: a domain never mixes
/// readers that fence with a writer that counts on readers that do not.
///
/// ```compile_fail
/// use reclaim::srcu::{Fast, Guard, Srcu};
/// let domain = Srcu::new();
/// let section: Guard<'_, Fast> = domain.read_lock();
/// ```
///
/// # Examples
/// ```
/// use reclaim::srcu::SrcuFast;
///
/// let domain = SrcuFast::new();
/// let section = domain.read_lock();
/// let cookie = domain.start_poll();
/// assert!(!domain.poll(cookie));
/// // A section may end on another thread.
/// std::thread::scope(|s| s.spawn(move || drop(section)).join().unwrap());
/// assert!(domain.poll(cookie));
/// ```
pub struct SrcuDomain<K: Flavour = Normal> {
    machine: Machine<K, K::Counters>,
    callbacks: Callbacks,
}

impl<K: Flavour> GracePeriods for Machine<K, K::Counters> {
    fn start(&self) -> u64 {
        let cookie = self.cookie();
        self.want(cookie);
        cookie
    }

    fn poll(&self, cookie: u64) -> bool {
        Machine::poll(self, cookie)
    }

    fn register(&self) {
        crate::rcu::ensure_registered();
    }

    fn is_registered(&self, thread: u64) -> bool {
        crate::rcu::is_registered(thread)
    }
}

impl<K: Flavour> SrcuDomain<K> {
    /// How many periods a new domain has behind it: its numbers wrap soon enough that a program
    /// which runs for a while has seen it.
    const START: u64 = 0_u64.wrapping_sub(256);

    /// A domain without readers.
    ///
    /// # Context
    /// [`Normal`] allocates 128 bytes per possible CPU. [`Fast`](super::Fast) takes one of the 15
    /// counters that every thread's record has; where none is free it allocates 640 bytes per
    /// possible CPU, and its readers pay twice as much.
    pub fn new() -> Self {
        Self { machine: Machine::new(Self::START), callbacks: Callbacks::new() }
    }

    /// Begins a section, which ends when the guard is dropped, on whichever thread. Sections nest,
    /// and may block.
    ///
    /// # Context
    /// Signal-safe after [`percpu::init`]; wait-free; no allocation, no system call (but for a
    /// thread's first section, as in [`rcu`](crate::rcu)).
    #[inline(always)]
    pub fn read_lock(&self) -> Guard<'_, K> {
        Guard { domain: self, index: self.machine.enter() }
    }

    /// [`read_lock`](Self::read_lock) without a guard.
    ///
    /// # Context
    /// As [`read_lock`](Self::read_lock).
    #[inline(always)]
    pub fn read_lock_raw(&self) -> Index {
        Index(self.machine.enter() as u8)
    }

    /// Ends the section that returned `index`. May be called on another thread than the one that
    /// began it.
    ///
    /// # Context
    /// As [`read_lock`](Self::read_lock).
    ///
    /// # Safety
    /// `index` came from [`read_lock_raw`](Self::read_lock_raw) of this domain, and nothing that
    /// was read under it is used any more.
    #[inline(always)]
    pub unsafe fn read_unlock_raw(&self, index: Index) {
        self.machine.leave(usize::from(index.0));
    }

    /// The domain's newest point in time: once [`poll`](Self::poll) is true for it, every section
    /// that could see what the caller unlinked before has ended. Starts nothing.
    ///
    /// # Context
    /// Signal-safe; no allocation, no system call; a full fence.
    #[inline]
    pub fn get_state(&self) -> Cookie {
        Cookie(self.machine.cookie())
    }

    /// Like [`get_state`](Self::get_state), and starts the grace period if none is in progress;
    /// else the next one follows by itself.
    ///
    /// # Context
    /// Signal-safe; no allocation, no system call.
    pub fn start_poll(&self) -> Cookie {
        Cookie(self.machine.start())
    }

    /// Whether a grace period has passed since `cookie`. True orders like
    /// [`synchronize`](Self::synchronize). If not, moves the domain as far as it goes without
    /// waiting: repeated polling is enough to get there, no thread has to help, and any number may.
    ///
    /// # Context
    /// Signal-safe, never blocks, allocates nothing; reads the counters of every CPU or, if fast,
    /// of every thread; [`Fast`](super::Fast): at most four `membarrier` system calls.
    #[inline]
    pub fn poll(&self, cookie: Cookie) -> bool {
        self.machine.poll(cookie.0)
    }

    /// Waits until every section that is open now has ended.
    ///
    /// Called inside a section of the same domain it waits for itself, for ever. That cannot be
    /// told from a section that another thread is about to end;
    /// [`synchronize_for`](Self::synchronize_for) gives up after a while.
    ///
    /// # Context
    /// Blocks: spins for about a microsecond, then yields, then sleeps for up to a millisecond at a
    /// time. Runs no callbacks.
    pub fn synchronize(&self) {
        let cookie = self.start_poll();
        let mut backoff = Backoff::new();
        while !self.poll(cookie) {
            backoff.wait();
        }
    }

    /// [`synchronize`](Self::synchronize) that gives up. The grace period goes on: another call
    /// need not begin anew.
    ///
    /// # Errors
    /// [`Stalled`]: some section stayed open for that long.
    #[cfg(all(feature = "std", not(loom)))]
    pub fn synchronize_for(&self, patience: core::time::Duration) -> Result<(), Stalled> {
        let cookie = self.start_poll();
        let start = std::time::Instant::now();
        let mut backoff = Backoff::new();
        while !self.poll(cookie) {
            if start.elapsed() >= patience {
                return Err(Stalled);
            }
            backoff.wait();
        }
        Ok(())
    }

    /// Calls `callback` with `head` after a grace period of this domain. Who runs it: see
    /// [`run_callbacks`](Self::run_callbacks). This function only queues.
    ///
    /// # Context
    /// Signal-safe, lock-free; no allocation, no system call.
    ///
    /// # Safety
    /// `head` points to a head (aligned) that is in no queue, stays valid until the callback runs,
    /// and may be used by `callback` then, on any thread, for everything that `callback` does with
    /// it (so derive the pointer from the whole object if the callback frees that).
    #[inline]
    pub unsafe fn call(&self, head: NonNull<Head>, callback: Callback) {
        // SAFETY: the caller's promise is the same.
        unsafe { self.callbacks.push(head, callback) };
    }

    /// Drops `value` after a grace period. Allocates three words beside it, and every 64th call
    /// runs the callbacks that are due.
    ///
    /// # Context
    /// Not for signal handlers: allocates, and runs the program's code. Does not wait.
    pub fn defer_drop<T: Send + 'static>(&self, value: Box<T>) {
        self.callbacks.defer_drop(value, &self.machine);
    }

    /// Runs the callbacks whose grace period is over and starts a grace period for the others.
    /// Returns how many it ran. One thread runs callbacks at a time, in the order of queueing,
    /// holding no lock.
    ///
    /// # Context
    /// Not for signal handlers: it runs the program's code. Waits for nothing itself.
    ///
    /// # Panics
    /// When a callback does, after the others have run: the first panic goes on here.
    pub fn run_callbacks(&self) -> usize {
        self.callbacks.run(&self.machine)
    }

    /// How many callbacks have panicked, wherever they ran.
    pub fn panicked_callbacks(&self) -> u64 {
        self.callbacks.panicked()
    }

    /// Whether callbacks are queued. A hint.
    pub fn has_callbacks(&self) -> bool {
        !self.callbacks.is_empty()
    }

    /// Waits until every callback queued before the call has run; runs callbacks meanwhile. Not
    /// inside a section of this domain, for which it would wait.
    ///
    /// # Context
    /// Blocks, like [`synchronize`](Self::synchronize); not for signal handlers. No malloc.
    ///
    /// # Panics
    /// Called from one of this domain's callbacks; or the kernel has no memory (16 KiB for some
    /// hundred barriers at a time). When a callback panics, after all have run: the first panic
    /// goes on here.
    pub fn barrier(&self) {
        self.callbacks.barrier(&self.machine);
    }

    /// [`barrier`](Self::barrier) that covers what callbacks queue, and what those queue: it goes
    /// on until callbacks queue nothing any more. A callback that always queues another makes it
    /// wait for ever, also if another thread runs it.
    ///
    /// # Context
    /// As for [`barrier`](Self::barrier).
    ///
    /// # Panics
    /// As [`barrier`](Self::barrier).
    pub fn drain(&self) {
        self.callbacks.drain(&self.machine);
    }

    /// Forgets every open section: for a fork child, where the sections of the threads that did not
    /// come along would stay open for ever. Counters do not say whose section is whose, hence by
    /// hand.
    ///
    /// # Safety
    /// The caller is the only thread, and neither it nor anybody else ends a section that was begun
    /// before.
    pub unsafe fn forget_readers(&self) {
        self.machine.forget();
    }
}

/// A section stayed open for longer than the caller wanted to wait.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stalled;

impl fmt::Display for Stalled {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a read-side section of the domain stayed open for too long")
    }
}

impl core::error::Error for Stalled {}

impl<K: Flavour> Default for SrcuDomain<K> {
    fn default() -> Self {
        Self::new()
    }
}

impl<K: Flavour> fmt::Debug for SrcuDomain<K> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Srcu")
            .field("machine", &self.machine)
            .field("callbacks", &self.callbacks)
            .finish()
    }
}

impl<K: Flavour> Drop for SrcuDomain<K> {
    fn drop(&mut self) {
        // Guards borrow the domain: no section is open.
        self.callbacks.run_all();
    }
}

/// An open section; it ends when this is dropped, on whichever thread. A leaked guard leaves it
/// open for ever.
#[derive(Debug)]
#[must_use = "the section ends when the guard is dropped"]
pub struct Guard<'d, K: Flavour = Normal> {
    domain: &'d SrcuDomain<K>,
    index: usize,
}

impl<K: Flavour> Drop for Guard<'_, K> {
    #[inline(always)]
    fn drop(&mut self) {
        self.domain.machine.leave(self.index);
    }
}
