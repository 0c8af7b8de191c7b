//! The cells that the engine counts in: what the agent's shared segment is to a traced program, as
//! private memory.
#![allow(unsafe_code)]

use std::io;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

/// Bytes of a block, of which only what is touched becomes memory.
pub(super) const BLOCK: usize = 1 << 20;
/// Threads at a time.
const BLOCKS: usize = 256;

/// A block for each thread; those of threads that are gone are counted on by later ones.
pub(super) struct Blocks {
    start: usize,
    taken: [AtomicBool; BLOCKS],
}

static BLOCKS_OF_PROCESS: OnceLock<Blocks> = OnceLock::new();

/// Reserves them; afterwards [`take`] and [`give_back`] work.
pub(super) fn reserve() -> io::Result<()> {
    if BLOCKS_OF_PROCESS.get().is_some() {
        return Ok(());
    }
    let (access, kind) = (
        libc::PROT_READ | libc::PROT_WRITE,
        libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_NORESERVE,
    );
    // SAFETY: a new mapping at an address of the kernel's choice.
    let start = unsafe { libc::mmap(std::ptr::null_mut(), BLOCK * BLOCKS, access, kind, -1, 0) };
    if start == libc::MAP_FAILED {
        return Err(io::Error::last_os_error());
    }
    let blocks = Blocks {
        start: start.expose_provenance(),
        taken: [const { AtomicBool::new(false) }; BLOCKS],
    };
    // Somebody else's reservation is as good.
    let _ = BLOCKS_OF_PROCESS.set(blocks);
    Ok(())
}

/// A block that no other thread has, or null.
///
/// # Context
/// Signal-safe, never allocates.
pub(super) fn take() -> *mut u8 {
    let Some(blocks) = BLOCKS_OF_PROCESS.get() else { return std::ptr::null_mut() };
    // Acquire pairs with the Release in `give_back`: the new owner adds to what the old one has
    // stored.
    let free = |taken: &AtomicBool| !taken.swap(true, Ordering::Acquire);
    match blocks.taken.iter().position(free) {
        Some(index) => std::ptr::with_exposed_provenance_mut(blocks.start + index * BLOCK),
        None => std::ptr::null_mut(),
    }
}

/// The block is anybody's again; what was counted in it stays.
pub(super) fn give_back(block: *mut u8) {
    if let Some(blocks) = BLOCKS_OF_PROCESS.get()
        && let Some(taken) = blocks.taken.get((block.addr().wrapping_sub(blocks.start)) / BLOCK)
    {
        taken.store(false, Ordering::Release);
    }
}

/// The word at `offset` of all blocks, summed.
pub(super) fn sum(offset: usize) -> u64 {
    assert!(offset + 8 <= BLOCK && offset.is_multiple_of(8), "a word of a block");
    let Some(blocks) = BLOCKS_OF_PROCESS.get() else { return 0 };
    let word = |index: usize| {
        let place =
            std::ptr::with_exposed_provenance::<AtomicU64>(blocks.start + index * BLOCK + offset);
        // SAFETY: an aligned word inside the mapping, which is never unmapped; its owner stores
        // whole words.
        let word = unsafe { &*place };
        word.load(Ordering::Relaxed)
    };
    (0..BLOCKS).map(word).sum()
}

#[cfg(test)]
mod tests {
    use super::{BLOCK, give_back, reserve, sum, take};

    #[test]
    fn blocks_are_distinct_come_back_and_keep_their_counts() {
        reserve().expect("address space");
        let before = sum(BLOCK - 8);
        let (a, b) = (take(), take());
        assert!(!a.is_null() && !b.is_null() && a != b);
        // SAFETY: inside the block.
        let last = unsafe { a.add(BLOCK - 8) };
        // SAFETY: an aligned word of a block that this test has alone.
        unsafe { last.cast::<u64>().write(5) };
        give_back(a);
        assert_eq!(sum(BLOCK - 8) - before, 5);
        give_back(b);
    }
}
