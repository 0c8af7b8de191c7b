//! A modelled machine, which has no signal handlers: a load and a store are an add.

use percpu::sync::atomic::{AtomicU64, Ordering};

/// Adds one with Release order.
#[inline(always)]
pub(crate) fn add_one(word: &AtomicU64) {
    // Release pairs with the Acquire in `PerThread::ended`.
    word.store(word.load(Ordering::Relaxed).wrapping_add(1), Ordering::Release);
}
