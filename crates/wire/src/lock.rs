//! A lock among the threads of one process that no fork can leave taken for ever.
//!
//! The word holds the process of whoever has it, 0 if nobody does. A child of `fork` (or `_Fork`,
//! or a raw clone) finds its parent's number there when another thread of the parent had the lock:
//! that thread is not in the child, so the child takes it over. What it protects has to be right
//! after each step of a holder, for the same reason.

use core::sync::atomic::{AtomicU32, Ordering};
use sys::process::getpid;
use sys::thread::sched_yield;

#[derive(Debug, Default)]
pub(crate) struct Lock(AtomicU32);

impl Lock {
    /// Runs `f` with the lock.
    ///
    /// # Context
    /// Spins, and gives up the CPU, while another thread has it. Not from a signal handler that may
    /// have interrupted a holder: callers have signals blocked.
    pub(crate) fn with<R>(&self, f: impl FnOnce() -> R) -> R {
        // From the kernel: after a raw clone nobody else has told us.
        let own = getpid().cast_unsigned();
        let mut found = 0;
        // Acquire pairs with the Release below.
        while let Err(holder) =
            self.0.compare_exchange(found, own, Ordering::Acquire, Ordering::Relaxed)
        {
            found = if holder == own { 0 } else { holder };
            if holder == own {
                sched_yield();
            }
        }
        let result = f();
        self.0.store(0, Ordering::Release);
        result
    }
}

#[cfg(test)]
#[allow(unsafe_code)]
mod tests {
    use super::Lock;
    use core::cell::UnsafeCell;
    use core::sync::atomic::{AtomicU32, Ordering};

    struct Plain(UnsafeCell<u64>);
    // SAFETY: only touched with the lock held, which is what is tested.
    unsafe impl Sync for Plain {}

    #[test]
    fn one_at_a_time_and_not_by_the_dead() {
        // Another process's number: a fork left it so.
        let lock = Lock(AtomicU32::new(1));
        let plain = Plain(UnsafeCell::new(0));
        let plain = &plain;
        std::thread::scope(|s| {
            for _ in 0..8 {
                s.spawn(|| {
                    for _ in 0..2000 {
                        lock.with(|| {
                            // SAFETY: the lock is held.
                            unsafe { *plain.0.get() += 1 };
                        });
                    }
                });
            }
        });
        // SAFETY: nobody else is left.
        assert_eq!(unsafe { *plain.0.get() }, 16_000);
        assert_eq!(lock.0.load(Ordering::Relaxed), 0);
    }
}
