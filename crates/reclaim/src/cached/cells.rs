//! The cells of all threads, each with the entries of one.
#![allow(unsafe_code)]

use super::entry::Entry;
use super::object::Dead;
use crate::panics::Panics;
use percpu::sync::atomic::{AtomicU64, Ordering};
use percpu::{Record, Registry};

/// Objects that a thread caches at once. An object has one entry where it can be.
pub(super) const ENTRIES: usize = 4;

/// A cache line per entry, which no other thread writes in the ordinary case: then the entry's
/// place is two bits of the object's address, as they stand.
#[derive(Debug, Default)]
#[repr(C, align(128))]
pub(super) struct Cell {
    entries: [Aligned; ENTRIES],
}

#[derive(Debug, Default)]
#[repr(align(64))]
struct Aligned(Entry);

const ENTRY_BYTES: usize = 64;
const _: () = assert!(
    size_of::<Aligned>() == ENTRY_BYTES && ENTRIES.is_power_of_two(),
    "bits 6 and 7 of an address are an entry's offset"
);

pub(super) static CELLS: Registry<Cell> = Registry::new();

impl Cell {
    /// The entry for the object at this address. Addresses of objects differ above bit 6 as often
    /// as not; below they depend on the allocator.
    #[inline(always)]
    pub(super) fn entry(&self, object: usize) -> &Entry {
        // As an index it would be shifted down and up again.
        let offset = object & ((ENTRIES - 1) * ENTRY_BYTES);
        // SAFETY: the offset is a multiple of an entry's size and less than that of all of them.
        let entry = unsafe { self.entries.as_ptr().byte_add(offset) };
        // SAFETY: it points to an entry of `self`.
        unsafe { &(*entry).0 }
    }

    pub(super) fn entries(&self) -> impl Iterator<Item = &Entry> {
        self.entries.iter().map(|e| &e.0)
    }
}

/// All cells whose threads exist.
pub(super) fn cells() -> impl Iterator<Item = &'static Record<Cell>> {
    CELLS.iter().filter(|c| c.is_alive())
}

/// Empties the entry; what that was the end of is for the caller to free.
pub(super) fn settle_entry(entry: &Entry, dead: &mut Dead) {
    if let Some(owed) = entry.empty() {
        dead.settle(owed);
    }
}

/// Empties all entries of the cell and frees what that was the end of, until there is nothing: an
/// object freed here may use this module in its drop, and fill entries again.
pub(super) fn settle_cell(cell: &Cell, panics: &mut Panics) {
    loop {
        let mut dead = Dead::from_limbo();
        cell.entries().for_each(|entry| settle_entry(entry, &mut dead));
        if dead.is_empty() {
            return;
        }
        dead.free(panics);
    }
}

/// In a fork child: settles the entries of the threads that did not come along. Their references
/// are lost with them, their hold on what they merely had cached is not. A change that such a
/// thread had taken on and not yet made is lost: its object is then never freed.
pub(super) fn adopt_after_fork() {
    static SEEN: AtomicU64 = AtomicU64::new(1);
    let now = percpu::fork::generation();
    // Relaxed: each record is adopted by a compare-and-swap of its own.
    if SEEN.load(Ordering::Relaxed) == now {
        return;
    }
    SEEN.store(now, Ordering::Relaxed);
    // A clone may be what has come here.
    let mut dead = Dead::default();
    for left_behind in CELLS.iter().filter(|c| c.try_adopt()) {
        left_behind.entries().for_each(|entry| settle_entry(entry, &mut dead));
        left_behind.release();
    }
    dead.leave();
}
