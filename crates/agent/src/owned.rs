//! The blocks that threads of this process count in, as this process knows them.
//!
//! The segment's own word for it is written by every process of the run: one that has fewer rights
//! than this one could have a block handed out twice. What belongs to a block in private memory
//! (the recorder's part of a thread) would then be two threads' at once.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};

static OWNED: OnceLock<Owned> = OnceLock::new();

/// A bit for each block.
#[derive(Debug)]
pub(crate) struct Owned {
    words: Box<[AtomicU64]>,
}

impl Owned {
    fn new(blocks: usize) -> Self {
        Self { words: (0..blocks.div_ceil(64)).map(|_| AtomicU64::new(0)).collect() }
    }

    /// Notes that a thread has the block. False: another one of this process has it.
    pub(crate) fn take(&self, block: usize) -> bool {
        let bit = 1 << (block % 64);
        // Acquire pairs with the Release in `give`: what the last owner did to the block's private
        // part is done.
        let before = self.words.get(block / 64).map(|w| w.fetch_or(bit, Ordering::Acquire));
        before.is_some_and(|before| before & bit == 0)
    }

    /// Whether a thread of this process has it.
    pub(crate) fn has(&self, block: usize) -> bool {
        // Acquire: as in `take`.
        self.words
            .get(block / 64)
            .is_some_and(|w| w.load(Ordering::Acquire) >> (block % 64) & 1 == 1)
    }

    /// The thread has it no more.
    pub(crate) fn give(&self, block: usize) {
        if let Some(word) = self.words.get(block / 64) {
            // Release pairs with the Acquire in `take`.
            word.fetch_and(!(1 << (block % 64)), Ordering::Release);
        }
    }

    /// In a fork child, before its thread takes a block: the other threads are not there.
    pub(crate) fn forget(&self) {
        // Relaxed: nobody else runs.
        self.words.iter().for_each(|word| word.store(0, Ordering::Relaxed));
    }
}

/// Makes room for so many blocks, once.
pub(crate) fn prepare(blocks: usize) {
    OWNED.get_or_init(|| Owned::new(blocks));
}

/// Those of this process, once there are some.
pub(crate) fn get() -> Option<&'static Owned> {
    OWNED.get()
}

#[cfg(test)]
mod tests {
    use super::Owned;

    #[test]
    fn a_block_has_one_owner() {
        let owned = Owned::new(65);
        assert!(owned.take(0) && owned.take(64) && !owned.take(64) && owned.take(63));
        assert!(owned.has(64) && !owned.has(1) && !owned.has(1 << 20));
        owned.give(64);
        assert!(!owned.has(64));
        assert!(owned.take(64) && !owned.take(0));
        owned.forget();
        assert!(owned.take(0) && owned.take(63));
        assert!(!owned.take(1 << 20), "there is no such block");
        owned.give(1 << 20);
    }
}
