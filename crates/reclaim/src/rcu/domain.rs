//! A domain: readers, grace periods and callbacks that belong together.
#![allow(unsafe_code)]

use super::machine::Machine;
use super::reader::ReaderState;
use crate::backoff::Backoff;
use crate::callbacks::{Callback, Callbacks, GracePeriods, Head};
use crate::policy::Asymmetric;
use core::fmt;
use core::marker::PhantomData;
use core::ptr::NonNull;
use percpu::{Record, thread};

/// A point in a domain's time, to be asked about later.
///
/// It keeps its meaning for 2^47 grace periods (four years of one each microsecond); an older one
/// may read as not elapsed, which is the safe side. It means nothing to another domain.
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

/// Why a domain could not do what it was asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Error {
    /// The calling thread is inside a section of this domain and would wait for itself.
    InsideSection,
    /// The kernel has no memory for this thread's record, or the process no pthread key left that
    /// would give the record back at the thread's end.
    OutOfMemory,
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::InsideSection => {
                "waiting for a grace period inside a read-side section waits for itself"
            }
            Self::OutOfMemory => "no memory for a reader record",
        })
    }
}

impl core::error::Error for Error {}

/// Readers, grace periods and callbacks that belong together.
///
/// Most programs need [`Domain::global`] only, which the functions of [the module](crate::rcu) use:
/// its readers are found through a thread-local slot. A domain of one's own keeps the slow readers
/// of one part of a program from holding up another; its readers carry a [`Reader`].
///
/// # Examples
/// ```
/// use reclaim::rcu::Domain;
///
/// let domain = Domain::new();
/// let reader = domain.reader()?;
/// let cookie = domain.start_poll();
/// {
///     let _section = reader.lock();
///     let cookie = domain.start_poll();
///     assert!(!domain.poll(cookie));
/// }
/// assert!(domain.poll(cookie));
/// # Ok::<(), reclaim::rcu::Error>(())
/// ```
#[derive(Debug)]
pub struct Domain {
    machine: Machine<Asymmetric>,
    callbacks: Callbacks,
}

impl Domain {
    /// Where period numbers start: close enough to their wrap that a program which runs for a while
    /// has seen it.
    const START: u64 = (1_u64 << 16).wrapping_neg() << 8;

    crate::policy::const_unless_modelled! {
        /// A domain without readers. Maps nothing before the first [`reader`](Self::reader).
        pub fn new() -> Self {
            Self { machine: Machine::new(Self::START), callbacks: Callbacks::new() }
        }
    }

    /// A record of this domain for the calling thread.
    ///
    /// # Context
    /// Signal-safe after [`percpu::init`], lock-free; at most one `mmap` system call.
    ///
    /// # Errors
    /// [`Error::OutOfMemory`].
    pub fn reader(&self) -> Result<Reader<'_>, Error> {
        Ok(Reader { record: self.acquire()?, domain: self, _of_one_thread: PhantomData })
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
    /// [`synchronize`](Self::synchronize): what readers did in sections that were open at the time
    /// of the cookie happened before, and sections that begin later see all that the caller did
    /// before taking the cookie.
    ///
    /// If not, moves the domain as far as it goes without waiting, so that repeated polling is
    /// enough to get there. No thread has to help, and any number may.
    ///
    /// # Context
    /// Signal-safe, never blocks, allocates nothing; at most two `membarrier` system calls (once
    /// per grace period, however often it is polled).
    #[inline]
    pub fn poll(&self, cookie: Cookie) -> bool {
        self.machine.poll(cookie.0)
    }

    /// Waits until every section that is open now has ended.
    ///
    /// # Context
    /// Blocks: spins for about a microsecond, then yields, then sleeps for up to a millisecond at a
    /// time. Runs no callbacks.
    ///
    /// # Panics
    /// The calling thread is inside a section of this domain.
    /// [`try_synchronize`](Self::try_synchronize) returns an error instead.
    #[track_caller]
    pub fn synchronize(&self) {
        if let Err(e) = self.try_synchronize() {
            panic!("rcu: {e}");
        }
    }

    /// [`synchronize`](Self::synchronize) that reports the one thing that can go wrong.
    ///
    /// # Errors
    /// [`Error::InsideSection`]; nothing was waited for.
    pub fn try_synchronize(&self) -> Result<(), Error> {
        self.refuse_inside_section()?;
        let cookie = self.start_poll();
        let mut backoff = Backoff::new();
        while !self.poll(cookie) {
            backoff.wait();
        }
        Ok(())
    }

    /// Calls `callback` with `head` after a grace period. Who runs it: see
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

    /// Runs the callbacks whose grace period is over and starts a grace period for the others.
    /// Returns how many it ran.
    ///
    /// Callbacks run here, in [`barrier`](Self::barrier), in [`defer_drop`](Self::defer_drop) every
    /// now and then, and in a [`Helper`](crate::rcu::Helper); one thread at a time, in the order of
    /// queueing, holding no lock. A callback may queue others, synchronize, and call this function
    /// (which then does nothing). It may not call [`barrier`](Self::barrier).
    ///
    /// # Context
    /// Not for signal handlers: it runs the program's code. Waits for nothing itself.
    ///
    /// # Panics
    /// When a callback does, after the others have run: the first panic goes on here.
    pub fn run_callbacks(&self) -> usize {
        self.callbacks.run(&self.machine)
    }

    /// As [`run_callbacks`](Self::run_callbacks), for a thread with no caller of the user's:
    /// panics are counted.
    #[cfg(all(feature = "std", not(loom)))]
    pub(super) fn run_callbacks_alone(&self) -> usize {
        self.callbacks.run_catching(&self.machine, &mut crate::panics::Panics::none())
    }

    /// How many callbacks have panicked, wherever they ran. 0 without the feature `std`.
    pub fn panicked_callbacks(&self) -> u64 {
        self.callbacks.panicked()
    }

    /// Whether callbacks are queued. A hint.
    pub fn has_callbacks(&self) -> bool {
        !self.callbacks.is_empty()
    }

    /// Waits until every callback queued before the call has run; runs callbacks meanwhile. Needed
    /// before code or data that callbacks use goes away; if callbacks queue others, it takes
    /// [`drain`](Self::drain).
    ///
    /// # Context
    /// Blocks, like [`synchronize`](Self::synchronize); not for signal handlers. No malloc.
    ///
    /// # Panics
    /// The calling thread is inside a section of this domain, or inside one of its callbacks; or
    /// the kernel has no memory (16 KiB for some hundred barriers at a time). When a callback
    /// panics, after all have run: the first panic goes on here.
    #[track_caller]
    pub fn barrier(&self) {
        if let Err(e) = self.refuse_inside_section() {
            panic!("rcu: {e}");
        }
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
    #[track_caller]
    pub fn drain(&self) {
        if let Err(e) = self.refuse_inside_section() {
            panic!("rcu: {e}");
        }
        self.callbacks.drain(&self.machine);
    }

    /// Drops `value` after a grace period. Allocates three words beside it, and every 64th call
    /// runs the callbacks that are due.
    ///
    /// For what readers may still look at: the caller has made the value unreachable for new
    /// readers and keeps no reference.
    ///
    /// # Context
    /// Not for signal handlers: allocates, and runs the program's code. Does not wait.
    #[cfg(feature = "alloc")]
    pub fn defer_drop<T: Send + 'static>(&self, value: alloc::boxed::Box<T>) {
        self.callbacks.defer_drop(value, &self.machine);
    }

    pub(super) fn machine(&self) -> &Machine<Asymmetric> {
        &self.machine
    }

    /// A record for the calling thread, marked as its own.
    pub(super) fn acquire(&self) -> Result<&Record<ReaderState>, Error> {
        let me = thread::id().get();
        let record = self.machine.readers().acquire().ok_or(Error::OutOfMemory)?;
        record.set_thread(me);
        Ok(record)
    }

    fn refuse_inside_section(&self) -> Result<(), Error> {
        let me = thread::id().get();
        let inside = self
            .machine
            .readers()
            .iter()
            .any(|r| r.thread() == me && r.is_inside() && r.is_alive());
        if inside { Err(Error::InsideSection) } else { Ok(()) }
    }
}

impl Default for Domain {
    fn default() -> Self {
        Self::new()
    }
}

impl Drop for Domain {
    fn drop(&mut self) {
        // Readers borrow the domain: none is left.
        self.callbacks.run_all();
    }
}

/// One thread's ticket to a domain of one's own.
///
/// Stays on its thread. Costs 512 bytes while it lives; they are used again by the domain's next
/// reader. Dropping it ends what leaked guards left open; a reader that is itself leaked inside a
/// section holds its domain up for ever.
#[derive(Debug)]
pub struct Reader<'d> {
    record: &'d Record<ReaderState>,
    domain: &'d Domain,
    _of_one_thread: PhantomData<*mut ()>,
}

impl Reader<'_> {
    /// Begins a section, which ends when the guard is dropped. Sections nest.
    ///
    /// # Context
    /// Signal-safe, wait-free; no allocation, no system call.
    #[inline]
    pub fn lock(&self) -> Guard<'_> {
        self.domain.machine.enter(self.record);
        Guard { record: self.record, _of_one_thread: PhantomData }
    }

    /// Whether a section of this reader is open.
    pub fn is_inside(&self) -> bool {
        self.record.is_inside()
    }
}

impl Drop for Reader<'_> {
    fn drop(&mut self) {
        // A section can be open only if its guard was leaked. Nothing read under it can be alive:
        // guards borrow this reader.
        self.record.reset();
        self.record.release();
    }
}

/// An open read-side section; it ends when this is dropped. Stays on its thread.
///
/// A leaked guard leaves the section open until its thread ends (or its [`Reader`] is dropped).
///
/// ```compile_fail
/// fn is_send<T: Send>(_: T) {}
/// is_send(reclaim::rcu::read_lock());
/// ```
#[derive(Debug)]
#[must_use = "the section ends when the guard is dropped"]
pub struct Guard<'r> {
    record: &'r Record<ReaderState>,
    _of_one_thread: PhantomData<*mut ()>,
}

impl<'r> Guard<'r> {
    /// A guard of a section that was just entered.
    #[inline(always)]
    pub(super) fn of(record: &'r Record<ReaderState>) -> Self {
        Self { record, _of_one_thread: PhantomData }
    }
}

impl Drop for Guard<'_> {
    #[inline(always)]
    fn drop(&mut self) {
        self.record.leave();
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    #[test]
    fn readers_that_come_and_go_use_the_same_records() {
        let domain = Domain::new();
        let records = || domain.machine.readers().iter().count();
        drop(domain.reader());
        let few = records();
        for _ in 0..1000 {
            let readers = [domain.reader(), domain.reader()];
            assert!(readers.iter().all(Result::is_ok));
        }
        assert_eq!(records(), few);
        assert!(domain.machine.readers().iter().all(|r| !r.is_alive() && !r.is_inside()));
    }
}
