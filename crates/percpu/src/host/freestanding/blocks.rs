//! The words of all threads: one place for each control block, by its address, for ever.
//!
//! Two tables of equal length. Which control block has a place stands in ordinary memory, which a
//! fork child has as its parent had it; the words themselves lie below 4 GiB, and a child finds
//! them wiped. So a place has the same owner in parent and child, and an address that a control
//! block holds (that of a thread which the child does not have, or has not met yet) is never that
//! of another one's words.
//!
//! An owner is written once, by compare-and-swap, and stays. Open addressing: who seeks a control
//! block goes from its hash on to the first place that is its own, or nobody's.
#![allow(unsafe_code)]

use super::words::Words;
use core::ptr;
use core::sync::atomic::{AtomicPtr, AtomicUsize, Ordering};
use sys::Errno;
use sys::memory::{
    self, MADV_WIPEONFORK, MAP_ANONYMOUS, MAP_FIXED_NOREPLACE, MAP_NORESERVE, MAP_PRIVATE,
    PROT_READ, PROT_WRITE,
};

/// Control blocks that there can be: 16 MiB of words. What is never used is no memory.
const PLACES: usize = 1 << PLACE_BITS;
const PLACE_BITS: u32 = 17;
/// Places that are looked at for one.
const TRIES: usize = 1 << 12;
/// Bytes of all words.
const BYTES: usize = PLACES * size_of::<Words>();

/// Null before [`map`]. Written once, in this order.
static WORDS: AtomicPtr<Words> = AtomicPtr::new(ptr::null_mut());
static OWNERS: AtomicPtr<AtomicUsize> = AtomicPtr::new(ptr::null_mut());

/// Maps both tables.
pub(super) fn map() -> Result<(), Errno> {
    let (both, flags) = (PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE);
    let bytes = PLACES * size_of::<AtomicUsize>();
    // SAFETY: a new mapping of its own.
    let owners = unsafe { memory::mmap(0, bytes, both, flags, -1, 0) }?;
    match low() {
        Ok(words) => {
            WORDS.store(words, Ordering::Relaxed);
            // Release pairs with the Acquire in `of`.
            OWNERS.store(owners.cast(), Ordering::Release);
            Ok(())
        }
        Err(why) => {
            // SAFETY: just mapped with this size, and published nowhere.
            let _ = unsafe { memory::munmap(owners, bytes) };
            Err(why)
        }
    }
}

/// Memory below 4 GiB that a fork child finds wiped. From above: a program at low addresses has its
/// heap behind it, which grows.
fn low() -> Result<*mut Words, Errno> {
    const LOWEST: usize = 256 << 20;
    const STEP: usize = 16 << 20;
    const HIGHEST: usize = (4 << 30) - BYTES - STEP;
    let (both, flags) =
        (PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | MAP_FIXED_NOREPLACE);
    for wanted in (LOWEST..=HIGHEST).rev().step_by(STEP) {
        // SAFETY: NOREPLACE takes nothing from anybody.
        let Ok(at) = (unsafe { memory::mmap(wanted, BYTES, both, flags, -1, 0) }) else { continue };
        // Kernels before 4.17 take the address as a wish.
        let advised = if at.expose_provenance() == wanted {
            // SAFETY: just mapped, and nothing is in it.
            unsafe { memory::madvise(at, BYTES, MADV_WIPEONFORK) }
        } else {
            Err(Errno::EEXIST)
        };
        match advised {
            Ok(()) => return Ok(at.cast()),
            Err(why) => {
                // SAFETY: just mapped with this size, and published nowhere.
                let _ = unsafe { memory::munmap(at, BYTES) };
                if why != Errno::EEXIST {
                    return Err(why);
                }
            }
        }
    }
    Err(Errno::ENOMEM)
}

/// The words of all control blocks that have some.
pub(super) fn all() -> impl Iterator<Item = &'static Words> {
    // Acquire pairs with the Release in `map`.
    let owners = OWNERS.load(Ordering::Acquire);
    let words = WORDS.load(Ordering::Relaxed);
    (0..if owners.is_null() { 0 } else { PLACES }).filter_map(move |place| {
        // SAFETY: inside the table, which stays.
        let owner = unsafe { &*owners.wrapping_add(place) };
        // SAFETY: as above; zeros are words, which are atomic.
        let words = unsafe { &*words.wrapping_add(place) };
        (owner.load(Ordering::Relaxed) != 0).then_some(words)
    })
}

/// The words of the control block at that address, and where they are. `None`: no place is left.
pub(super) fn of(control_block: usize) -> Option<(u32, &'static Words)> {
    // Acquire pairs with the Release in `map`.
    let owners = OWNERS.load(Ordering::Acquire);
    if owners.is_null() {
        return None;
    }
    // Control blocks are aligned to 64.
    let hash = (control_block as u64 >> 6).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    let first = (hash >> (64 - PLACE_BITS)) as usize;
    let place = (0..TRIES).map(|n| (first + n) % PLACES).find(|place| {
        let owner = owners.wrapping_add(*place);
        // SAFETY: inside the table, which stays.
        let owner = unsafe { &*owner };
        // Relaxed: an owner stands for itself, and its words are its own.
        match owner.load(Ordering::Relaxed) {
            0 => {
                let taken =
                    owner.compare_exchange(0, control_block, Ordering::Relaxed, Ordering::Relaxed);
                // A handler over this thread may have been faster.
                taken.is_ok() || taken == Err(control_block)
            }
            other => other == control_block,
        }
    })?;
    let words = WORDS.load(Ordering::Relaxed).wrapping_add(place);
    let address = words.expose_provenance();
    // SAFETY: inside the table, which stays; zeros are words, which are atomic.
    let words = unsafe { &*words };
    Some((u32::try_from(address).ok()?, words))
}
