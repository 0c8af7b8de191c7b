//! Numbers of threads, each handed out once.

use core::sync::atomic::{AtomicU64, Ordering};

/// The next number to hand out. A plain `core` atomic also under loom: numbers are not part of any
/// modelled protocol.
static NEXT: AtomicU64 = AtomicU64::new(1);

/// A number that no thread has.
pub(crate) fn take() -> u64 {
    // Relaxed: only uniqueness matters.
    NEXT.fetch_add(1, Ordering::Relaxed)
}

/// Every number handed out so far is below this.
#[cfg(not(any(loom, simulated)))]
pub(crate) fn next() -> u64 {
    NEXT.load(Ordering::Relaxed)
}
