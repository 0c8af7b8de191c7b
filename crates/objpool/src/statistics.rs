//! What a pool counts.

use percpu::sync::atomic::AtomicU64;

/// A pool's counters; exact when no operation is in progress.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Statistics {
    /// Pops that gave an object.
    pub hits: u64,
    /// Pops that gave `None`, after `close` too (the kernel's `nmissed`).
    pub misses: u64,
    /// Waiting pops that found nothing at first. At their end they are hits or misses.
    pub waits: u64,
    /// Hits whose object lay with another slot.
    pub steals: u64,
    /// Pushes on another slot than the object's pop.
    pub remote_pushes: u64,
    /// Objects that are out, but for the detached ones.
    pub in_use: usize,
    /// Objects that were taken out for good ([`Pooled::into_inner`](crate::Pooled::into_inner)).
    pub detached: usize,
    /// How many different objects were ever out: never less than the most that were out at once.
    /// Equal to it where the last pushed is the next popped and one slot is used
    /// ([`CasLifo`](crate::CasLifo); the per-CPU LIFO lists on one CPU); above it otherwise,
    /// because another slot's pop takes another object.
    pub high_water: usize,
}

/// One slot's share of what is rare enough to be counted by atomic additions.
#[derive(Debug)]
pub(crate) struct Tally {
    pub(crate) misses: AtomicU64,
    pub(crate) waits: AtomicU64,
    pub(crate) steals: AtomicU64,
    pub(crate) remote_pushes: AtomicU64,
}

impl Tally {
    pub(crate) fn new() -> Self {
        Self {
            misses: AtomicU64::new(0),
            waits: AtomicU64::new(0),
            steals: AtomicU64::new(0),
            remote_pushes: AtomicU64::new(0),
        }
    }
}
