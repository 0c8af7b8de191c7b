//! Thread numbers, and a sleep for loops that wait.

use crate::numbers;
use crate::tls::{THREAD_ID_SLOT, slots};
use core::num::NonZeroU64;

/// This thread's number: never given to another thread of this process, and kept by the surviving
/// thread of a fork (in a freestanding image that gets a new one; and threads that have the same
/// words one after the other have the same number).
///
/// # Context
/// Signal-safe, never allocates, never blocks.
#[inline]
pub fn id() -> NonZeroU64 {
    match NonZeroU64::new(slots::get(THREAD_ID_SLOT).addr() as u64) {
        Some(id) => id,
        None => assign(),
    }
}

#[cold]
#[inline(never)]
fn assign() -> NonZeroU64 {
    // In a freestanding image a fork child is settled before it hands out its first number.
    #[cfg(not(any(feature = "std", loom, simulated)))]
    crate::fork::prepare();
    // A signal handler that runs between the two lines takes a number of its own, which the store
    // below replaces: whoever compares numbers does so after its thread's first use outside of
    // handlers, or sees one that no other thread has.
    let id = numbers::take();
    slots::set(THREAD_ID_SLOT, core::ptr::without_provenance_mut(id as usize));
    NonZeroU64::new(id).unwrap_or(NonZeroU64::MIN)
}

/// Sleeps for `time`, or until a signal handler has run: for a loop that looks again anyway.
///
/// `std::thread::sleep` goes back to sleep for what the kernel says is left, and the kernel adds
/// the timer slack (50 µs) to that. Signals that arrive faster make what is left grow, and the
/// sleep never ends (nanosleep(2), "BUGS"): a profiler's timer could hold up a writer for ever.
///
/// # Context
/// Signal-safe, never allocates, blocks for `time` and, by default, up to 50 µs more. Leaves
/// `errno` alone.
#[cfg(not(loom))]
pub fn nap(time: core::time::Duration) {
    #[cfg(simulated)]
    coresim::thread::sleep(time);
    // It can only fail for a signal, after which the caller looks again as after the time.
    #[cfg(not(simulated))]
    let _ = sys::time::nanosleep(time);
}

/// Lets others run on this CPU first (`sched_yield(2)`).
///
/// # Context
/// Signal-safe, never allocates; one system call.
#[cfg(not(loom))]
pub fn yield_now() {
    #[cfg(simulated)]
    coresim::thread::yield_now();
    #[cfg(not(simulated))]
    sys::thread::sched_yield();
}
