//! Who is out: one record per object, written by the object's owner only.
#![allow(unsafe_code)]

use crate::{BuildError, memory};
use alloc::boxed::Box;
use percpu::sync::atomic::{AtomicU32, AtomicU64, Ordering};

/// Because an object has one owner at a time, plain loads and stores of its record are exact. They are Relaxed: whatever hands the object from owner to owner (the free
/// list, or the program) orders them.
#[derive(Debug)]
struct Record {
    /// How often the object was popped.
    pops: AtomicU64,
    /// 0 while the object is free; else the slot it was popped on, plus 1.
    out: AtomicU32,
}

/// Detects double pushes, and makes the statistics exact without a counter that two CPUs share.
#[derive(Debug)]
pub(crate) struct Ledger {
    records: Box<[Record]>,
}

/// What the records add up to; exact when no operation is in progress.
#[derive(Debug, Default)]
pub(crate) struct Totals {
    pub(crate) pops: u64,
    pub(crate) out: usize,
    pub(crate) ever_out: usize,
}

impl Ledger {
    pub(crate) fn new(capacity: usize) -> Result<Self, BuildError> {
        Ok(Self { records: memory::slice(capacity, |_| Record { pops: AtomicU64::new(0), out: AtomicU32::new(0) })? })
    }

    /// # Safety
    /// `index` is below the capacity.
    #[inline(always)]
    unsafe fn record(&self, index: u32) -> &Record {
        debug_assert!((index as usize) < self.records.len());
        // SAFETY: there is a record for each number below the capacity. Unchecked: this is on the path of a few nanoseconds.
        unsafe { self.records.get_unchecked(index as usize) }
    }

    /// The caller has just popped the object, on `slot`.
    ///
    /// # Safety
    /// `index` is below the capacity.
    #[inline(always)]
    pub(crate) unsafe fn goes_out(&self, index: u32, slot: u32) {
        // SAFETY: passed on.
        let record = unsafe { self.record(index) };
        record.pops.store(record.pops.load(Ordering::Relaxed).wrapping_add(1), Ordering::Relaxed);
        record.out.store(slot + 1, Ordering::Relaxed);
    }

    /// The caller is about to push the object. The slot it was popped on; `None`: it is not out.
    ///
    /// # Safety
    /// `index` is below the capacity.
    #[inline(always)]
    pub(crate) unsafe fn comes_back(&self, index: u32) -> Option<u32> {
        // SAFETY: passed on.
        let record = unsafe { self.record(index) };
        let slot = record.out.load(Ordering::Relaxed).checked_sub(1)?;
        record.out.store(0, Ordering::Relaxed);
        Some(slot)
    }

    pub(crate) fn totals(&self) -> Totals {
        self.records.iter().fold(Totals::default(), |sum, record| {
            let pops = record.pops.load(Ordering::Relaxed);
            Totals {
                pops: sum.pops.wrapping_add(pops),
                out: sum.out + usize::from(record.out.load(Ordering::Relaxed) != 0),
                ever_out: sum.ever_out + usize::from(pops != 0),
            }
        })
    }
}
