//! The facade on the machine itself.

use core::time::Duration;
use sys::Errno;
use sys::futex::{self, Scope};
use sys::time::{CLOCK_MONOTONIC, Timespec, clock_gettime};

/// Atomic types and fences.
pub mod atomic {
    pub use core::sync::atomic::{
        AtomicBool, AtomicI64, AtomicIsize, AtomicPtr, AtomicU8, AtomicU16, AtomicU32, AtomicU64,
        AtomicUsize, Ordering, compiler_fence, fence,
    };
}

/// Spin hints.
pub mod hint {
    pub use core::hint::spin_loop;
}

/// Threads.
#[cfg(feature = "std")]
pub mod thread {
    pub use std::thread::{JoinHandle, spawn, yield_now};
}

/// Reference-counted sharing, as the model checker needs to see it.
#[cfg(feature = "alloc")]
pub use alloc::sync::Arc;

/// A word on which threads can sleep (`futex(2)`, private to the process).
///
/// Whoever changes the word and then wakes never misses a sleeper: a thread falls asleep only while
/// the word still is what it [read](Self::load) before it looked whether it has to sleep.
#[derive(Debug)]
pub struct Futex {
    word: atomic::AtomicU32,
}

impl Futex {
    /// A word that is 0.
    pub const fn new() -> Self {
        Self { word: atomic::AtomicU32::new(0) }
    }

    /// The word. Acquire: pairs with [`advance`](Self::advance).
    ///
    /// # Context
    /// Signal-safe.
    #[inline]
    pub fn load(&self) -> u32 {
        self.word.load(atomic::Ordering::Acquire)
    }

    /// Adds one to the word (wrapping). Release: who reads the new word sees what came before.
    ///
    /// # Context
    /// Signal-safe.
    #[inline]
    pub fn advance(&self) {
        self.word.fetch_add(1, atomic::Ordering::Release);
    }

    /// Sleeps while the word is `seen`, until it is woken, or for no reason. False: `until` is over
    /// and nobody woke this thread.
    ///
    /// # Context
    /// Blocks; one system call; never allocates; leaves `errno` alone. Signal-safe, for what it is
    /// worth.
    pub fn wait(&self, seen: u32, until: Option<&Deadline>) -> bool {
        let until = until.map(|until| &until.0);
        futex::wait(&self.word, seen, until, Scope::Private) != Err(Errno::ETIMEDOUT)
    }

    /// Wakes one thread that sleeps, if there is one.
    ///
    /// # Context
    /// Signal-safe, never allocates, does not block; one system call; leaves `errno` alone.
    pub fn wake_one(&self) {
        futex::wake(&self.word, 1, Scope::Private);
    }

    /// Wakes every thread that sleeps.
    ///
    /// # Context
    /// As [`wake_one`](Self::wake_one).
    pub fn wake_all(&self) {
        futex::wake(&self.word, i32::MAX, Scope::Private);
    }
}

impl Default for Futex {
    fn default() -> Self {
        Self::new()
    }
}

/// A point in time at which a sleep ends, by the clock that nobody sets (`CLOCK_MONOTONIC`).
#[derive(Clone, Copy, Debug)]
pub struct Deadline(Timespec);

impl Deadline {
    /// `time` from now; what is beyond the clock's range is its end.
    ///
    /// # Context
    /// Signal-safe; one system call.
    pub fn after(time: Duration) -> Self {
        // The clock is there on every kernel; a filter that forbids it makes the time be over.
        Self(clock_gettime(CLOCK_MONOTONIC).unwrap_or_default().after(time))
    }
}

/// A cell whose accesses a model checker can see.
#[derive(Debug, Default)]
#[repr(transparent)]
pub struct UnsafeCell<T: ?Sized>(core::cell::UnsafeCell<T>);

impl<T> UnsafeCell<T> {
    /// Wraps `value`.
    pub const fn new(value: T) -> Self {
        Self(core::cell::UnsafeCell::new(value))
    }

    /// Returns the wrapped value.
    pub fn into_inner(self) -> T {
        self.0.into_inner()
    }
}

impl<T: ?Sized> UnsafeCell<T> {
    /// Calls `f` with a pointer for reading. Dereferencing it is the caller's promise that nobody
    /// writes meanwhile.
    #[inline(always)]
    pub fn with<R>(&self, f: impl FnOnce(*const T) -> R) -> R {
        f(self.0.get())
    }

    /// Calls `f` with a pointer for writing. Dereferencing it is the caller's promise of exclusive
    /// access.
    #[inline(always)]
    pub fn with_mut<R>(&self, f: impl FnOnce(*mut T) -> R) -> R {
        f(self.0.get())
    }
}
