//! What no store can avoid.
#![allow(unsafe_code)]

use super::store::Store;
use foldhash::fast::FixedState;
use std::hash::BuildHasher;
use std::sync::atomic::{AtomicU64, Ordering};

/// Does nothing: what remains is the generator.
pub(super) struct Nothing;

impl Store for Nothing {
    const NAME: &'static str = "nothing";
    const COUNTED: bool = false;

    fn new(_depth: usize, _distinct: u64) -> Self {
        Self
    }

    #[inline(always)]
    fn save(&self, _frames: &[u64], number: u64) -> u32 {
        number as u32
    }
}

/// Hash, one line of a table, compare. The table's word leads to the record, so that the two misses come one after the other, as in any store that finds records through a table.
pub(super) struct Floor<const DEPTH: usize> {
    hasher: FixedState,
    /// All 0, which the compiler does not know: added to the record's place.
    table: Box<[AtomicU64]>,
    /// One record per number: a word for a head, then the frames.
    records: Box<[AtomicU64]>,
}

impl<const DEPTH: usize> Store for Floor<DEPTH> {
    const NAME: &'static str = "hash + one table line + compare";
    const COUNTED: bool = false;

    fn new(depth: usize, distinct: u64) -> Self {
        Self {
            hasher: FixedState::default(),
            table: zeroed((distinct as usize).next_power_of_two()),
            records: zeroed(distinct as usize * (depth + 1)),
        }
    }

    #[inline(always)]
    fn save(&self, frames: &[u64], number: u64) -> u32 {
        let hash = self.hasher.hash_one(frames);
        // Relaxed: filled by one thread before the others start.
        let word = self.table[hash as usize & (self.table.len() - 1)].load(Ordering::Relaxed);
        let place = (number as usize).wrapping_add(word as usize).wrapping_mul(DEPTH + 1);
        let Some(record) = self.records.get(place..place.wrapping_add(DEPTH + 1)) else { return 0 };
        let head = record[0].load(Ordering::Relaxed);
        if head == 0 {
            // Filling.
            frames.iter().zip(&record[1..]).for_each(|(frame, word)| word.store(*frame, Ordering::Relaxed));
            record[0].store(hash | 1, Ordering::Relaxed);
            return 0;
        }
        // No early exit, so that the comparison is free to use wide loads.
        let differ = frames.iter().zip(&record[1..]).fold(head ^ (hash | 1), |d, (frame, word)| d | (frame ^ word.load(Ordering::Relaxed)));
        if differ == 0 { number as u32 } else { 0 }
    }
}

/// Zeroed words in huge pages, if the system gives them.
fn zeroed(words: usize) -> Box<[AtomicU64]> {
    const HUGE: usize = 2 << 20;
    let mut memory: Vec<AtomicU64> = Vec::with_capacity(words);
    let start = (memory.as_mut_ptr() as usize).next_multiple_of(4096);
    let bytes = (memory.capacity() * 8).saturating_sub(4096) & !4095;
    if bytes >= HUGE {
        // SAFETY: whole pages inside the vector's buffer; the advice changes no content. If it is refused, pages are small.
        unsafe { libc::madvise(start as *mut libc::c_void, bytes, libc::MADV_HUGEPAGE) };
    }
    memory.resize_with(words, AtomicU64::default);
    memory.into_boxed_slice()
}
