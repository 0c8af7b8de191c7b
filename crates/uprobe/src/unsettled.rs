//! What a fork child would have counted before it has a block: in memory that is its own. Between
//! the system call and the first handler that a child can have run lie functions of the C library,
//! and the return from the call itself; they may be probed. See [`crate::fork`].
#![allow(unsafe_code)]

use crate::recorder::{self, Loss};
use crate::thread_state::{Busy, busy};
use crate::wipe_on_fork;
use core::sync::atomic::{AtomicU32, AtomicU64, Ordering};

/// Words that a child can write down.
const ENTRIES: usize = 1024;

/// Something that is to be added to a word of a block. Relaxed throughout: the child has one
/// thread, whose signal handlers come and go between its instructions.
struct Entry {
    /// Offset of the word in the block, and [`MAX`].
    place: AtomicU32,
    value: AtomicU64,
}

/// The value is no summand: the word is at least this.
const MAX: u32 = 1 << 31;

static ENTRY: [Entry; ENTRIES] =
    [const { Entry { place: AtomicU32::new(0), value: AtomicU64::new(0) } }; ENTRIES];
static USED: AtomicU32 = AtomicU32::new(0);

/// Whether the calling thread is the one that has forked, in the child, and its block is still that
/// of the parent's thread.
#[inline]
pub(crate) fn is_child() -> bool {
    busy() == Busy::Forking && wipe_on_fork::is_copy()
}

/// Adds `n` to a word of the block in an unsettled child.
pub(crate) fn note(place: u32, n: u64) {
    write_down(place, n);
}

/// Notes for a word of the block that it is `n` at least.
pub(crate) fn note_most(place: u32, n: u64) {
    write_down(place | MAX, n);
}

fn write_down(place: u32, value: u64) {
    let at = USED.fetch_add(1, Ordering::Relaxed) as usize;
    match ENTRY.get(at) {
        Some(entry) => {
            entry.value.store(value, Ordering::Relaxed);
            entry.place.store(place, Ordering::Relaxed);
        }
        None => {
            USED.store(ENTRIES as u32, Ordering::Relaxed);
            recorder::lost(Loss::Capacity);
        }
    }
}

/// Adds what was written down to the child's own block; 0: there is none, and it is lost.
pub(crate) fn settle(block: usize) {
    let used = USED.swap(0, Ordering::Relaxed) as usize;
    if block == 0 {
        return;
    }
    for entry in &ENTRY[..used.min(ENTRIES)] {
        let place = entry.place.load(Ordering::Relaxed);
        let value = entry.value.load(Ordering::Relaxed);
        let at = block + (place & !MAX) as usize;
        // SAFETY: the word lies in every block, as whoever armed the site has promised.
        let word = unsafe { &*core::ptr::with_exposed_provenance::<AtomicU64>(at) };
        if place & MAX == 0 {
            word.fetch_add(value, Ordering::Relaxed);
        } else {
            word.fetch_max(value, Ordering::Relaxed);
        }
    }
}
