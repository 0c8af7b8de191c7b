//! What is measured: how objects go, how many threads, how many at a time.

use crate::harness::Case;

/// Objects that can be on the way at once.
pub(super) const RING: usize = 256;
/// Bytes of an object.
pub(super) const OBJECT_SIZE: usize = 64;
/// Objects at a time in the bulk cases.
pub(super) const BULK: usize = 16;

/// Where objects go back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Flow {
    /// On the thread that got them.
    SameThread,
    /// On another thread: even seats get, odd seats give back.
    HandedOver,
}

/// One setting of the benchmark.
#[derive(Clone, Copy, Debug)]
pub(super) struct PoolCase {
    /// Where objects go back.
    pub(super) flow: Flow,
    /// Threads at work.
    pub(super) threads: usize,
    /// Objects at a time.
    pub(super) bulk: usize,
}

impl PoolCase {
    /// Objects a pool needs so that nobody ever finds it empty for want of objects.
    pub(super) fn capacity(&self) -> usize {
        let in_rings = if self.flow == Flow::HandedOver { self.threads * RING } else { 0 };
        (4 * self.threads * self.bulk + in_rings).next_power_of_two().max(1024)
    }
}

impl Case for PoolCase {
    fn threads(&self) -> usize {
        self.threads
    }

    fn title(&self) -> String {
        let flow = match self.flow {
            Flow::SameThread => "pop + write + push on the same thread",
            Flow::HandedOver => "pop + write, handed over, push on another thread",
        };
        format!(
            "{flow}, {} at a time, {} thread{}",
            self.bulk,
            self.threads,
            if self.threads == 1 { "" } else { "s" }
        )
    }
}
