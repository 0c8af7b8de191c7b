//! The facade on a modelled machine.

use core::time::Duration;
use coresim::{Picoseconds, system, time};

/// Atomic types and fences.
pub mod atomic {
    pub use coresim::sync::atomic::{
        AtomicBool, AtomicI64, AtomicIsize, AtomicPtr, AtomicU8, AtomicU16, AtomicU32, AtomicU64,
        AtomicUsize, Ordering, compiler_fence, fence,
    };
}

/// Spin hints.
pub mod hint {
    pub use coresim::hint::spin_loop;
}

/// Threads.
pub mod thread {
    pub use coresim::thread::{JoinHandle, spawn, yield_now};
}

/// Its count is not seen by the model: it is for setting up.
pub use alloc::sync::Arc;
pub use coresim::cell::UnsafeCell;

/// A word on which threads can sleep.
#[derive(Debug)]
pub struct Futex {
    word: atomic::AtomicU32,
}

impl Futex {
    /// A word that is 0.
    pub const fn new() -> Self {
        Self { word: atomic::AtomicU32::new(0) }
    }

    /// The word.
    pub fn load(&self) -> u32 {
        self.word.load(atomic::Ordering::Acquire)
    }

    /// Adds one to the word.
    pub fn advance(&self) {
        self.word.fetch_add(1, atomic::Ordering::Release);
    }

    /// Sleeps until it is woken, if the word is `seen`. False: `until` is over.
    pub fn wait(&self, seen: u32, until: Option<&Deadline>) -> bool {
        let left = until
            .map(|until| Duration::from_nanos(until.0.saturating_sub(time::now()).div_ceil(1_000)));
        system::futex_wait(&self.word, seen, left)
    }

    /// Wakes one sleeper.
    pub fn wake_one(&self) {
        system::futex_wake(&self.word, 1);
    }

    /// Wakes every sleeper.
    pub fn wake_all(&self) {
        system::futex_wake(&self.word, usize::MAX);
    }
}

impl Default for Futex {
    fn default() -> Self {
        Self::new()
    }
}

/// A point in the machine's time at which a sleep ends.
#[derive(Clone, Copy, Debug)]
pub struct Deadline(Picoseconds);

impl Deadline {
    /// `time` from now; what is beyond the clock's range is its end.
    pub fn after(time: Duration) -> Self {
        let picoseconds = Picoseconds::try_from(time.as_nanos().saturating_mul(1_000));
        Self(time::now().saturating_add(picoseconds.unwrap_or(Picoseconds::MAX)))
    }
}
