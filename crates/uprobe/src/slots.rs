//! The slot policies that the permanent slots are measured against: per hit, as the kernel's
//! uprobes; sticky per thread, and a map in each thread, as the patch that was posted for them.
//!
//! Both need memory that is written while threads run in it, so it is mapped twice: executable
//! here, writable there. A slot that is taken per hit is free again when its thread takes the next
//! one: by then the thread has left it, unless a signal handler interrupted it there, so a thread
//! has two in turn.
#![allow(unsafe_code)]

use crate::descriptor::Descriptor;
use core::ptr;
use core::sync::atomic::{AtomicU8, AtomicU32, AtomicU64, AtomicUsize, Ordering, fence};
use percpu::tls;
use sys::memory::{MAP_SHARED, PROT_EXEC, PROT_READ, PROT_WRITE};

/// Bytes of a slot: an instruction of up to 15 bytes, relocated, and an absolute jump.
const SLOT: usize = 64;
/// Slots that are taken one by one.
const SLOTS: usize = 4096;
/// Threads that have a map, and sites in it: those whose numbers are the same by this size take
/// each other's place. Their slots come behind the others.
const MAPS: usize = 512;
const MAPPED: usize = 64;
const ALL: usize = SLOTS + MAPS * MAPPED;
/// The slots, then what is in each ([`content`]).
const BYTES: usize = ALL * (SLOT + size_of::<AtomicU32>());

/// Where the copy of a breakpoint's instruction runs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum SlotPolicy {
    /// In a slot of the site's own, written when it was armed. The default, and the fastest.
    #[default]
    Permanent,
    /// As the posted kernel patch: in a slot of the thread's own, which is written anew when the
    /// thread comes by another site. For benchmarks: its pages are writable through a second
    /// mapping.
    StickyPerThread,
    /// As the cache of the posted kernel patch: in a slot of the thread's own for each site, found
    /// in a map of 64 sites. For benchmarks: 512 threads of a process have a map, the others take
    /// the site's own slot.
    CachePerThread,
    /// As the kernel today: in a slot that is taken and written at every hit. For benchmarks.
    PerHit,
}

/// Addresses of the executable and of the writable view; 0: not mapped.
static CODE: AtomicUsize = AtomicUsize::new(0);
static DATA: AtomicUsize = AtomicUsize::new(0);
/// A bit for each slot that is taken.
static TAKEN: [AtomicU64; SLOTS / 64] = [const { AtomicU64::new(0) }; SLOTS / 64];
/// Maps that threads have been given.
static MAPS_TAKEN: AtomicU32 = AtomicU32::new(0);

/// Maps the slots, once, under the engine's lock. False: no memory.
pub(crate) fn prepare() -> bool {
    if CODE.load(Ordering::Acquire) != 0 {
        return true;
    }
    let bytes = BYTES;
    let Some(file) = Descriptor::in_memory(c"trapline-slots", bytes) else { return false };
    // SAFETY: a new mapping.
    let map = |protection| unsafe { file.map(0, bytes, protection, MAP_SHARED) };
    let sized = file.set_len(bytes);
    let views = (map(PROT_READ | PROT_EXEC), map(PROT_READ | PROT_WRITE));
    match views {
        (Some(code), Some(data)) if sized => {
            DATA.store(data, Ordering::Relaxed);
            // Release pairs with the Acquire above and in `place`.
            CODE.store(code, Ordering::Release);
            true
        }
        _ => false,
    }
}

/// A slot with `code`, position-independent, of the site `index`. `None`: the site's own slot is to
/// be used.
///
/// Context: signal-safe, no system call.
pub(crate) fn place(policy: SlotPolicy, index: u32, code: &[u8]) -> Option<u64> {
    let base = CODE.load(Ordering::Acquire);
    if base == 0 || code.len() > SLOT || policy == SlotPolicy::Permanent {
        return None;
    }
    // The thread's word: two slot numbers and a map's, plus 1 each, the newer slot lowest.
    let word = tls::get(tls::Key::User2).addr();
    let part = |number: u32| (word >> (16 * number)) as u16;
    let (newer, older, map) = (part(0), part(1), part(2));
    let slot = match policy {
        SlotPolicy::CachePerThread => {
            let map = if map != 0 { map - 1 } else { take_map(word)? };
            SLOTS + usize::from(map) * MAPPED + index as usize % MAPPED
        }
        SlotPolicy::StickyPerThread if newer != 0 => usize::from(newer - 1),
        _ => {
            let slot = take()?;
            if older != 0 {
                give_back(older - 1);
            }
            let slots = usize::from(newer) << 16 | usize::from(slot + 1);
            keep(word & !0xffff_ffff | slots);
            usize::from(slot)
        }
    };
    let (content, site) = (content(slot), index + 1);
    if policy == SlotPolicy::PerHit || content.load(Ordering::Relaxed) != site {
        fill(slot, code);
        content.store(site, Ordering::Relaxed);
    }
    Some((base + slot * SLOT) as u64)
}

/// Writes the thread's word.
fn keep(word: usize) {
    // SAFETY: the key is this module's, which reads numbers out of it.
    unsafe { tls::set(tls::Key::User2, ptr::without_provenance_mut(word)) };
}

/// A map that is the thread's for ever. `None`: all are taken.
fn take_map(word: usize) -> Option<u16> {
    let next = |taken: u32| (taken < MAPS as u32).then_some(taken + 1);
    let map = MAPS_TAKEN.fetch_update(Ordering::Relaxed, Ordering::Relaxed, next).ok()? as u16;
    keep(word | usize::from(map + 1) << 32);
    Some(map)
}

/// The number, plus 1, of the site whose code is in a slot; 0: none yet.
fn content(slot: usize) -> &'static AtomicU32 {
    let at = DATA.load(Ordering::Relaxed) + ALL * SLOT + slot * size_of::<AtomicU32>();
    // SAFETY: `slot` is below ALL, so that this is a word of the writable view, which is never
    // unmapped; it is written as this atomic only.
    unsafe { &*ptr::with_exposed_provenance::<AtomicU32>(at) }
}

fn fill(slot: usize, code: &[u8]) {
    let at = DATA.load(Ordering::Relaxed) + slot * SLOT;
    for (i, byte) in code.iter().enumerate() {
        let to = ptr::with_exposed_provenance::<AtomicU8>(at + i);
        // SAFETY: the slot is the thread's own, in the writable view, and code is not longer than a
        // slot.
        unsafe { (*to).store(*byte, Ordering::Relaxed) };
    }
    // The same core fetches it next; returning from the handler serialises.
    fence(Ordering::SeqCst);
}

fn take() -> Option<u16> {
    TAKEN.iter().enumerate().find_map(|(i, word)| {
        let mut now = word.load(Ordering::Relaxed);
        while now != u64::MAX {
            let bit = now.trailing_ones();
            // Acquire pairs with the Release in `give_back`.
            match word.compare_exchange_weak(
                now,
                now | 1 << bit,
                Ordering::Acquire,
                Ordering::Relaxed,
            ) {
                Ok(_) => return Some(i as u16 * 64 + bit as u16),
                Err(seen) => now = seen,
            }
        }
        None
    })
}

fn give_back(slot: u16) {
    let word = &TAKEN[usize::from(slot) / 64 % TAKEN.len()];
    word.fetch_and(!(1 << (slot % 64)), Ordering::Release);
}
