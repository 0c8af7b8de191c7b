//! Mapped bytes: the one place that turns offsets into references. Every access is checked against
//! the mapping's length, and every field is an atomic word, because the other side writes while
//! this one reads.
//!
//! A mapping may begin small and grow ([`Memory::reach`]): it is then made a second time, larger,
//! by `mremap` with an old size of 0, which needs neither the file nor a descriptor. The smaller
//! one stays as long as this does, for references into it do; both show the same pages.
#![allow(unsafe_code)]

use crate::descriptor::Descriptor;
use crate::error::Error;
use crate::layout::PAGE;
use crate::lock::Lock;
use alloc::boxed::Box;
use alloc::vec::Vec;
use core::ptr::NonNull;
use core::sync::atomic::{AtomicPtr, AtomicU8, AtomicU32, AtomicU64, AtomicUsize, Ordering};
use core::{iter, slice};
use sys::Errno;
use sys::memory::{
    self, MADV_DONTDUMP, MADV_POPULATE_WRITE, MAP_NORESERVE, MAP_SHARED, MREMAP_FIXED,
    MREMAP_MAYMOVE, PROT_READ, PROT_WRITE,
};

/// Mappings that can be left behind: one that begins with a page has then all addresses.
const MOST_LEFT: usize = 48;

/// What may be done to mapped bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Access {
    Read,
    Write,
}

#[derive(Debug)]
pub(crate) struct Memory {
    /// The newest and largest mapping.
    base: AtomicPtr<u8>,
    /// Its bytes. Written after `base` (Release), read before it (Acquire).
    bytes: AtomicUsize,
    /// Bytes of the part, mapped or not.
    limit: usize,
    access: Access,
    lock: Lock,
    /// Smaller mappings that were left behind, and their bytes. Written under the lock.
    left: Box<[(AtomicPtr<u8>, AtomicUsize)]>,
}

impl Memory {
    /// Maps the first `bytes` of the part of `file` that begins at `from` and has `limit` bytes.
    /// Pages that nobody touches cost nothing.
    pub(crate) fn map(
        file: Descriptor<'_>,
        from: u64,
        bytes: usize,
        limit: usize,
        access: Access,
    ) -> Result<Self, Error> {
        Self::map_near(None, file, from, bytes, limit, access)
    }

    /// [`Memory::map`] at an address, if nothing is there.
    pub(crate) fn map_near(
        near: Option<usize>,
        file: Descriptor<'_>,
        from: u64,
        bytes: usize,
        limit: usize,
        access: Access,
    ) -> Result<Self, Error> {
        let bytes = bytes.next_multiple_of(PAGE).min(limit.next_multiple_of(PAGE));
        let protection = match access {
            Access::Read => PROT_READ,
            Access::Write => PROT_READ | PROT_WRITE,
        };
        let (flags, fd) = (MAP_SHARED | MAP_NORESERVE, file.number());
        // SAFETY: without MAP_FIXED a new mapping overlaps nothing.
        let at = unsafe { memory::mmap(near.unwrap_or(0), bytes, protection, flags, fd, from) };
        let at = at.map_err(|why| Error::System("cannot map the segment", why))?;
        not_in_cores(at, bytes);
        let (base, bytes) = (AtomicPtr::new(at), AtomicUsize::new(bytes));
        let left = (0..MOST_LEFT).map(|_| Default::default()).collect();
        Ok(Self { base, bytes, limit, access, lock: Lock::default(), left })
    }

    /// Bytes that are mapped.
    pub(crate) fn bytes(&self) -> usize {
        self.bytes.load(Ordering::Acquire)
    }

    /// Sees to it that the first `end` bytes are mapped. False: there is no room for them.
    ///
    /// # Context
    /// System calls and a lock when the mapping has to grow, which then doubles: what is left
    /// behind is not more than what is used. Signals are blocked.
    pub(crate) fn reach(&self, end: usize) -> bool {
        end <= self.bytes() || (end <= self.limit && self.lock.with(|| self.grow(end)))
    }

    /// As [`Memory::reach`], but the mapping grows where it is, by no more than is asked for:
    /// addresses in it stay.
    pub(crate) fn reach_in_place(&self, end: usize) -> bool {
        end <= self.bytes() || (end <= self.limit && self.lock.with(|| self.grow_in_place(end)))
    }

    fn grow_in_place(&self, end: usize) -> bool {
        let old = self.bytes();
        if end <= old {
            return true;
        }
        let new = end.next_multiple_of(PAGE);
        let at = self.base.load(Ordering::Acquire);
        let grown = longer(at, old, new);
        if grown {
            // Release pairs with the Acquire in `bytes`.
            self.bytes.store(new, Ordering::Release);
        }
        grown
    }

    fn grow(&self, end: usize) -> bool {
        let old = self.bytes();
        if end <= old {
            return true;
        }
        let new = end.max(old * 2).min(self.limit).next_multiple_of(PAGE);
        let from = self.base.load(Ordering::Acquire);
        // Relaxed: under the lock, or nobody else's.
        let is_free = |left: &&(AtomicPtr<u8>, _)| left.0.load(Ordering::Relaxed).is_null();
        let Some((place, bytes)) = self.left.iter().find(is_free) else { return false };
        let Some(at) = again(from, old, new, None) else { return false };
        place.store(from, Ordering::Relaxed);
        bytes.store(old, Ordering::Relaxed);
        self.base.store(at, Ordering::Release);
        // Release pairs with the Acquire in `bytes`: who sees the size finds the mapping.
        self.bytes.store(new, Ordering::Release);
        true
    }

    /// The mapping stays for good: where it begins.
    pub(crate) fn stay(self) -> *mut u8 {
        // Nothing is unmapped then.
        self.bytes.store(0, Ordering::Relaxed);
        self.base.load(Ordering::Relaxed)
    }

    /// Where the mapping begins.
    pub(crate) fn place(&self) -> usize {
        self.base.load(Ordering::Acquire).addr()
    }

    /// Address of `len` bytes from `offset`, a multiple of `align`.
    fn at(&self, offset: usize, len: usize, align: usize) -> Option<NonNull<u8>> {
        // Before the address: that is the one of a mapping with at least so many bytes.
        let bytes = self.bytes();
        if !offset.is_multiple_of(align) || offset.checked_add(len)? > bytes {
            return None;
        }
        let base = NonNull::new(self.base.load(Ordering::Acquire))?;
        // SAFETY: offset + len was just compared with the length of the mapping.
        Some(unsafe { base.add(offset) })
    }

    pub(crate) fn u64(&self, offset: usize) -> Option<&AtomicU64> {
        let at = self.at(offset, 8, 8)?;
        // SAFETY: 8 mapped, aligned bytes (the mapping starts on a page); any bits are a u64; every
        // access goes through atomics.
        Some(unsafe { at.cast().as_ref() })
    }

    pub(crate) fn u32(&self, offset: usize) -> Option<&AtomicU32> {
        let at = self.at(offset, 4, 4)?;
        // SAFETY: as in `u64`.
        Some(unsafe { at.cast().as_ref() })
    }

    pub(crate) fn slice(&self, offset: usize, len: usize) -> Option<&[AtomicU8]> {
        let at = self.at(offset, len, 1)?;
        // SAFETY: `len` mapped bytes, accessed through atomics only.
        Some(unsafe { slice::from_raw_parts(at.as_ptr().cast(), len) })
    }

    /// Address of a part that assembly writes.
    pub(crate) fn pointer(&self, offset: usize, len: usize) -> Option<NonNull<u8>> {
        self.at(offset, len, 64)
    }

    /// Address of a part that is aligned to 16 bytes only.
    pub(crate) fn pointer16(&self, offset: usize, len: usize) -> Option<NonNull<u8>> {
        self.at(offset, len, 16)
    }

    /// Gives a part its pages now. False: the file system has none left, and whoever touched the
    /// part would be killed.
    pub(crate) fn populate(&self, offset: usize, len: usize) -> bool {
        let start = offset / PAGE * PAGE;
        let end = (offset + len).next_multiple_of(PAGE).min(self.bytes());
        let Some(len) = end.checked_sub(start) else { return false };
        self.at(start, len, PAGE).is_some_and(|at| populate(at.as_ptr(), len))
    }

    pub(crate) fn load64(&self, offset: usize) -> u64 {
        // Relaxed: fields are right for themselves; where one announces others, its user says so.
        self.u64(offset).map_or(0, |w| w.load(Ordering::Relaxed))
    }

    pub(crate) fn load32(&self, offset: usize) -> u32 {
        self.u32(offset).map_or(0, |w| w.load(Ordering::Relaxed))
    }

    pub(crate) fn store64(&self, offset: usize, value: u64) {
        if let Some(w) = self.u64(offset).filter(|_| self.access == Access::Write) {
            w.store(value, Ordering::Relaxed);
        }
    }

    pub(crate) fn store32(&self, offset: usize, value: u32) {
        if let Some(w) = self.u32(offset).filter(|_| self.access == Access::Write) {
            w.store(value, Ordering::Relaxed);
        }
    }

    /// Copies up to `room` bytes in, cut if longer, and fills the rest with zeros.
    pub(crate) fn put_bytes(&self, offset: usize, room: usize, bytes: &[u8]) {
        if let Some(to) = self.slice(offset, room).filter(|_| self.access == Access::Write) {
            let rest = bytes.iter().copied().chain(iter::repeat(0));
            to.iter().zip(rest).for_each(|(to, b)| to.store(b, Ordering::Relaxed));
        }
    }

    /// Copies bytes out, up to the first zero.
    pub(crate) fn get_bytes(&self, offset: usize, room: usize) -> Vec<u8> {
        let from = self.slice(offset, room).unwrap_or_default();
        from.iter().map(|b| b.load(Ordering::Relaxed)).take_while(|b| *b != 0).collect()
    }

    /// Copies exactly `out.len()` bytes out; zeros when out of bounds.
    pub(crate) fn read_exact(&self, offset: usize, out: &mut [u8]) {
        if let Some(from) = self.slice(offset, out.len()) {
            out.iter_mut().zip(from).for_each(|(o, b)| *o = b.load(Ordering::Relaxed));
        }
    }
}

/// Maps what is mapped at `from` (a shared mapping that has `known` bytes) once more, with `new`
/// bytes, at `to` or wherever there is room. What is at `to` goes.
///
/// # Context
/// Three system calls.
pub(crate) fn again(from: *mut u8, known: usize, new: usize, to: Option<usize>) -> Option<*mut u8> {
    // A program that locks its memory means its own: the copy would be locked and filled.
    let _ = memory::munlock(from, known);
    let flags = MREMAP_MAYMOVE | to.map_or(0, |_| MREMAP_FIXED);
    // SAFETY: an old size of 0 leaves the old mapping alone. `to` is the caller's.
    let at = unsafe { memory::mremap(from, 0, new, flags, to.unwrap_or(0)) }.ok()?;
    not_in_cores(at, new);
    Some(at)
}

/// Makes a mapping of ours longer where it is, or not at all.
///
/// # Context
/// Three system calls.
pub(crate) fn longer(at: *mut u8, old: usize, new: usize) -> bool {
    // As in `again`: what is added would be locked and filled.
    let _ = memory::munlock(at, old);
    // SAFETY: a mapping of ours, which without MAYMOVE stays where it is.
    let grown = unsafe { memory::mremap(at, old, new, 0, 0) }.is_ok();
    if grown {
        not_in_cores(at, new);
    }
    grown
}

/// Gives mapped pages their memory now. False: there is none.
///
/// # Context
/// One system call.
pub(crate) fn populate(at: *mut u8, len: usize) -> bool {
    // SAFETY: pages of a mapping of the caller's; what is in them stays.
    let populated = unsafe { memory::madvise(at, len, MADV_POPULATE_WRITE) };
    // Kernels before 5.14 do not know it.
    matches!(populated, Ok(()) | Err(Errno::EINVAL))
}

/// Keeps a mapping out of core dumps: nobody looks for counters there.
fn not_in_cores(at: *mut u8, len: usize) {
    // SAFETY: a mapping of the caller's, whose contents do not change.
    let _ = unsafe { memory::madvise(at, len, MADV_DONTDUMP) };
}

impl Drop for Memory {
    fn drop(&mut self) {
        let (base, newest) = (self.base.load(Ordering::Relaxed), self.bytes());
        let of_left = |(place, bytes): &(AtomicPtr<u8>, AtomicUsize)| {
            (place.load(Ordering::Relaxed), bytes.load(Ordering::Relaxed))
        };
        let left = self.left.iter().map(of_left).take_while(|(place, _)| !place.is_null());
        for (place, bytes) in left.chain([(base, newest)]) {
            // SAFETY: a mapping of this one's; no reference outlives self.
            let _ = unsafe { memory::munmap(place, bytes) };
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{Access, Memory};
    use crate::layout::PAGE;
    use core::sync::atomic::Ordering;
    use std::format;
    use std::os::unix::fs::MetadataExt as _;

    /// The mappings that this process has of the file.
    fn mappings(inode: u64) -> usize {
        let maps = std::fs::read_to_string("/proc/self/maps").expect("readable");
        maps.lines().filter(|line| line.split(' ').nth(4) == Some(&*format!("{inode}"))).count()
    }

    #[test]
    fn nothing_is_left_behind_for_ever() {
        const PAGES: usize = 300;
        let file = crate::test_file();
        file.resize((PAGES * PAGE) as u64).expect("sized");
        let link = format!("/proc/self/fd/{}", file.number());
        let inode = std::fs::metadata(link).expect("open").ino();
        let memory = Memory::map(file, 0, PAGE, PAGES * PAGE, Access::Write).expect("mapped");
        let early = memory.u64(8).expect("the first page");
        for page in 1..=PAGES {
            assert!(memory.reach(page * PAGE));
        }
        early.store(7, Ordering::Relaxed);
        assert_eq!(memory.load64(8), 7, "both show the same pages");
        assert!(mappings(inode) > 5, "some were left behind");
        drop(memory);
        assert_eq!(mappings(inode), 0);
    }
}
