//! The slot policies that the permanent slots are measured against: per hit, as the kernel's
//! uprobes, and sticky per thread, as the patch that was posted for them.
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
const SLOTS: usize = 4096;

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
    /// As the kernel today: in a slot that is taken and written at every hit. For benchmarks.
    PerHit,
}

/// Addresses of the executable and of the writable view; 0: not mapped.
static CODE: AtomicUsize = AtomicUsize::new(0);
static DATA: AtomicUsize = AtomicUsize::new(0);
/// A bit for each slot that is taken.
static TAKEN: [AtomicU64; SLOTS / 64] = [const { AtomicU64::new(0) }; SLOTS / 64];
/// The site whose code is in a slot.
static CONTENT: [AtomicU32; SLOTS] = [const { AtomicU32::new(0) }; SLOTS];

/// Maps the slots, once, under the engine's lock. False: no memory.
pub(crate) fn prepare() -> bool {
    if CODE.load(Ordering::Acquire) != 0 {
        return true;
    }
    let bytes = SLOT * SLOTS;
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
    // The thread's word: two slot numbers plus 1 each, the newer one in the low half.
    let word = tls::get(tls::Key::User2).addr();
    let (newer, older) = (word as u32, (word >> 32) as u32);
    let slot = if policy == SlotPolicy::StickyPerThread && newer != 0 {
        newer - 1
    } else {
        let slot = take()?;
        if older != 0 {
            give_back(older - 1);
        }
        let word = ptr::without_provenance_mut((newer as usize) << 32 | (slot as usize + 1));
        // SAFETY: the key is this module's, which reads a number out of it.
        unsafe { tls::set(tls::Key::User2, word) };
        slot
    };
    let content = &CONTENT[slot as usize % SLOTS];
    if policy == SlotPolicy::PerHit || content.load(Ordering::Relaxed) != index {
        fill(slot as usize, code);
        content.store(index, Ordering::Relaxed);
    }
    Some((base + slot as usize * SLOT) as u64)
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

fn take() -> Option<u32> {
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
                Ok(_) => return Some(i as u32 * 64 + bit),
                Err(seen) => now = seen,
            }
        }
        None
    })
}

fn give_back(slot: u32) {
    TAKEN[slot as usize / 64 % TAKEN.len()].fetch_and(!(1 << (slot % 64)), Ordering::Release);
}
