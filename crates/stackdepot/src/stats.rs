//! Counters, kept in the region's header so that every process that maps it can read them.

use crate::error::Miss;
use crate::layout::{Layout, head};
use percpu::sync::atomic::{AtomicU64, Ordering};

/// One counter word each. Only slow paths count: a hit writes nothing.
#[derive(Clone, Copy, Debug)]
#[repr(usize)]
pub(crate) enum Counter {
    Empty,
    Disabled,
    Full,
    GrowthRefused,
    Contended,
    Persistent,
    PersistentBytes,
    Allocated,
    Freed,
    Promoted,
    Saturated,
    Reused,
    FreeRecords,
    BadPuts,
    Corrupt,
    OverflowBuckets,
}

const _: () = assert!(
    Counter::OverflowBuckets as usize + 1 == head::COUNTER_WORDS,
    "one header word for each counter"
);

impl From<Miss> for Counter {
    fn from(miss: Miss) -> Self {
        match miss {
            Miss::Empty => Counter::Empty,
            Miss::Disabled => Counter::Disabled,
            Miss::Full => Counter::Full,
            Miss::GrowthRefused => Counter::GrowthRefused,
            Miss::Contended => Counter::Contended,
        }
    }
}

/// Adds to a counter; subtracts with a negative number.
pub(crate) fn count(words: &[AtomicU64], counter: Counter, by: i64) {
    if let Some(w) = words.get(head::COUNTERS + counter as usize) {
        // Relaxed: counters order nothing.
        w.fetch_add(by.cast_unsigned(), Ordering::Relaxed);
    }
}

/// What a depot did so far. Read one counter after the other: exact while nobody saves or puts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Stats {
    /// Saves without frames.
    pub empty: u64,
    /// Saves refused because saving was switched off or this process may not write.
    pub disabled: u64,
    /// Saves refused because the budget was used up.
    pub full: u64,
    /// Saves refused because growth was forbidden by the caller or refused by the kernel.
    pub growth_refused: u64,
    /// Saves refused because a bucket stayed locked.
    pub contended: u64,
    /// Persistent records, those that became so included.
    pub persistent: u64,
    /// Bytes of the persistent records, heads included.
    pub persistent_bytes: u64,
    /// Records ever made with a reference.
    pub allocated: u64,
    /// Records ever evicted.
    pub freed: u64,
    /// Records made with a reference that became persistent; `saturated` included.
    pub promoted: u64,
    /// Records that became persistent because their count reached its end.
    pub saturated: u64,
    /// Records that took the place of an evicted one.
    pub reused: u64,
    /// Places on the free lists, elapsed or not.
    pub free_records: u64,
    /// Puts (and gets) refused: unbalanced, or of no handle of this depot.
    pub bad_puts: u64,
    /// Contradictions found in the region. Not 0: somebody else wrote into it, or a wild handle was
    /// put.
    pub corrupt: u64,
    /// Overflow buckets in the pools.
    pub overflow_buckets: u64,
    /// Bytes of header, free-list heads and bucket table.
    pub fixed_bytes: u64,
    /// Bytes of pool memory handed out, free records included.
    pub pool_used_bytes: u64,
    /// Bytes of pool memory mapped so far.
    pub pool_bytes: u64,
    /// The most that the depot may use, everything included.
    pub budget_bytes: u64,
}

impl Stats {
    /// Records with references, now.
    pub fn in_use(&self) -> u64 {
        self.allocated.saturating_sub(self.freed).saturating_sub(self.promoted)
    }

    /// Stacks in the depot, now.
    pub fn stacks(&self) -> u64 {
        self.persistent + self.in_use()
    }

    /// All saves that gave no handle.
    pub fn misses(&self) -> u64 {
        self.empty + self.disabled + self.full + self.growth_refused + self.contended
    }

    pub(crate) fn read(words: &[AtomicU64], layout: &Layout) -> Self {
        // Relaxed: each value is right for itself.
        let word = |i: usize| words.get(i).map_or(0, |w| w.load(Ordering::Relaxed));
        let counter = |c: Counter| word(head::COUNTERS + c as usize);
        let fixed = layout.pools as u64;
        Self {
            empty: counter(Counter::Empty),
            disabled: counter(Counter::Disabled),
            full: counter(Counter::Full),
            growth_refused: counter(Counter::GrowthRefused),
            contended: counter(Counter::Contended),
            persistent: counter(Counter::Persistent),
            persistent_bytes: counter(Counter::PersistentBytes),
            allocated: counter(Counter::Allocated),
            freed: counter(Counter::Freed),
            promoted: counter(Counter::Promoted),
            saturated: counter(Counter::Saturated),
            reused: counter(Counter::Reused),
            free_records: counter(Counter::FreeRecords),
            bad_puts: counter(Counter::BadPuts),
            corrupt: counter(Counter::Corrupt),
            overflow_buckets: counter(Counter::OverflowBuckets),
            fixed_bytes: fixed * 8,
            pool_used_bytes: word(head::NEXT).saturating_sub(fixed).saturating_mul(8),
            pool_bytes: word(head::GROWN).saturating_sub(fixed).saturating_mul(8),
            budget_bytes: layout.total as u64 * 8,
        }
    }
}
