//! An atomic add on a line that no other thread writes.

use percpu::sync::atomic::{AtomicU64, Ordering};

/// Adds one with Release order.
#[inline(always)]
pub(crate) fn add_one(word: &AtomicU64) {
    // Release pairs with the Acquire in `PerThread::ended`.
    word.fetch_add(1, Ordering::Release);
}
