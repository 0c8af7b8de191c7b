//! Who is out, and how often each object was: written by the object's owner only.
#![allow(unsafe_code)]

use crate::{BuildError, memory};
use alloc::boxed::Box;
use percpu::sync::atomic::{AtomicU64, Ordering};

/// Because an object has one owner at a time, plain loads and stores of its records are exact. They
/// are Relaxed: whatever hands the object from owner to owner (the free list, or the program)
/// orders them.
///
/// Counts and marks lie apart, so that neither waits for the other's store.
#[derive(Debug)]
pub(crate) struct Ledger {
    /// How often each object was popped.
    pops: Box<[AtomicU64]>,
    /// 0 while the object is free; else the slot it was popped on, plus 1. Empty if the list keeps
    /// that itself.
    out: Box<[AtomicU64]>,
}

/// What the records add up to; exact when no operation is in progress.
#[derive(Debug, Default)]
pub(crate) struct Totals {
    pub(crate) pops: u64,
    pub(crate) ever_out: usize,
}

impl Ledger {
    /// `marks`: for a list that does not keep who is out.
    pub(crate) fn new(capacity: usize, marks: bool) -> Result<Self, BuildError> {
        let zeros = |len: usize| memory::slice(len, |_| AtomicU64::new(0));
        Ok(Self { pops: zeros(capacity)?, out: zeros(if marks { capacity } else { 0 })? })
    }

    /// The caller has just popped the object.
    ///
    /// # Safety
    /// `index` is below the capacity.
    #[inline(always)]
    pub(crate) unsafe fn count(&self, index: u32) {
        // SAFETY: there is a count for each number below the capacity.
        let pops = unsafe { at(&self.pops, index) };
        pops.store(pops.load(Ordering::Relaxed).wrapping_add(1), Ordering::Relaxed);
    }

    /// The caller has just popped the object, on `slot`.
    ///
    /// # Safety
    /// `index` is below the capacity, and this ledger has marks.
    #[inline(always)]
    pub(crate) unsafe fn goes_out(&self, index: u32, slot: u32) {
        // SAFETY: passed on.
        unsafe { at(&self.out, index) }.store(u64::from(slot) + 1, Ordering::Relaxed);
    }

    /// The caller is about to push the object. The slot it was popped on; `None`: it is not out.
    ///
    /// # Safety
    /// `index` is below the capacity, and this ledger has marks.
    #[inline(always)]
    pub(crate) unsafe fn comes_back(&self, index: u32) -> Option<u32> {
        // SAFETY: passed on.
        let record = unsafe { at(&self.out, index) };
        let slot = record.load(Ordering::Relaxed).checked_sub(1)?;
        record.store(0, Ordering::Relaxed);
        Some(slot as u32)
    }

    /// Whether the object is out, for a ledger with marks.
    pub(crate) fn is_out(&self, index: u32) -> bool {
        self.out[index as usize].load(Ordering::Relaxed) != 0
    }

    pub(crate) fn totals(&self) -> Totals {
        self.pops.iter().map(|pops| pops.load(Ordering::Relaxed)).fold(
            Totals::default(),
            |sum, pops| Totals {
                pops: sum.pops.wrapping_add(pops),
                ever_out: sum.ever_out + usize::from(pops != 0),
            },
        )
    }
}

/// Unchecked, because this is on the path of a few nanoseconds.
///
/// # Safety
/// There is a record with this number.
#[inline(always)]
unsafe fn at(records: &[AtomicU64], index: u32) -> &AtomicU64 {
    debug_assert!((index as usize) < records.len());
    // SAFETY: the caller's promise.
    unsafe { records.get_unchecked(index as usize) }
}
