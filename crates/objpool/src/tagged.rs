//! A stack of entries whose head is one word with a tag.

use percpu::sync::atomic::{AtomicU64, Ordering};

/// The bits of a head (or link) that name an entry: an object's number and what its list adds to
/// it, or 0 for none.
pub(crate) const ENTRY_BITS: u32 = 25;
pub(crate) const ENTRY_MASK: u64 = (1 << ENTRY_BITS) - 1;
const TAG: u64 = 1 << ENTRY_BITS;

const _: () = assert!(crate::MAX_CAPACITY as u64 <= ENTRY_MASK, "every object has an entry");

/// Treiber's stack (R. K. Treiber, IBM RJ 5118, 1986) over numbered entries:
/// `[tag:39 | top entry:25]`, links outside.
///
/// Each push makes a new tag, so a pop whose view is old fails its compare-and-swap even when the
/// same entry is on top again. A pop keeps the tag: without a push in between the entries only
/// change downwards, and none comes back.
///
/// `links[entry]` belongs to whoever owns the entry; a popper with an old view may read anything
/// there, and then its compare-and-swap fails.
#[derive(Debug)]
pub(crate) struct TaggedStack {
    head: AtomicU64,
}

impl TaggedStack {
    pub(crate) fn new() -> Self {
        Self { head: AtomicU64::new(0) }
    }

    /// Takes the top entry; with none, the stack's version: two equal ones mean that it was empty
    /// in between.
    #[inline]
    pub(crate) fn pop(&self, links: &[AtomicU64]) -> Result<u32, u64> {
        // SeqCst, here and in the other accesses of the head: looks over several stacks
        // (`until_empty_twice`) need one order of all of them. Among them Acquire pairs with the
        // Release of the push: link and object are there.
        let mut head = self.head.load(Ordering::SeqCst);
        loop {
            let entry = head & ENTRY_MASK;
            if entry == 0 {
                return Err(head / TAG);
            }
            // Relaxed: ordered by the acquire of the head. What an old view reads here is never
            // used: see above.
            let below = links[entry as usize].load(Ordering::Relaxed) & ENTRY_MASK;
            match self.head.compare_exchange_weak(
                head,
                (head & !ENTRY_MASK) | below,
                Ordering::SeqCst,
                Ordering::SeqCst,
            ) {
                Ok(_) => return Ok(entry as u32),
                Err(now) => head = now,
            }
        }
    }

    /// Puts `entry`, which the caller owns, on top. Returns how many pushes this stack has seen.
    #[inline]
    pub(crate) fn push(&self, links: &[AtomicU64], entry: u32) -> u64 {
        let mut head = self.head.load(Ordering::Relaxed);
        loop {
            // Relaxed: published by the compare-and-swap below.
            links[entry as usize].store(head & ENTRY_MASK, Ordering::Relaxed);
            let next = (head & !ENTRY_MASK).wrapping_add(TAG) | u64::from(entry);
            match self.head.compare_exchange_weak(head, next, Ordering::SeqCst, Ordering::Relaxed) {
                Ok(_) => return next / TAG,
                Err(now) => head = now,
            }
        }
    }
}
