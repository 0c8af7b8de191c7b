//! Memory for the agent alone, from the kernel: the program's `malloc` may be probed, and counting
//! it must not call it.
//!
//! Sizes are rounded up to powers of two from 16 bytes to 1 MiB, each with a list of freed pieces;
//! larger ones are mapped by themselves. The agent allocates while it arms and when libraries come
//! and go, not at hits, so one lock is enough. It is a spin lock with no signal safety: nothing
//! here is called from signal handlers.
//!
//! A fork child, however it was made, finds the lock free ([`uprobe::Lock`]), and the lists as
//! another thread of its parent may have left them in the middle of a change: every word is written
//! when those before it in the order of the program are, so that a piece of memory is lost at most.
#![allow(unsafe_code)]

use core::alloc::{GlobalAlloc, Layout};
use core::ptr;
use core::sync::atomic::{AtomicPtr, AtomicU64, AtomicUsize, Ordering};
use sys::memory::{self, PAGE};
use uprobe::Lock;

const SMALLEST: usize = 16;
const LARGEST: usize = 1 << 20;
const CLASSES: usize = (LARGEST.trailing_zeros() - SMALLEST.trailing_zeros() + 1) as usize;
const CHUNK: usize = 2 << 20;

/// A freed piece.
struct Free {
    next: *mut Free,
}

/// Written under the lock. Release: in the order of the program, for a fork child, to which memory
/// is copied as it is at some moment.
struct Pools {
    free: [AtomicPtr<Free>; CLASSES],
    /// What is left of the newest chunk.
    start: AtomicUsize,
    end: AtomicUsize,
}

/// Memory for an agent alone; to be its `#[global_allocator]`. One in a process.
///
/// # Context
/// System calls when there is nothing left; a spin lock. Not from signal handlers.
pub struct Allocator {
    pools: Pools,
    mapped: AtomicU64,
}

/// Behind those of the engine.
const LOCK: Lock = Lock::new(100);

/// The class of a size, and its pieces' size; `None`: a mapping of its own.
fn class(layout: Layout) -> Option<(usize, usize)> {
    let size = layout.size().max(layout.align()).max(SMALLEST).checked_next_power_of_two()?;
    (size <= LARGEST).then(|| ((size.trailing_zeros() - SMALLEST.trailing_zeros()) as usize, size))
}

impl Allocator {
    /// Without any memory yet.
    pub const fn new() -> Self {
        let free = [const { AtomicPtr::new(ptr::null_mut()) }; CLASSES];
        let (start, end) = (AtomicUsize::new(0), AtomicUsize::new(0));
        Self { pools: Pools { free, start, end }, mapped: AtomicU64::new(0) }
    }

    /// Bytes that are mapped.
    ///
    /// # Context
    /// Signal-safe.
    pub fn mapped(&self) -> u64 {
        self.mapped.load(Ordering::Relaxed)
    }

    /// Sees to it that half a megabyte and more can be had without asking the kernel.
    ///
    /// # Context
    /// As for any allocation.
    pub fn reserve(&self) {
        const ENOUGH: usize = CHUNK / 2;
        self.with(|pools| {
            let end = pools.end.load(Ordering::Relaxed);
            if end.saturating_sub(pools.start.load(Ordering::Relaxed)) < ENOUGH {
                self.begin_chunk(pools);
            }
        });
    }

    fn with<R>(&self, f: impl FnOnce(&Pools) -> R) -> R {
        LOCK.with(|| f(&self.pools))
    }

    fn map(&self, bytes: usize) -> *mut u8 {
        let Ok(at) = memory::pages(bytes) else { return ptr::null_mut() };
        self.mapped.fetch_add(bytes as u64, Ordering::Relaxed);
        at.as_ptr()
    }

    fn begin_chunk(&self, pools: &Pools) -> bool {
        let chunk = self.map(CHUNK);
        if chunk.is_null() {
            return false;
        }
        let start = chunk.expose_provenance();
        // No state in between joins the start of one chunk and the end of another.
        pools.end.store(0, Ordering::Release);
        pools.start.store(start, Ordering::Release);
        pools.end.store(start + CHUNK, Ordering::Release);
        true
    }

    fn take(&self, pools: &Pools, class: usize, size: usize) -> *mut u8 {
        let first = pools.free[class].load(Ordering::Relaxed);
        if !first.is_null() {
            // SAFETY: a freed piece, which `dealloc` gave a link.
            pools.free[class].store(unsafe { (*first).next }, Ordering::Release);
            return first.cast();
        }
        // Pieces are aligned to their size, up to the chunk's own alignment of a page.
        let place = || pools.start.load(Ordering::Relaxed).next_multiple_of(size.min(PAGE));
        let end = pools.end.load(Ordering::Relaxed);
        if (end == 0 || place() + size > end) && !self.begin_chunk(pools) {
            return ptr::null_mut();
        }
        let start = place();
        pools.start.store(start + size, Ordering::Release);
        ptr::with_exposed_provenance_mut(start)
    }
}

impl Default for Allocator {
    fn default() -> Self {
        Self::new()
    }
}

// SAFETY: pieces come from private mappings, are as large and aligned as asked (alignments above a
// page are refused), and are handed out to one owner at a time.
unsafe impl GlobalAlloc for Allocator {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        if layout.align() > PAGE {
            return ptr::null_mut();
        }
        match class(layout) {
            Some((class, size)) => self.with(|pools| self.take(pools, class, size)),
            None => self.map(layout.size().next_multiple_of(PAGE)),
        }
    }

    unsafe fn dealloc(&self, at: *mut u8, layout: Layout) {
        match class(layout) {
            Some((class, _)) => self.with(|pools| {
                let piece = at.cast::<Free>();
                let next = pools.free[class].load(Ordering::Relaxed);
                // SAFETY: the caller gives back a piece of at least 16 bytes that nobody uses any
                // more.
                unsafe { piece.write(Free { next }) };
                pools.free[class].store(piece, Ordering::Release);
            }),
            None => {
                let bytes = layout.size().next_multiple_of(PAGE);
                // SAFETY: a mapping of its own, which nobody uses any more.
                let _ = unsafe { memory::munmap(at, bytes) };
                self.mapped.fetch_sub(bytes as u64, Ordering::Relaxed);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::Allocator;
    use core::alloc::{GlobalAlloc, Layout};
    use std::vec::Vec;

    static ALLOCATOR: Allocator = Allocator::new();

    #[test]
    fn pieces_are_aligned_do_not_overlap_and_come_back() {
        let mut all = Vec::new();
        for (i, (size, align)) in [
            (1, 1),
            (16, 16),
            (17, 8),
            (100, 64),
            (4096, 4096),
            (70_000, 16),
            (1 << 20, 16),
            (3 << 20, 32),
        ]
        .into_iter()
        .cycle()
        .take(400)
        .enumerate()
        {
            let layout = Layout::from_size_align(size, align).unwrap();
            // SAFETY: sizes are not 0.
            let at = unsafe { ALLOCATOR.alloc(layout) };
            assert!(!at.is_null() && at.addr().is_multiple_of(align));
            // SAFETY: just allocated.
            unsafe { at.write_bytes(i as u8, size) };
            all.push((at, layout, i as u8));
        }
        for (at, layout, value) in all {
            assert!(
                // SAFETY: allocated above.
                unsafe { core::slice::from_raw_parts(at, layout.size()) }
                    .iter()
                    .all(|b| *b == value)
            );
            // SAFETY: allocated above, not used afterwards.
            unsafe { ALLOCATOR.dealloc(at, layout) };
        }
        let layout = Layout::from_size_align(100, 64).unwrap();
        // SAFETY: the size is not 0.
        let first = unsafe { ALLOCATOR.alloc(layout) };
        // SAFETY: as above.
        let second = unsafe { ALLOCATOR.alloc(layout) };
        assert_ne!(first, second);
    }
}
