//! What a thread's record holds for fast domains: how many sections of each it has begun and ended.

use percpu::sync::atomic::AtomicU64;

/// How many fast domains can have counters in the threads' records: what fits into 512 bytes beside
/// the rest.
pub(crate) const SLOTS: usize = 15;

/// One domain's counters in one thread's record. Written by the thread and its signal handlers
/// only.
#[derive(Debug, Default)]
pub(crate) struct Sections {
    pub(super) begun: [AtomicU64; 2],
    pub(super) ended: [AtomicU64; 2],
}
