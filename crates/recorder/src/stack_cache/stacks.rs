//! Stacks by the hash of their words: a table with linear probing in a window, all of which is
//! emptied at once.

use alloc::boxed::Box;
use alloc::vec;
use core::sync::atomic::{Ordering, compiler_fence};
use wire::StackCell;

/// Entries that are looked at for a stack.
const WINDOW: usize = 16;

/// A stack.
#[derive(Clone, Copy, Debug)]
struct Entry {
    hash: u128,
    cell: Option<&'static StackCell>,
    index: u32,
    /// Another one than the table's: the entry is empty.
    epoch: u32,
}

#[derive(Debug)]
pub(crate) struct Stacks {
    entries: Box<[Entry]>,
    /// Where the next full window loses one.
    turn: usize,
}

impl Stacks {
    pub(crate) const fn bytes(log2: u32) -> usize {
        size_of::<Entry>() << log2
    }

    pub(crate) fn new(log2: u32) -> Self {
        Self {
            entries: vec![Entry { hash: 0, cell: None, index: 0, epoch: 0 }; 1 << log2]
                .into_boxed_slice(),
            turn: 0,
        }
    }

    /// The entries where a stack may be.
    #[inline(always)]
    fn window(&self, hash: u128) -> impl Iterator<Item = usize> + use<> {
        let mask = self.entries.len() - 1;
        let mixed = (hash as u64 ^ (hash >> 64) as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        (0..WINDOW).map(move |n| ((mixed >> 32) as usize + n) & mask)
    }

    /// The cell of a stack, and its index.
    #[inline(always)]
    pub(crate) fn find(&self, hash: u128, epoch: u32) -> Option<(&'static StackCell, u32)> {
        let entry = self.entries.get(self.window(hash).next()?)?;
        if (entry.hash, entry.epoch) == (hash, epoch) {
            return Some((entry.cell?, entry.index));
        }
        self.find_further(hash, epoch)
    }

    #[inline(never)]
    fn find_further(&self, hash: u128, epoch: u32) -> Option<(&'static StackCell, u32)> {
        let entries = self
            .window(hash)
            .filter_map(|at| self.entries.get(at))
            .take_while(|entry| entry.epoch == epoch);
        let entry = entries.into_iter().find(|entry| entry.hash == hash)?;
        Some((entry.cell?, entry.index))
    }

    /// Adds a stack. False: another one was lost for it.
    pub(crate) fn add(
        &mut self,
        hash: u128,
        epoch: u32,
        (cell, index): (&'static StackCell, u32),
    ) -> bool {
        let free = self
            .window(hash)
            .find(|at| self.entries[*at].epoch != epoch || self.entries[*at].hash == hash);
        let at = free.unwrap_or_else(|| {
            self.turn += 1;
            let turn = self.turn % WINDOW;
            self.window(hash).nth(turn).unwrap_or_default()
        });
        let entry = &mut self.entries[at];
        // Step by step: a signal handler may leave this function by a jump and never come back.
        entry.epoch = 0;
        compiler_fence(Ordering::SeqCst);
        (entry.hash, entry.cell, entry.index) = (hash, Some(cell), index);
        compiler_fence(Ordering::SeqCst);
        entry.epoch = epoch;
        free.is_some()
    }

    /// Empties the table for epochs that were used before.
    pub(crate) fn clear(&mut self) {
        self.entries.iter_mut().for_each(|entry| entry.epoch = 0);
    }
}

#[cfg(test)]
mod tests {
    use super::{Stacks, WINDOW};
    use alloc::boxed::Box;
    use wire::StackCell;

    fn cell() -> &'static StackCell {
        Box::leak(Box::new(StackCell { handle: 0.into(), age: 0.into(), calls: 0.into() }))
    }

    #[test]
    fn what_was_added_is_found_in_its_epoch() {
        let mut stacks = Stacks::new(8);
        let cell = cell();
        let hash = |n: u32| u128::from(n) << 64 | 5;
        let kept = (1..=128).filter(|n| stacks.add(hash(*n), 1, (cell, *n))).count();
        assert!(kept > 120, "{kept}");
        let found = |stacks: &Stacks, epoch| {
            (1..=128)
                .filter(|n| stacks.find(hash(*n), epoch).is_some_and(|(_, index)| index == *n))
                .count()
        };
        assert!(found(&stacks, 1) >= kept - (128 - kept));
        assert_eq!((found(&stacks, 2), stacks.find(hash(129), 1).is_none()), (0, true));
        // The new epoch has all of the room.
        assert!((1..=8).all(|n| stacks.add(hash(n), 2, (cell, n))));
        assert_eq!(found(&stacks, 2), 8);
        stacks.clear();
        assert_eq!((found(&stacks, 1), found(&stacks, 2)), (0, 0));
    }

    #[test]
    fn in_a_window_that_is_full_one_gives_way_to_another() {
        let mut stacks = Stacks::new(WINDOW.trailing_zeros());
        let cell = cell();
        assert!((1..=WINDOW as u128).all(|n| stacks.add(n, 1, (cell, n as u32))));
        assert!(stacks.add(3, 1, (cell, 33)), "the same one again");
        assert_eq!(stacks.find(3, 1).unwrap().1, 33);
        for n in WINDOW as u128 + 1..=100 {
            assert!(!stacks.add(n, 1, (cell, n as u32)));
            assert_eq!(stacks.find(n, 1).unwrap().1, n as u32);
            assert_eq!((1..=n).filter(|n| stacks.find(*n, 1).is_some()).count(), WINDOW);
        }
    }
}
