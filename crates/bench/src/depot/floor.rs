//! What no store can avoid.
#![allow(unsafe_code)]

use super::store::Store;
use foldhash::fast::FixedState;
use std::hash::BuildHasher;

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

/// Hash, one line of a table, compare. The table's word leads to the record, so that the two misses
/// come one after the other, as in any store that finds records through a table.
pub(super) struct Floor<const DEPTH: usize> {
    hasher: FixedState,
    /// All 0, which the compiler does not know: added to the record's place.
    table: Vec<u32>,
    /// One record per number.
    records: Vec<Record<DEPTH>>,
}

/// A head, here the hash, and the frames.
#[derive(Clone, Copy)]
#[repr(C)]
struct Record<const DEPTH: usize> {
    hash: u64,
    frames: [u64; DEPTH],
}

impl<const DEPTH: usize> Store for Floor<DEPTH> {
    const NAME: &'static str = "hash + one table line + compare";
    const COUNTED: bool = false;

    fn new(_depth: usize, distinct: u64) -> Self {
        let distinct = distinct as usize;
        Self {
            hasher: FixedState::default(),
            table: filled_with(distinct.next_power_of_two(), 0),
            records: filled_with(distinct, Record { hash: 0, frames: [0; DEPTH] }),
        }
    }

    fn fill(&mut self, frames: &[u64], number: u64) {
        let record = &mut self.records[number as usize];
        record.hash = self.hasher.hash_one(frames);
        record.frames.copy_from_slice(frames);
    }

    #[inline(always)]
    fn save(&self, frames: &[u64], number: u64) -> u32 {
        let hash = self.hasher.hash_one(frames);
        let word = self.table[hash as usize & (self.table.len() - 1)];
        match self.records.get((number as usize).wrapping_add(word as usize)) {
            Some(record) if record.hash == hash && record.frames == *frames => number as u32,
            _ => 0,
        }
    }
}

/// So many values in huge pages, if the system gives them.
fn filled_with<T: Copy>(len: usize, value: T) -> Vec<T> {
    const PAGE: usize = 4096;
    let mut memory: Vec<T> = Vec::with_capacity(len);
    let start = (memory.as_mut_ptr() as usize).next_multiple_of(PAGE);
    let bytes = (len * size_of::<T>()).saturating_sub(PAGE) & !(PAGE - 1);
    if bytes > 0 {
        // SAFETY: whole pages inside the vector's buffer; the advice changes no content. If it is
        // refused, pages are small.
        unsafe { libc::madvise(start as *mut libc::c_void, bytes, libc::MADV_HUGEPAGE) };
    }
    memory.resize(len, value);
    memory
}
