//! Blocks for threads: the segment's, as far as they are this process's.
//!
//! The segment's own word for it is written by every process of the run: one that has fewer rights
//! than this one could have a block handed out twice. What belongs to a block in private memory
//! (the recorder's part of a thread) would then be two threads' at once.

use alloc::boxed::Box;
use core::sync::atomic::{AtomicU64, Ordering};
use wire::{Loss, Owner, Segment};

/// Blocks that are tried where others give out what belongs to this process.
const TRIES: usize = 16;

/// Which blocks threads of this process count in: a bit for each.
///
/// # Context
/// Methods are signal-safe and make no system call, unless they say otherwise.
#[derive(Debug)]
pub struct Owned {
    words: Box<[AtomicU64]>,
}

impl Owned {
    /// None of so many.
    ///
    /// # Context
    /// Allocates.
    pub fn new(blocks: usize) -> Self {
        Self { words: (0..blocks.div_ceil(64)).map(|_| AtomicU64::new(0)).collect() }
    }

    /// Notes that a thread has the block. False: another one of this process has it.
    pub fn take(&self, block: usize) -> bool {
        let bit = 1 << (block % 64);
        // Acquire pairs with the Release in `give`: what the last owner did to the block's private
        // part is done.
        let before = self.words.get(block / 64).map(|w| w.fetch_or(bit, Ordering::Acquire));
        before.is_some_and(|before| before & bit == 0)
    }

    /// Whether a thread of this process has it.
    pub fn has(&self, block: usize) -> bool {
        // Acquire: as in `take`.
        self.words
            .get(block / 64)
            .is_some_and(|w| w.load(Ordering::Acquire) >> (block % 64) & 1 == 1)
    }

    /// The thread has it no more.
    pub fn give(&self, block: usize) {
        if let Some(word) = self.words.get(block / 64) {
            // Release pairs with the Acquire in `take`.
            word.fetch_and(!(1 << (block % 64)), Ordering::Release);
        }
    }

    /// In a fork child, before its thread takes a block: the other threads are not there.
    pub fn forget(&self) {
        // Relaxed: nobody else runs.
        self.words.iter().for_each(|word| word.store(0, Ordering::Relaxed));
    }

    /// A block of the segment for a thread of this process, `owner`, that no other thread of it
    /// has, whatever the segment says; with cells for all functions that there are.
    ///
    /// # Errors
    /// As [`Segment::take_block`].
    ///
    /// # Context
    /// As [`Segment::take_block`].
    pub fn take_block(&self, segment: &Segment, owner: Owner, tid: u32) -> Result<usize, Loss> {
        for _ in 0..TRIES {
            let block = segment.take_block(owner, tid)?;
            if !self.take(block) {
                continue;
            }
            // Whoever adds functions now extends it; whoever did before did not see it.
            if segment.extend_block(block) {
                return Ok(block);
            }
            self.give(block);
            segment.release_block(block);
            return Err(Loss::Memory);
        }
        Err(Loss::Threads)
    }
}

/// The name of the calling thread, padded with zeros.
///
/// # Context
/// One system call.
pub fn thread_name() -> [u8; 16] {
    const PR_GET_NAME: i32 = 16;
    let mut name = [0; 16];
    let place = name.as_mut_ptr().expose_provenance();
    #[allow(unsafe_code)]
    // SAFETY: the kernel writes at most 16 bytes.
    let _ = unsafe { sys::process::prctl(PR_GET_NAME, [place, 0, 0, 0]) };
    name
}

/// Counts a loss of the engine's in the segment; `no_memory`: the last thread that got no block got
/// none for want of memory.
///
/// # Context
/// Signal-safe; no system call.
pub fn lose(segment: &Segment, loss: uprobe::Loss, no_memory: bool) {
    let reason = match loss {
        uprobe::Loss::Recursion => Loss::Recursion,
        uprobe::Loss::Depth => Loss::Depth,
        uprobe::Loss::Capacity if no_memory => Loss::Memory,
        uprobe::Loss::Capacity => Loss::Threads,
        uprobe::Loss::Disabled => Loss::Disabled,
        uprobe::Loss::Overlap => return segment.note_overlap(),
    };
    segment.lose(reason, 1);
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
