//! Thread numbers, and a sleep for loops that wait.

use crate::arch;
use crate::tls::THREAD_ID_SLOT;
use core::num::NonZeroU64;
use core::sync::atomic::{AtomicU64, Ordering};

/// The next number to hand out. A plain `core` atomic also under loom: numbers are not part of any modelled protocol.
static NEXT: AtomicU64 = AtomicU64::new(1);

/// This thread's number: never given to another thread of this process, and kept by the surviving thread of a fork.
///
/// # Context
/// Signal-safe, never allocates, never blocks.
#[inline]
pub fn id() -> NonZeroU64 {
    match NonZeroU64::new(arch::tls::get(THREAD_ID_SLOT).addr() as u64) {
        Some(id) => id,
        None => assign(),
    }
}

#[cold]
#[inline(never)]
fn assign() -> NonZeroU64 {
    // Relaxed: only uniqueness matters. A signal handler that runs between the two lines takes a number of its own, which the store below replaces:
    // whoever compares numbers does so after its thread's first use outside of handlers, or sees one that no other thread has.
    let id = NEXT.fetch_add(1, Ordering::Relaxed);
    arch::tls::set(THREAD_ID_SLOT, core::ptr::without_provenance_mut(id as usize));
    NonZeroU64::new(id).unwrap_or(NonZeroU64::MIN)
}

/// Sleeps for `time`, or until a signal handler has run: for a loop that looks again anyway.
///
/// `std::thread::sleep` goes back to sleep for what the kernel says is left, and the kernel adds the timer slack (50 µs) to that. Signals that arrive faster
/// make what is left grow, and the sleep never ends (nanosleep(2), "BUGS"): a profiler's timer could hold up a writer for ever.
///
/// # Context
/// Signal-safe, never allocates, blocks for `time` and, by default, up to 50 µs more. May change `errno`.
#[cfg(not(loom))]
pub fn nap(time: core::time::Duration) {
    crate::sys::nanosleep::once(time);
}

/// Every number handed out so far is below this.
#[cfg(not(loom))]
pub(crate) fn next() -> u64 {
    NEXT.load(Ordering::Relaxed)
}
