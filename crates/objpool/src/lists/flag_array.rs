//! A flag for each object, and hints where one may be set.

use crate::hold::Hold;
use crate::list::{FreeList, Taken, sealed::Sealed, until_empty_twice};
use crate::plan::{Plan, Spread};
use crate::{BuildError, memory};
use alloc::boxed::Box;
use percpu::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use percpu::{CachePadded, fence};

/// The object is free. The bits above count its pushes.
const FREE: u64 = 1;
const VERSION: u64 = 2;

/// A word per object says whether it is free. While the object is out, only its owner writes the
/// word: so a push is a plain store, and a pop one compare-and-swap of a word that it finds set.
///
/// A pop looks first where its slot's last push was. When nothing is there it searches from that
/// place on, around the array: quick while much is free, in proportion to the capacity when nearly
/// nothing is. The hints are plain memory that several threads may overwrite; the words decide.
///
/// [`RseqLifo`](crate::RseqLifo) uses it where there are no restartable sequences.
#[derive(Debug)]
pub struct FlagArray {
    /// `[version:63 | free:1]`
    flags: Box<[AtomicU64]>,
    slots: Box<[CachePadded<Slot>]>,
    spread: Spread,
}

#[derive(Debug)]
struct Slot {
    /// The object that was pushed last on this slot, or behind which the search continues. A hint,
    /// hence Relaxed.
    hint: AtomicU32,
    first: u32,
    end: u32,
}

impl Sealed for FlagArray {}

impl FreeList for FlagArray {
    const NAME: &'static str = "flag array";

    fn new(plan: &Plan) -> Result<Self, BuildError> {
        let flags = memory::slice(plan.capacity as usize, |_| AtomicU64::new(FREE))?;
        let slots = memory::slice(plan.slots as usize, |slot| {
            let region = plan.region(slot as u32);
            // A slot without objects of its own (fewer objects than CPUs) looks at the next one's
            // first.
            let first = region.start % plan.capacity;
            CachePadded::new(Slot {
                hint: AtomicU32::new(first),
                first,
                end: region.end.max(first),
            })
        })?;
        Ok(Self { flags, slots, spread: Spread::new(plan) })
    }

    #[inline]
    fn pop(&self) -> Option<Taken> {
        let slot = self.spread.here();
        let hint = self.slots[slot as usize].hint.load(Ordering::Relaxed);
        match Self::take(&self.flags[hint as usize]) {
            Ok(()) => Some(Taken { index: hint, slot, stolen: false }),
            Err(_) => self.search(slot),
        }
    }

    #[inline]
    fn push(&self, index: u32) -> u32 {
        let slot = self.spread.here();
        let flag = &self.flags[index as usize];
        // Relaxed: only the owner writes it now. Release pairs with the Acquire in `take`: the
        // object's bytes.
        let version = flag.load(Ordering::Relaxed);
        flag.store(version.wrapping_add(VERSION) | FREE, Ordering::Release);
        self.slots[slot as usize].hint.store(index, Ordering::Relaxed);
        slot
    }

    /// A push is no atomic read-modify-write. Pairs with the heavy fences in `close` and `hold`.
    #[inline(always)]
    fn settle(&self) {
        fence::light();
    }

    fn close(&self) {
        fence::heavy();
    }

    fn hold(&self) -> Option<Hold<'_>> {
        fence::heavy();
        None
    }
}

impl FlagArray {
    /// Takes the object of a flag, or gives the version of one that is not free.
    ///
    /// Two looks that find nothing (`until_empty_twice`) prove a moment without a free object
    /// although a push is only a Release store: whoever pushed one object and then took another did
    /// so by an AcqRel compare-and-swap. A look that saw the second object gone therefore sees the
    /// first one back, at the latest the second time.
    #[inline(always)]
    fn take(flag: &AtomicU64) -> Result<(), u64> {
        let mut word = flag.load(Ordering::Acquire);
        while word & FREE != 0 {
            match flag.compare_exchange_weak(
                word,
                word & !FREE,
                Ordering::AcqRel,
                Ordering::Acquire,
            ) {
                Ok(_) => return Ok(()),
                Err(now) => word = now,
            }
        }
        Err(word / VERSION)
    }

    /// The slot's own part from the hint on, around; then everything.
    #[cold]
    #[inline(never)]
    fn search(&self, slot: u32) -> Option<Taken> {
        let Slot { hint, first, end } = &*self.slots[slot as usize];
        let own = *first..*end;
        // The hint may be anywhere: the last push may have been another slot's object.
        let start = hint.load(Ordering::Relaxed).clamp(own.start, own.end);
        for index in (start..own.end).chain(own.start..start) {
            if Self::take(&self.flags[index as usize]).is_ok() {
                hint.store(self.after(index), Ordering::Relaxed);
                return Some(Taken { index, slot, stolen: false });
            }
        }
        self.spread.rehint();
        until_empty_twice(|| {
            let mut versions = 0u64;
            for index in (own.start..self.flags.len() as u32).chain(0..own.start) {
                match Self::take(&self.flags[index as usize]) {
                    Ok(()) => {
                        hint.store(self.after(index), Ordering::Relaxed);
                        return Ok(Taken { index, slot, stolen: !own.contains(&index) });
                    }
                    Err(version) => versions = versions.wrapping_add(version),
                }
            }
            Err(versions)
        })
    }

    fn after(&self, index: u32) -> u32 {
        if index as usize + 1 < self.flags.len() { index + 1 } else { 0 }
    }
}
