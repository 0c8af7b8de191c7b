//! The blocks in the address space of a process that counts: each at its place in a region that is
//! nobody's, mapped when a thread takes it and unmapped when the thread has ended.
//!
//! The region is as large as the blocks' part of the file, some terabytes, and *not* reserved: only
//! blocks that this process's threads have are mapped, up to the cells that there are functions
//! for. It lies in the middle of the largest hole of the address space, so that what the program
//! maps does not come near; where it does, that block is not used here. As places follow from
//! numbers, a block grows where it is when functions are added, and nobody's pointers change.
//!
//! A process that begins with another segment has threads that may have been interrupted while they
//! count in the one before. So the places of its blocks stay mapped, empty ([`Spaces::vacate`]),
//! and the blocks of the next segment are put over them, in one step each: nothing grows with the
//! number of segments, and no thread ever writes to what is not there.
//!
//! Later mappings need no file and no descriptor, which programs close and chroot away from: they
//! are copies of one page's mapping, the anchor, moved on to their place
//! ([`crate::memory::again`]).
#![allow(unsafe_code)]

use crate::layout::PAGE;
use crate::lock::Lock;
use crate::memory::{again, longer, populate};
use alloc::boxed::Box;
use alloc::vec::Vec;
use core::ops::Range;
use core::ptr;
use core::sync::atomic::{AtomicPtr, AtomicU32, Ordering};
use sys::memory::{
    self, MAP_ANONYMOUS, MAP_FIXED, MAP_FIXED_NOREPLACE, MAP_NORESERVE, MAP_PRIVATE, MREMAP_FIXED,
    MREMAP_MAYMOVE, PROT_NONE, PROT_READ, PROT_WRITE,
};

/// Steps to a block that is far away, where the program's limits forbid one step.
const STEP: usize = 16 << 20;

/// Where the blocks of an earlier segment were, for those of the next.
#[derive(Clone, Debug, Default)]
pub struct Places {
    /// Where the region begins; 0: there was none. It is in the middle of a hole that is far
    /// larger.
    base: usize,
    /// Parts of it that are mapped and hold nothing, ascending. Nobody else's, for ever.
    vacant: Vec<Range<usize>>,
}

impl Places {
    /// That of the earlier segment, or one where `region` says.
    pub(crate) fn or(self, region: impl FnOnce() -> usize) -> Self {
        if self.base != 0 { self } else { Self { base: region(), vacant: Vec::new() } }
    }

    /// Where the region begins.
    pub(crate) fn base(&self) -> usize {
        self.base
    }
}

#[derive(Debug)]
pub(crate) struct Spaces {
    /// Mapping of the first page of the first block; null when the segment was left.
    anchor: AtomicPtr<u8>,
    /// The whole region, of which the blocks' part is `base` on.
    places: Places,
    base: usize,
    block_bytes: usize,
    /// Pages mapped of each block.
    mapped: Box<[AtomicU32]>,
    lock: Lock,
}

impl Spaces {
    /// Blocks that begin where `anchor`, a mapped page of theirs, does in the file; in the region
    /// behind its first `before` bytes.
    pub(crate) fn new(
        anchor: *mut u8,
        places: Places,
        before: usize,
        block_bytes: usize,
        blocks: usize,
    ) -> Self {
        let mapped = (0..blocks).map(|_| AtomicU32::new(0)).collect();
        let base = places.base + before;
        let anchor = AtomicPtr::new(anchor);
        Self { anchor, places, base, block_bytes, mapped, lock: Lock::default() }
    }

    /// Takes all blocks out of the process, and leaves empty memory in their places.
    pub(crate) fn vacate(&self) -> Places {
        self.lock.with(|| {
            let mut vacant = self.places.vacant.clone();
            for (index, pages) in self.mapped.iter().enumerate() {
                let bytes = pages.swap(0, Ordering::Relaxed) as usize * PAGE;
                let place = self.place(index);
                if bytes > 0 && empty(place..place + bytes) {
                    vacant.push(place..place + bytes);
                }
            }
            let anchor = self.anchor.swap(ptr::null_mut(), Ordering::Relaxed);
            if !anchor.is_null() {
                unmap(anchor.addr(), PAGE);
            }
            Places { base: self.places.base, vacant: joined(vacant) }
        })
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
                self.release(self.place(index), old);
            }
        });
    }

    fn further(&self, index: usize, old: usize, new: usize) -> bool {
        let at = self.place(index);
        if longer(ptr::with_exposed_provenance_mut(at), old, new) {
            return true;
        }
        // What is behind it may be a vacant place: then all of it is mapped anew, over itself.
        let is_vacant = |range: &Range<usize>| range.start < at + new && at + old < range.end;
        self.places.vacant.iter().any(is_vacant)
            && self.claim(at + old, new - old)
            && (self.onto(index, new) || {
                self.release(at + old, new - old);
                false
            })
    }

    fn first(&self, index: usize, bytes: usize) -> bool {
        let at = self.place(index);
        // Nothing of the program's is replaced.
        if !self.claim(at, bytes) {
            return false;
        }
        let done = self.onto(index, bytes);
        if !done {
            self.release(at, bytes);
        }
        done
    }

    /// Maps a block over whatever is in its place.
    fn onto(&self, index: usize, bytes: usize) -> bool {
        let (at, offset) = (self.place(index), index * self.block_bytes);
        // Relaxed: under the lock.
        let anchor = self.anchor.load(Ordering::Relaxed);
        if anchor.is_null() {
            false
        } else if offset == 0 {
            again(anchor, PAGE, bytes, Some(at)).is_some()
        } else {
            in_one_step(anchor, offset, bytes, at) || in_steps(anchor, offset, bytes, at)
        }
    }

    /// Reserves exactly this place. False: something of somebody else's is there.
    fn claim(&self, at: usize, bytes: usize) -> bool {
        let parts = || without(at..at + bytes, &self.places.vacant);
        for (number, part) in parts().enumerate() {
            if !claim(part.start, part.len()) {
                parts().take(number).for_each(|part| unmap(part.start, part.len()));
                return false;
            }
        }
        true
    }

    /// Takes away what is there; what was vacant is so again.
    fn release(&self, at: usize, bytes: usize) {
        let all = at..at + bytes;
        for part in without(all.clone(), &self.places.vacant) {
            unmap(part.start, part.len());
        }
        for range in &self.places.vacant {
            let part = range.start.max(at)..range.end.min(all.end);
            if !part.is_empty() {
                let _ = empty(part);
            }
        }
    }
}

/// Maps what begins `offset` bytes behind the anchor, a mapped page of the file, at `to`.
fn in_one_step(anchor: *mut u8, offset: usize, bytes: usize, to: usize) -> bool {
    let Some(from) = again(anchor, PAGE, offset + bytes, None) else { return false };
    let from = from.expose_provenance();
    let (end, flags) = (from + offset, MREMAP_MAYMOVE | MREMAP_FIXED);
    let end = ptr::with_exposed_provenance_mut(end);
    // SAFETY: the end of the mapping just made goes to the place that was claimed.
    let moved = unsafe { memory::mremap(end, bytes, bytes, flags, to) }.is_ok();
    unmap(from, if moved { offset } else { offset + bytes });
    moved
}

/// As [`in_one_step`], where the program's limits forbid that.
fn in_steps(anchor: *mut u8, offset: usize, bytes: usize, to: usize) -> bool {
    let (mut page, mut done) = (anchor, 0);
    while done < offset {
        let step = (offset - done).min(STEP);
        let next = again(page, PAGE, step + PAGE, None);
        if page != anchor {
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

/// The parts of a range that are in none of these, which ascend.
fn without(all: Range<usize>, holes: &[Range<usize>]) -> impl Iterator<Item = Range<usize>> {
    let mut at = all.start;
    let mut holes = holes.iter().filter(move |hole| hole.end > all.start);
    let mut over = false;
    core::iter::from_fn(move || {
        while !over {
            let hole = holes.next();
            let end = hole.map_or(all.end, |hole| hole.start.min(all.end));
            let part = at..end;
            over = hole.is_none_or(|hole| hole.start >= all.end);
            at = hole.map_or(all.end, |hole| hole.end.max(at));
            if !part.is_empty() {
                return Some(part);
            }
        }
        None
    })
}

/// The same addresses in as few ranges as there can be, ascending.
fn joined(mut ranges: Vec<Range<usize>>) -> Vec<Range<usize>> {
    sys::sort::by_key(&mut ranges, |range| range.start);
    let mut joined: Vec<Range<usize>> = Vec::with_capacity(ranges.len());
    for range in ranges {
        match joined.last_mut().filter(|last| range.start <= last.end) {
            Some(last) => last.end = last.end.max(range.end),
            None => joined.push(range),
        }
    }
    joined
}

/// Puts empty memory in the place of a mapping of ours, in one step.
fn empty(range: Range<usize>) -> bool {
    let flags = MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED | MAP_NORESERVE;
    let rights = PROT_READ | PROT_WRITE;
    // SAFETY: a place of ours. Who still writes there finds memory.
    unsafe { memory::mmap(range.start, range.len(), rights, flags, -1, 0) }.is_ok()
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
