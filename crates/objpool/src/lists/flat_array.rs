//! An array of cells, scanned from a place that depends on the CPU.

use crate::list::{FreeList, Taken, sealed::Sealed, until_empty_twice};
use crate::plan::{Plan, Spread};
use crate::tagged::{ENTRY_BITS, ENTRY_MASK};
use crate::{BuildError, memory};
use alloc::boxed::Box;
use percpu::sync::atomic::{AtomicU64, Ordering};
use percpu::sync::hint;

/// The array free list: as many cells as objects, each empty or holding an object.
///
/// Pop and push scan from the start of their CPU's part until one compare-and-swap fills or empties
/// a cell; that one instruction is the whole operation, so nobody is ever in between. The cost
/// grows with the part of the array that has to be passed: a pool that is mostly out is slow to pop
/// from, a full one slow to push to.
///
/// Source of the idea: the array variant in the discussion that led to the kernel's `lib/objpool.c`
/// (2022). Its two steps per operation (reserve a place, then fill it) made pops miss in a full
/// pool under preemption; a cell that carries its own version needs one step.
#[derive(Debug)]
pub struct FlatArray {
    /// `[version:39 | entry:25]`; each push into a cell makes a new version.
    cells: Box<[AtomicU64]>,
    starts: Box<[u32]>,
    spread: Spread,
}

impl Sealed for FlatArray {}

impl FreeList for FlatArray {
    const NAME: &'static str = "flat array";

    fn new(plan: &Plan) -> Result<Self, BuildError> {
        let cells =
            memory::slice(plan.capacity as usize, |index| AtomicU64::new(index as u64 + 1))?;
        // A slot without objects of its own (fewer objects than CPUs) starts where the next slot's
        // begin.
        let starts = memory::slice(plan.slots as usize, |slot| {
            plan.region(slot as u32).start % plan.capacity
        })?;
        Ok(Self { cells, starts, spread: Spread::new(plan) })
    }

    #[inline]
    fn pop(&self) -> Option<Taken> {
        let slot = self.spread.here();
        until_empty_twice(|| {
            let mut versions = 0u64;
            for (position, cell) in self.from(slot) {
                match Self::empty(cell) {
                    Ok(entry) => {
                        return Ok(Taken {
                            index: entry - 1,
                            slot,
                            stolen: !self.is_part_of(slot, position),
                        });
                    }
                    Err(version) => versions = versions.wrapping_add(version),
                }
            }
            Err(versions)
        })
    }

    #[inline]
    fn push(&self, index: u32) -> u32 {
        let slot = self.spread.here();
        // With as many cells as objects one is empty at every moment. A scan that passes none saw
        // others push and pop: lock-free.
        while !self.from(slot).any(|(_, cell)| Self::fill(cell, index + 1)) {
            hint::spin_loop();
        }
        slot
    }
}

impl FlatArray {
    /// All cells, from the start of a slot's part around to the end of the part before it.
    #[inline(always)]
    fn from(&self, slot: u32) -> impl Iterator<Item = (usize, &AtomicU64)> {
        let start = self.starts[slot as usize] as usize;
        let (before, from) = self.cells.split_at(start);
        from.iter()
            .enumerate()
            .map(move |(i, cell)| (start + i, cell))
            .chain(before.iter().enumerate())
    }

    fn is_part_of(&self, slot: u32, position: usize) -> bool {
        let end =
            self.starts.get(slot as usize + 1).map_or(self.cells.len(), |start| *start as usize);
        (self.starts[slot as usize] as usize..end).contains(&position)
    }

    /// Takes the entry out of a cell, or gives the version of the empty cell.
    #[inline(always)]
    fn empty(cell: &AtomicU64) -> Result<u32, u64> {
        // SeqCst throughout: scans that end in `None` compare all cells twice and need one order of
        // their changes. Among them Acquire pairs with the Release in `fill`.
        let mut word = cell.load(Ordering::SeqCst);
        while word & ENTRY_MASK != 0 {
            match cell.compare_exchange_weak(
                word,
                word & !ENTRY_MASK,
                Ordering::SeqCst,
                Ordering::SeqCst,
            ) {
                Ok(_) => return Ok((word & ENTRY_MASK) as u32),
                Err(now) => word = now,
            }
        }
        Err(word >> ENTRY_BITS)
    }

    /// Puts an entry into a cell, if that is empty.
    #[inline(always)]
    fn fill(cell: &AtomicU64, entry: u32) -> bool {
        let word = cell.load(Ordering::Relaxed);
        let next = word.wrapping_add(1 << ENTRY_BITS) | u64::from(entry);
        word & ENTRY_MASK == 0
            && cell.compare_exchange(word, next, Ordering::SeqCst, Ordering::Relaxed).is_ok()
    }
}
