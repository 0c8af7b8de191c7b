//! Our depot, as the other stores see it.

use super::store::Store;
use stackdepot::{Builder, Depot, Eviction, Flags, NoEviction, Stats};

/// The default: records can be evicted.
pub(super) struct Default(Depot);

/// Keeps everything, like the maps.
pub(super) struct KeepAll(Depot<NoEviction>);

fn builder(depth: usize, distinct: u64) -> Builder {
    // Room for the stacks, their table, and half as many again.
    let budget = (distinct as usize + 50_000) * (depth * 8 + 64) * 3 / 2 + (8 << 20);
    Depot::builder().expected_stacks(distinct as usize).max_depth(depth).budget_bytes(budget)
}

fn save<E: Eviction>(depot: &Depot<E>, frames: &[u64]) -> u32 {
    let handle = depot.save(frames, Flags::CAN_GROW);
    debug_assert!(!handle.is_none(), "the budget is large enough");
    handle.to_bits()
}

fn bytes(stats: &Stats) -> u64 {
    stats.fixed_bytes + stats.pool_used_bytes
}

impl Store for Default {
    const NAME: &'static str = "depot";

    fn new(depth: usize, distinct: u64) -> Self {
        Self(builder(depth, distinct).build_mmap().expect("memory for the depot"))
    }

    #[inline]
    fn save(&self, frames: &[u64], _number: u64) -> u32 {
        save(&self.0, frames)
    }

    fn bytes(&self) -> Option<u64> {
        Some(bytes(&self.0.stats()))
    }
}

impl Store for KeepAll {
    const NAME: &'static str = "depot, no eviction";

    fn new(depth: usize, distinct: u64) -> Self {
        Self(builder(depth, distinct).no_eviction().build_mmap().expect("memory for the depot"))
    }

    #[inline]
    fn save(&self, frames: &[u64], _number: u64) -> u32 {
        save(&self.0, frames)
    }

    fn bytes(&self) -> Option<u64> {
        Some(bytes(&self.0.stats()))
    }
}
