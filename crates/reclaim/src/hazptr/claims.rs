//! Which slots of a block are in use, and when the block itself can go.
//!
//! One word: bits 0..8 "slot is free", bit 31 "the block has no owner any more". The owning thread
//! takes slots, any thread gives them back. A thread that exits while one of its slots is held
//! elsewhere (handed off, leaked, in a static) cannot release the block; it leaves that to whoever
//! gives the last slot back. Because both facts are in one word, exactly one operation makes it "no
//! owner and all free".
#![cfg_attr(not(loom), allow(unreachable_pub, reason = "public for models"))]

use percpu::sync::atomic::{AtomicU32, Ordering};

/// Slots per block: one cache line of them.
pub const SLOTS: usize = 8;

const ALL: u32 = (1 << SLOTS) - 1;
const ORPHAN: u32 = 1 << 31;

/// The claim word of a block.
#[derive(Debug, Default)]
pub struct Claims(AtomicU32);

/// The caller made the block orphaned and empty, and has to release it. Said to exactly one caller.
#[must_use]
#[derive(Debug, PartialEq, Eq)]
pub struct LastOne(pub bool);

impl Claims {
    /// Puts the word into its starting state: `free` is a bit set of the slots that can be taken.
    /// The caller has just acquired the block.
    pub fn reset(&self, free: u32) {
        // Relaxed: nobody else uses the block yet; slots reach other threads only through a
        // hand-off, which orders this.
        self.0.store(free, Ordering::Relaxed);
    }

    /// Takes a free slot. Only the owning thread and its signal handlers call it.
    pub fn take(&self) -> Option<usize> {
        let mut free = self.0.load(Ordering::Relaxed);
        loop {
            let index = (free & ALL).trailing_zeros();
            if index as usize >= SLOTS {
                return None;
            }
            // Acquire pairs with the Release in `give`: the former holder's last write to the slot
            // comes before ours.
            match self.0.compare_exchange_weak(
                free,
                free & !(1 << index),
                Ordering::Acquire,
                Ordering::Relaxed,
            ) {
                Ok(_) => return Some(index as usize),
                Err(now) => free = now,
            }
        }
    }

    /// Gives a slot back, from any thread.
    pub fn give(&self, index: usize) -> LastOne {
        self.give_back(1 << index)
    }

    /// The owner is gone (or goes now): nobody takes slots any more. `slots` are given back with
    /// it.
    pub fn orphan(&self, slots: u32) -> LastOne {
        self.give_back(slots | ORPHAN)
    }

    /// The slots that are not free.
    pub fn held(&self) -> u32 {
        // Acquire pairs with the Release in `give`.
        !self.0.load(Ordering::Acquire) & ALL
    }

    fn give_back(&self, bits: u32) -> LastOne {
        // Release pairs with the Acquire in `take`, and with the Acquire here of the one who gives
        // back last and releases the block.
        let before = self.0.fetch_or(bits, Ordering::AcqRel);
        let after = before | bits;
        LastOne(after == ALL | ORPHAN && before != after)
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    #[test]
    fn takes_each_slot_once() {
        let claims = Claims::default();
        claims.reset(0b1010);
        assert_eq!((claims.take(), claims.take(), claims.take()), (Some(1), Some(3), None));
        assert_eq!(claims.give(3), LastOne(false));
        assert_eq!(claims.take(), Some(3));
    }

    #[test]
    fn the_last_to_give_back_releases_whoever_it_is() {
        let claims = Claims::default();
        claims.reset(ALL);
        let slot = claims.take().unwrap();
        assert_eq!(claims.orphan(0), LastOne(false));
        assert_eq!(claims.give(slot), LastOne(true));

        claims.reset(ALL);
        let slot = claims.take().unwrap();
        assert_eq!(claims.give(slot), LastOne(false));
        assert_eq!(claims.orphan(0), LastOne(true));
    }

    #[test]
    fn no_slot_of_an_orphan_is_taken() {
        let claims = Claims::default();
        claims.reset(ALL & !1);
        assert_eq!(claims.orphan(0), LastOne(false));
        assert_eq!(claims.held(), 1);
    }
}
