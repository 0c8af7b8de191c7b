//! A fixed bit for each object.

use crate::list::{FreeList, Taken, sealed::Sealed, until_empty_twice};
use crate::plan::{Plan, Spread};
use crate::{BuildError, memory};
use alloc::boxed::Box;
use percpu::CachePadded;
use percpu::sync::atomic::{AtomicU32, AtomicU64, Ordering};

/// Free bits of a word; the version of its pushes is above them.
const BITS: u32 = 32;
const FREE_MASK: u64 = (1 << BITS) - 1;
const VERSION: u64 = 1 << BITS;

/// The home bitmap: every object has a bit in a word that belongs to one CPU's slot, set while the
/// object is free.
///
/// Push is one wait-free addition: it sets the bit (which is 0, as the object is out) and counts
/// the version. Pop finds the first bit of a word of its slot and clears it by one
/// compare-and-swap. An object always goes home, so a thread that pushes what another CPU popped
/// pays for that CPU's line, and the slots never get out of balance.
#[derive(Debug)]
pub struct Bitmap {
    /// `[version:32 | free:32]`, each on lines of its own.
    words: Box<[CachePadded<AtomicU64>]>,
    slots: Box<[CachePadded<Slot>]>,
    /// Objects per word: a power of two, at most 32, fewer in pools that would not have a word per
    /// slot otherwise.
    log2_per_word: u32,
    spread: Spread,
}

#[derive(Debug)]
struct Slot {
    /// The word where the last pop of this slot found something: within its own words. A hint,
    /// hence Relaxed.
    word: AtomicU32,
    first: u32,
    end: u32,
}

impl Sealed for Bitmap {}

impl FreeList for Bitmap {
    const NAME: &'static str = "home bitmap";

    fn new(plan: &Plan) -> Result<Self, BuildError> {
        let per_slot = plan.capacity.div_ceil(plan.slots).next_power_of_two();
        let log2_per_word = per_slot.min(BITS).trailing_zeros();
        let per_word = 1u32 << log2_per_word;
        let count = plan.capacity.div_ceil(per_word);
        let words = memory::slice(count as usize, |word| {
            let objects = (plan.capacity - word as u32 * per_word).min(per_word);
            CachePadded::new(AtomicU64::new((1 << objects) - 1))
        })?;
        let first = |slot: usize| (u64::from(count) * slot as u64 / u64::from(plan.slots)) as u32;
        let slots = memory::slice(plan.slots as usize, |slot| {
            // A slot without words of its own (fewer words than CPUs) looks at the next one's
            // first.
            let (first, end) = (first(slot).min(count - 1), first(slot + 1));
            CachePadded::new(Slot { word: AtomicU32::new(first), first, end })
        })?;
        Ok(Self { words, slots, log2_per_word, spread: Spread::new(plan) })
    }

    #[inline]
    fn pop(&self) -> Option<Taken> {
        let slot = self.spread.here();
        let word = self.slots[slot as usize].word.load(Ordering::Relaxed);
        match self.take(word) {
            Ok(index) => Some(Taken { index, slot, stolen: false }),
            Err(_) => self.search(slot),
        }
    }

    #[inline]
    fn push(&self, index: u32) -> u32 {
        let bit = 1u64 << (index & ((1 << self.log2_per_word) - 1));
        // SeqCst, here and in `take`: a pop that ends in `None` compares all words twice and needs
        // one order of their changes. Release among it pairs with the Acquire of the pop that takes
        // the object.
        self.words[(index >> self.log2_per_word) as usize]
            .fetch_add(VERSION + bit, Ordering::SeqCst);
        self.spread.here()
    }
}

impl Bitmap {
    /// Takes the first free object of a word, or gives the version of a word without.
    #[inline(always)]
    fn take(&self, word: u32) -> Result<u32, u64> {
        let cell = &self.words[word as usize];
        let mut now = cell.load(Ordering::SeqCst);
        while now & FREE_MASK != 0 {
            match cell.compare_exchange_weak(
                now,
                now & (now - 1),
                Ordering::SeqCst,
                Ordering::SeqCst,
            ) {
                Ok(_) => return Ok((word << self.log2_per_word) + now.trailing_zeros()),
                Err(other) => now = other,
            }
        }
        Err(now / VERSION)
    }

    /// The slot's own words from the hint on, around; then all others.
    #[cold]
    #[inline(never)]
    fn search(&self, slot: u32) -> Option<Taken> {
        let Slot { word: hint, first, end } = &*self.slots[slot as usize];
        let start = hint.load(Ordering::Relaxed);
        for word in (start..*end).chain(*first..start) {
            if let Ok(index) = self.take(word) {
                hint.store(word, Ordering::Relaxed);
                return Some(Taken { index, slot, stolen: false });
            }
        }
        self.spread.rehint();
        until_empty_twice(|| {
            let mut versions = 0u64;
            let count = self.words.len() as u32;
            for word in (*first..count).chain(0..*first) {
                match self.take(word) {
                    Ok(index) => {
                        return Ok(Taken { index, slot, stolen: !(*first..*end).contains(&word) });
                    }
                    Err(version) => versions = versions.wrapping_add(version),
                }
            }
            Err(versions)
        })
    }
}
