//! What the threads of a run report.

use percpu::CachePadded;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};

/// What the threads report. Relaxed throughout: statistics, and a flag that says stop.
#[derive(Default)]
pub(crate) struct Counts {
    pub(crate) reads: Vec<CachePadded<AtomicU64>>,
    pub(crate) handed_over: AtomicU64,
    pub(crate) in_handlers: AtomicU64,
    pub(crate) updates: AtomicU64,
    pub(crate) max_stage: AtomicU32,
    pub(crate) stop: AtomicBool,
    pub(crate) running: AtomicU64,
    pub(crate) panics: Mutex<Vec<String>>,
}

impl Counts {
    /// A reader looked at an object of this stage. Signal-safe.
    pub(crate) fn see(&self, stage: u32) {
        if stage > self.max_stage.load(Ordering::Relaxed) {
            self.max_stage.fetch_max(stage, Ordering::Relaxed);
        }
    }

    pub(crate) fn stopped(&self) -> bool {
        self.stop.load(Ordering::Relaxed)
    }

    pub(crate) fn total_reads(&self) -> u64 {
        self.reads.iter().map(|n| n.load(Ordering::Relaxed)).sum()
    }
}
