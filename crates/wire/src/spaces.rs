//! The blocks in the address space of a process that counts: each at its place in a region that is
//! nobody's, mapped when a thread takes it and unmapped when the thread has ended.
//!
//! The region is as large as the blocks' part of the file, some terabytes, and *not* reserved: only
//! blocks that this process's threads have are mapped, up to the cells that there are functions
//! for. It lies in the middle of the largest hole of the address space, so that what the program
//! maps does not come near; where it does, that block is not used here. As places follow from
//! numbers, a block grows where it is when functions are added, and nobody's pointers change.
//!
//! Later mappings need no file and no descriptor, which programs close and chroot away from: they
//! are copies of one page's mapping, the anchor, moved on to their place
//! ([`crate::memory::again`]).
#![allow(unsafe_code)]

use crate::layout::PAGE;
use crate::lock::Lock;
use crate::memory::{again, longer, populate};
use alloc::boxed::Box;
use core::ptr;
use core::sync::atomic::{AtomicU32, Ordering};
use sys::memory::{
    self, MAP_ANONYMOUS, MAP_FIXED_NOREPLACE, MAP_NORESERVE, MAP_PRIVATE, MREMAP_FIXED,
    MREMAP_MAYMOVE, PROT_NONE,
};

/// Steps to a block that is far away, where the program's limits forbid one step.
const STEP: usize = 16 << 20;

#[derive(Debug)]
pub(crate) struct Spaces {
    /// Mapping of the first page of the first block.
    anchor: *mut u8,
    /// Where the region begins.
    base: usize,
    block_bytes: usize,
    /// Pages mapped of each block.
    mapped: Box<[AtomicU32]>,
    lock: Lock,
}

// SAFETY: addresses of mappings, which belong to no thread; changes are made under the lock.
unsafe impl Send for Spaces {}
// SAFETY: as above.
unsafe impl Sync for Spaces {}

impl Spaces {
    /// Blocks that begin where `anchor`, a mapped page of theirs, does in the file.
    pub(crate) fn new(anchor: *mut u8, base: usize, block_bytes: usize, blocks: usize) -> Self {
        let mapped = (0..blocks).map(|_| AtomicU32::new(0)).collect();
        Self { anchor, base, block_bytes, mapped, lock: Lock::default() }
    }

    /// Address of a block, mapped or not.
    pub(crate) fn place(&self, index: usize) -> usize {
        self.base + index * self.block_bytes
    }

    /// The block whose place begins at an address.
    pub(crate) fn index(&self, address: usize) -> Option<usize> {
        let offset = address.checked_sub(self.base)?;
        let index = offset / self.block_bytes;
        (offset.is_multiple_of(self.block_bytes) && index < self.mapped.len()).then_some(index)
    }

    /// Bytes mapped of a block.
    pub(crate) fn mapped(&self, index: usize) -> usize {
        // Relaxed: whoever asks has the block, or only wants to know.
        self.mapped.get(index).map_or(0, |pages| pages.load(Ordering::Relaxed) as usize * PAGE)
    }

    /// Maps the first `bytes` of a block, with memory for the first `filled`. False: something else
    /// is there, a limit of the program's is reached, or there is no memory.
    pub(crate) fn map(&self, index: usize, bytes: usize, filled: usize) -> bool {
        let bytes = bytes.next_multiple_of(PAGE).clamp(PAGE, self.block_bytes);
        let mapped = self.lock.with(|| {
            let old = self.mapped(index);
            let done = bytes <= old
                || if old == 0 {
                    self.first(index, bytes)
                } else {
                    self.further(index, old, bytes)
                };
            if done && bytes > old {
                self.mapped[index].store((bytes / PAGE) as u32, Ordering::Relaxed);
            }
            done
        });
        mapped
            && (filled == 0
                || populate(ptr::with_exposed_provenance_mut(self.place(index)), filled.min(bytes)))
    }

    /// Unmaps a block that no thread of this process has.
    pub(crate) fn unmap(&self, index: usize) {
        self.lock.with(|| {
            let old = self.mapped(index);
            if old > 0 {
                // First the number: a fork in between leaves a mapping that nobody looks for.
                self.mapped[index].store(0, Ordering::Relaxed);
                unmap(self.place(index), old);
            }
        });
    }

    fn further(&self, index: usize, old: usize, new: usize) -> bool {
        let at = self.place(index);
        longer(ptr::with_exposed_provenance_mut(at), old, new)
    }

    fn first(&self, index: usize, bytes: usize) -> bool {
        let at = self.place(index);
        // Nothing of the program's is replaced.
        if !claim(at, bytes) {
            return false;
        }
        let offset = index * self.block_bytes;
        let done = if offset == 0 {
            again(self.anchor, PAGE, bytes, Some(at)).is_some()
        } else {
            self.in_one_step(offset, bytes, at) || self.in_steps(offset, bytes, at)
        };
        if !done {
            unmap(at, bytes);
        }
        done
    }

    fn in_one_step(&self, offset: usize, bytes: usize, to: usize) -> bool {
        let Some(from) = again(self.anchor, PAGE, offset + bytes, None) else { return false };
        let from = from.expose_provenance();
        let (end, flags) = (from + offset, MREMAP_MAYMOVE | MREMAP_FIXED);
        let end = ptr::with_exposed_provenance_mut(end);
        // SAFETY: the end of the mapping just made goes to the place that was claimed.
        let moved = unsafe { memory::mremap(end, bytes, bytes, flags, to) }.is_ok();
        unmap(from, if moved { offset } else { offset + bytes });
        moved
    }

    fn in_steps(&self, offset: usize, bytes: usize, to: usize) -> bool {
        let (mut page, mut done) = (self.anchor, 0);
        while done < offset {
            let step = (offset - done).min(STEP);
            let next = again(page, PAGE, step + PAGE, None);
            if page != self.anchor {
                unmap(page.expose_provenance(), PAGE);
            }
            let Some(next) = next else { return false };
            unmap(next.expose_provenance(), step);
            page = next.wrapping_add(step);
            done += step;
        }
        let moved = again(page, PAGE, bytes, Some(to)).is_some();
        unmap(page.expose_provenance(), PAGE);
        moved
    }
}

/// Reserves exactly this place. False: something is there.
fn claim(at: usize, bytes: usize) -> bool {
    let flags = MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE | MAP_NORESERVE;
    // SAFETY: NOREPLACE takes nothing from anybody.
    let Ok(got) = (unsafe { memory::mmap(at, bytes, PROT_NONE, flags, -1, 0) }) else {
        return false;
    };
    if got.addr() != at {
        // Kernels before 4.17 take the address as a hint.
        unmap(got.addr(), bytes);
    }
    got.addr() == at
}

fn unmap(at: usize, bytes: usize) {
    // SAFETY: a mapping of ours that nobody uses any more.
    let _ = unsafe { memory::munmap(ptr::with_exposed_provenance_mut(at), bytes) };
}
