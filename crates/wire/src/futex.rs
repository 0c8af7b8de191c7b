//! Waiting on a word of shared memory, across processes.

use core::sync::atomic::{AtomicU32, Ordering};
use core::time::Duration;
use sys::futex::{self, Scope};
use sys::time::{CLOCK_MONOTONIC, Timespec, clock_gettime};

/// The time by the clock that nobody sets. Where a filter forbids to ask, it is the end of all
/// time: nobody waits.
pub(crate) fn now() -> Timespec {
    clock_gettime(CLOCK_MONOTONIC).unwrap_or(Timespec { sec: i64::MAX, nsec: 0 })
}

/// Waits until `word` is not `value`, or up to `patience`.
pub(crate) fn wait(word: &AtomicU32, value: u32, patience: Duration) {
    let end = now().after(patience);
    // Relaxed: callers load again with the ordering they need.
    while word.load(Ordering::Relaxed) == value && now() < end {
        // Whatever it says: word and clock are looked at again.
        let _ = futex::wait(word, value, Some(&end), Scope::Shared);
    }
}

/// Wakes everybody who waits on `word`.
pub(crate) fn wake(word: &AtomicU32) {
    futex::wake(word, i32::MAX, Scope::Shared);
}
