//! The facade under loom.

use core::time::Duration;
use loom::sync::{Condvar, Mutex};

/// Atomic types and fences. A compiler fence orders nothing between modelled threads, so it is a
/// no-op here.
pub mod atomic {
    pub use loom::sync::atomic::{
        AtomicBool, AtomicI64, AtomicIsize, AtomicPtr, AtomicU8, AtomicU16, AtomicU32, AtomicU64,
        AtomicUsize, Ordering, fence,
    };

    /// Orders accesses against a signal handler of the same thread; loom does not model those.
    #[inline]
    pub fn compiler_fence(_order: Ordering) {}
}

/// Spin hints: under the model a spinning thread has to let the others run.
pub mod hint {
    pub use loom::hint::spin_loop;
}

/// Threads.
pub mod thread {
    pub use loom::thread::{JoinHandle, spawn, yield_now};
}

pub use loom::cell::UnsafeCell;
pub use loom::sync::Arc;

/// The word, and the kernel's queue of those who sleep on it. The lock is the kernel's own: it
/// compares the word and enters the queue under it.
#[derive(Debug)]
pub struct Futex {
    word: atomic::AtomicU32,
    queue: Mutex<()>,
    woken: Condvar,
}

impl Futex {
    /// A word that is 0.
    pub fn new() -> Self {
        Self { word: atomic::AtomicU32::new(0), queue: Mutex::new(()), woken: Condvar::new() }
    }

    /// The word.
    pub fn load(&self) -> u32 {
        self.word.load(atomic::Ordering::Acquire)
    }

    /// Adds one to the word.
    pub fn advance(&self) {
        self.word.fetch_add(1, atomic::Ordering::Release);
    }

    /// Sleeps until it is woken, if the word is `seen`. A model has no clock: a time is over as
    /// soon as it is asked for.
    pub fn wait(&self, seen: u32, until: Option<&Deadline>) -> bool {
        let queue = self.queue.lock().expect("no panic under it");
        if self.word.load(atomic::Ordering::Relaxed) != seen {
            return true;
        }
        if until.is_none() {
            drop(self.woken.wait(queue).expect("no panic under it"));
        }
        until.is_none()
    }

    /// Wakes one sleeper.
    pub fn wake_one(&self) {
        let _queue = self.queue.lock().expect("no panic under it");
        self.woken.notify_one();
    }

    /// Wakes every sleeper.
    pub fn wake_all(&self) {
        let _queue = self.queue.lock().expect("no panic under it");
        self.woken.notify_all();
    }
}

impl Default for Futex {
    fn default() -> Self {
        Self::new()
    }
}

/// A point in time, of which a model has none.
#[derive(Clone, Copy, Debug)]
pub struct Deadline;

impl Deadline {
    /// Over.
    pub fn after(_time: Duration) -> Self {
        Self
    }
}
