//! Section counters in each thread's own record, which nobody else writes: a plain add, no fence,
//! no restartable sequence.
//!
//! # Slots
//! A thread's record has counters for [`SLOTS`] domains. A domain takes a slot when it is made and
//! gives it back when it is dropped; one that finds none falls back to [`Sequenced`] counters, per
//! CPU.
//!
//! Counters are never set back: a domain that begins on a used slot finds both sums of each index
//! equal, and from there on only their difference counts. A domain that is dropped with sections
//! open (leaked guards) keeps its slot for ever, because for its successor they would stay open.

use super::arch::add_one;
use super::counters::{Counters, Sequenced};
use super::sections::{SLOTS, Sections};
use crate::rcu::{self, ReaderState};
use percpu::Record;
use percpu::sync::atomic::{AtomicU32, Ordering};

const _: () =
    assert!(size_of::<Record<ReaderState>>() <= 512, "a thread's record stays within 512 bytes");

/// Bit `n`: slot `n` is taken.
#[cfg(not(loom))]
static TAKEN: AtomicU32 = AtomicU32::new(0);

#[cfg(loom)]
loom::lazy_static! {
    static ref TAKEN: AtomicU32 = AtomicU32::new(0);
}

/// The counters of a fast domain.
#[derive(Debug)]
pub struct PerThread {
    /// Below [`SLOTS`] if the domain has a slot.
    slot: usize,
    /// For a domain without one.
    fallback: Option<Sequenced>,
}

impl PerThread {
    #[cold]
    #[inline(never)]
    fn slow(&self, index: usize, begins: bool) {
        if let Some(counters) = &self.fallback {
            if begins { counters.begin(index) } else { counters.end(index) }
        } else if let Some(own) = rcu::this_thread().sections.get(self.slot) {
            add_one(if begins { &own.begun[index] } else { &own.ended[index] });
        }
        // In full, because the caller has skipped the fence that it was to choose.
        percpu::fence::light();
    }

    /// Each thread's counters of this domain, of threads past and present.
    fn all(&self) -> impl Iterator<Item = &'static Sections> + '_ {
        rcu::all_threads().filter_map(|thread| thread.sections.get(self.slot))
    }
}

impl Counters for PerThread {
    fn new() -> Self {
        match take_slot() {
            Some(slot) => Self { slot, fallback: None },
            None => Self { slot: SLOTS, fallback: Some(Sequenced::new()) },
        }
    }

    #[inline(always)]
    fn begin(&self, index: usize) {
        // A thread that is found this way is known to need no fence.
        match rcu::this_fenceless_thread().and_then(|thread| thread.sections.get(self.slot)) {
            Some(own) => add_one(&own.begun[index]),
            None => self.slow(index, true),
        }
    }

    #[inline(always)]
    fn end(&self, index: usize) {
        match rcu::this_fenceless_thread().and_then(|thread| thread.sections.get(self.slot)) {
            Some(own) => add_one(&own.ended[index]),
            None => self.slow(index, false),
        }
    }

    fn begun(&self, index: usize) -> u64 {
        // Relaxed: ordered by the fence in `Machine::is_drained`, and by the Acquire of the `ended`
        // before it.
        let fallback = self.fallback.as_ref().map_or(0, |f| f.begun(index));
        self.all()
            .fold(fallback, |sum, one| sum.wrapping_add(one.begun[index].load(Ordering::Relaxed)))
    }

    fn ended(&self, index: usize) -> u64 {
        let fallback = self.fallback.as_ref().map_or(0, |f| f.ended(index));
        // Acquire pairs with the Release in `add_one`.
        self.all()
            .fold(fallback, |sum, one| sum.wrapping_add(one.ended[index].load(Ordering::Acquire)))
    }

    fn forget(&self) {
        for one in self.all() {
            for (begun, ended) in one.begun.iter().zip(&one.ended) {
                ended.store(begun.load(Ordering::Relaxed), Ordering::Relaxed);
            }
        }
        if let Some(fallback) = &self.fallback {
            fallback.forget();
        }
    }
}

impl Drop for PerThread {
    fn drop(&mut self) {
        if self.slot < SLOTS && (0..2).all(|index| self.ended(index) == self.begun(index)) {
            // Release pairs with the Acquire in `take_slot`: the successor finds the sums as they
            // are now.
            TAKEN.fetch_and(!(1 << self.slot), Ordering::Release);
        }
    }
}

fn take_slot() -> Option<usize> {
    let mut taken = TAKEN.load(Ordering::Relaxed);
    loop {
        let slot = (!taken).trailing_zeros() as usize;
        if slot >= SLOTS {
            return None;
        }
        // Acquire pairs with the Release in `drop`.
        match TAKEN.compare_exchange_weak(
            taken,
            taken | 1 << slot,
            Ordering::Acquire,
            Ordering::Relaxed,
        ) {
            Ok(_) => return Some(slot),
            Err(now) => taken = now,
        }
    }
}
