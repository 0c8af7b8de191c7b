//! A ring of entries per CPU, each entry with its own sequence number.

use crate::list::{FreeList, Taken, sealed::Sealed, until_empty_twice};
use crate::plan::{Plan, Spread};
use crate::{BuildError, memory, point};
use alloc::boxed::Box;
use percpu::CachePadded;
use percpu::sync::atomic::{AtomicU64, Ordering};

/// Low half of a cell: object number + 1, or 0. High half: the lap in which the cell is, or may be,
/// filled.
const ENTRY_MASK: u64 = u32::MAX as u64;
const LAP: u64 = 1 << 32;

/// A first-in-first-out ring. A position p lies in cell p mod size, in lap p / size:
///
/// ```text
/// [lap | 0]  --push-->  [lap | entry]  --pop-->  [lap + 1 | 0]
/// ```
///
/// The compare-and-swap of the cell is the whole push or pop; `head` and `tail` follow it and are
/// advanced by whoever finds them behind. So a thread that stops anywhere leaves nothing half done,
/// and a position is filled only after all before it.
#[derive(Debug)]
pub(crate) struct Ring {
    head: CachePadded<AtomicU64>,
    tail: CachePadded<AtomicU64>,
    cells: Box<[AtomicU64]>,
    log2_size: u32,
}

impl Ring {
    pub(crate) fn new(size: u32) -> Result<Self, BuildError> {
        let size = size.next_power_of_two();
        let cells = memory::slice(size as usize, |_| AtomicU64::new(0))?;
        let zero = || CachePadded::new(AtomicU64::new(0));
        Ok(Self { head: zero(), tail: zero(), cells, log2_size: size.trailing_zeros() })
    }

    #[inline(always)]
    fn cell(&self, position: u64) -> (&AtomicU64, u64) {
        let lap = (position >> self.log2_size) << 32;
        (&self.cells[position as usize & (self.cells.len() - 1)], lap)
    }

    /// Moves an index that has been overtaken by its cell. Failure means that somebody else did.
    #[inline(always)]
    fn advance(index: &AtomicU64, position: u64) {
        // SeqCst: see `push`. Release among it: who reads the new index sees the cell's change.
        let _ = index.compare_exchange(position, position + 1, Ordering::SeqCst, Ordering::Relaxed);
    }

    /// False: the ring was full.
    #[inline]
    pub(crate) fn push(&self, entry: u32) -> bool {
        // SeqCst on indexes and cells: a look over several rings (`until_empty_twice`) needs one
        // order of all changes.
        let mut tail = self.tail.load(Ordering::SeqCst);
        loop {
            let (cell, lap) = self.cell(tail);
            point::pass();
            // Acquire pairs with the pop that emptied the cell.
            let word = cell.load(Ordering::SeqCst);
            if word == lap {
                // Release pairs with the load in `pop`: the object's bytes.
                if cell
                    .compare_exchange(
                        word,
                        lap | u64::from(entry),
                        Ordering::SeqCst,
                        Ordering::Relaxed,
                    )
                    .is_ok()
                {
                    point::pass();
                    Self::advance(&self.tail, tail);
                    return true;
                }
            } else if word & !ENTRY_MASK == lap.wrapping_sub(LAP) {
                // The object of the lap before is still there. Unless the tail is old, that is a
                // full ring.
                let now = self.tail.load(Ordering::SeqCst);
                if now == tail {
                    return false;
                }
                tail = now;
                continue;
            } else {
                Self::advance(&self.tail, tail);
            }
            tail = self.tail.load(Ordering::SeqCst);
        }
    }

    /// The oldest entry, or the position at which the ring was empty. Two equal positions mean that
    /// it was empty in between.
    #[inline]
    pub(crate) fn pop(&self) -> Result<u32, u64> {
        let mut head = self.head.load(Ordering::SeqCst);
        loop {
            let (cell, lap) = self.cell(head);
            let word = cell.load(Ordering::SeqCst);
            if word == lap {
                // The head was here before this load, and nobody has filled this position, nor any
                // after it.
                return Err(head);
            }
            if word & !ENTRY_MASK == lap {
                // Acquire pairs with the push that filled the cell, Release with the next one that
                // will.
                if cell
                    .compare_exchange(
                        word,
                        lap.wrapping_add(LAP),
                        Ordering::SeqCst,
                        Ordering::Relaxed,
                    )
                    .is_ok()
                {
                    point::pass();
                    Self::advance(&self.head, head);
                    return Ok((word & ENTRY_MASK) as u32);
                }
            } else {
                // A later lap: emptied already.
                Self::advance(&self.head, head);
            }
            head = self.head.load(Ordering::SeqCst);
        }
    }
}

/// Ring arrays per CPU, as in the kernel's `lib/objpool.c` (2023), with a protocol that stands
/// preemption.
///
/// There a push claims a position, fills it, and then moves `last`; interrupts are off meanwhile.
/// In user space two pushers can interleave in these three steps, and then objects get lost or get
/// two owners (the test `posted_ring` shows both). Here each entry carries its lap, as in D.
/// Vyukov's bounded queue, and filling it is the commit, as in Shann, Huang and Chen, "A practical
/// nonblocking queue algorithm using compare-and-swap" (ICPADS 2000): nobody is between claim and
/// fill.
///
/// Objects come back in the order they were pushed, so that each was out of the caches for longest.
/// Each ring holds twice its share of the objects; a push into a full one goes to the next.
#[derive(Debug)]
pub struct RingArray {
    rings: Box<[Ring]>,
    spread: Spread,
}

impl Sealed for RingArray {}

impl FreeList for RingArray {
    const NAME: &'static str = "per-CPU ring array";

    fn new(plan: &Plan) -> Result<Self, BuildError> {
        let share = plan.capacity.div_ceil(plan.slots);
        let mut rings = alloc::vec::Vec::new();
        rings.try_reserve_exact(plan.slots as usize).map_err(|_| BuildError::OutOfMemory)?;
        for _ in 0..plan.slots {
            rings.push(Ring::new(2 * share)?);
        }
        for slot in 0..plan.slots {
            for index in plan.region(slot) {
                rings[slot as usize].push(index + 1);
            }
        }
        Ok(Self { rings: rings.into_boxed_slice(), spread: Spread::new(plan) })
    }

    #[inline]
    fn pop(&self) -> Option<Taken> {
        let slot = self.spread.here();
        match self.rings[slot as usize].pop() {
            Ok(entry) => Some(Taken { index: entry - 1, slot, stolen: false }),
            Err(_) => self.steal(slot),
        }
    }

    #[inline]
    fn push(&self, index: u32) -> u32 {
        let slot = self.spread.here();
        // All rings together hold twice the objects, so one has room at every moment; a round that
        // finds none saw others push and pop: lock-free.
        let (before, from) = self.rings.split_at(slot as usize);
        while !from.iter().chain(before).any(|ring| ring.push(index + 1)) {}
        slot
    }
}

impl RingArray {
    #[cold]
    #[inline(never)]
    fn steal(&self, slot: u32) -> Option<Taken> {
        self.spread.rehint();
        until_empty_twice(|| {
            let mut positions = 0u64;
            let (before, from) = self.rings.split_at(slot as usize);
            for (distance, ring) in from.iter().chain(before).enumerate() {
                match ring.pop() {
                    Ok(entry) => {
                        return Ok(Taken { index: entry - 1, slot, stolen: distance != 0 });
                    }
                    Err(position) => positions = positions.wrapping_add(position),
                }
            }
            Err(positions)
        })
    }
}

#[cfg(all(test, feature = "std", not(loom)))]
mod tests {
    use super::*;
    use core::sync::atomic::{AtomicBool, AtomicU64};
    use std::thread;
    use std::time::{Duration, Instant};

    /// The load under which the posted protocol breaks within a second (`tests/posted_ring.rs`),
    /// with threads stopped between the steps of push and pop.
    #[test]
    fn threads_stopped_between_the_steps_do_no_harm() {
        const ENTRIES: u32 = 16;
        let ring = Ring::new(ENTRIES).expect("memory");
        assert!((1..=ENTRIES).all(|entry| ring.push(entry)));
        assert!(!ring.push(99), "full");
        let owned = [const { AtomicBool::new(false) }; ENTRIES as usize + 1];
        let pairs = AtomicU64::new(0);
        let end = Instant::now() + Duration::from_secs(1);
        thread::scope(|s| {
            for seed in 1..=8 {
                let (ring, owned, pairs) = (&ring, &owned, &pairs);
                s.spawn(move || {
                    point::arm(seed * 77_777);
                    // On a busy machine a second is too little to have tried anything.
                    while Instant::now() < end || pairs.load(Ordering::Relaxed) < 1000 {
                        let entry = ring.pop().expect("8 threads, 16 entries") as usize;
                        assert!(
                            !owned[entry].swap(true, Ordering::AcqRel),
                            "entry {entry} has two owners"
                        );
                        owned[entry].store(false, Ordering::Release);
                        assert!(ring.push(entry as u32), "there is room for all");
                        pairs.fetch_add(1, Ordering::Relaxed);
                    }
                });
            }
        });
        let mut left: std::vec::Vec<u32> = core::iter::from_fn(|| ring.pop().ok()).collect();
        left.sort_unstable();
        assert!(left.into_iter().eq(1..=ENTRIES), "each entry is there once");
    }
}
