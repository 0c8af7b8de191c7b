//! The mapped bytes: the one place that turns offsets into references. Every access is checked against the mapping's length, and every field is an atomic word,
//! because the other side writes while this one reads.
#![allow(unsafe_code)]

use crate::error::Error;
use std::fs::File;
use std::io;
use std::os::fd::AsRawFd;
use std::ptr::NonNull;
use std::sync::atomic::{AtomicU8, AtomicU32, AtomicU64, Ordering};

#[derive(Debug)]
pub(crate) struct Memory {
    base: NonNull<u8>,
    bytes: usize,
}

// SAFETY: an address range that is accessed through atomics only.
unsafe impl Send for Memory {}
// SAFETY: as above.
unsafe impl Sync for Memory {}

impl Memory {
    /// Maps the first `bytes` of `file`, shared and writable. Pages that nobody touches cost nothing.
    pub(crate) fn map(file: &File, bytes: usize) -> Result<Self, Error> {
        // SAFETY: a new mapping at an address that the kernel chooses overlaps nothing.
        let at = unsafe {
            libc::mmap(
                std::ptr::null_mut(),
                bytes,
                libc::PROT_READ | libc::PROT_WRITE,
                libc::MAP_SHARED | libc::MAP_NORESERVE,
                file.as_raw_fd(),
                0,
            )
        };
        if at == libc::MAP_FAILED {
            return Err(Error::Io("cannot map the segment", io::Error::last_os_error()));
        }
        NonNull::new(at.cast()).map(|base| Self { base, bytes }).ok_or(Error::Corrupt("mapped at address 0"))
    }

    pub(crate) fn bytes(&self) -> usize {
        self.bytes
    }

    /// Address of `len` bytes from `offset`, a multiple of `align`.
    fn at(&self, offset: usize, len: usize, align: usize) -> Option<NonNull<u8>> {
        if !offset.is_multiple_of(align) || offset.checked_add(len)? > self.bytes {
            return None;
        }
        // SAFETY: offset + len was just compared with the length of the mapping.
        Some(unsafe { self.base.add(offset) })
    }

    pub(crate) fn u64(&self, offset: usize) -> Option<&AtomicU64> {
        let at = self.at(offset, 8, 8)?;
        // SAFETY: 8 mapped, aligned bytes (the mapping starts on a page); any bits are a u64; every access goes through atomics.
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
        Some(unsafe { std::slice::from_raw_parts(at.as_ptr().cast(), len) })
    }

    /// Address of a part that assembly writes.
    pub(crate) fn pointer(&self, offset: usize, len: usize) -> Option<NonNull<u8>> {
        self.at(offset, len, 64)
    }

    /// Address of a part that is aligned to 16 bytes only.
    pub(crate) fn pointer16(&self, offset: usize, len: usize) -> Option<NonNull<u8>> {
        self.at(offset, len, 16)
    }

    /// Gives a part its pages now. False: the file system has none left, and whoever touched the part would be killed.
    pub(crate) fn populate(&self, offset: usize, len: usize) -> bool {
        const PAGE: usize = 4096;
        const MADV_POPULATE_WRITE: libc::c_int = 23;
        let start = offset / PAGE * PAGE;
        let Some(at) = self.at(start, (offset + len).next_multiple_of(PAGE).min(self.bytes) - start, PAGE) else { return false };
        // SAFETY: pages of the mapping; what is in them stays.
        let done = unsafe { libc::madvise(at.as_ptr().cast(), offset + len - start, MADV_POPULATE_WRITE) } == 0;
        // Kernels before 5.14 do not know it.
        done || io::Error::last_os_error().raw_os_error() == Some(libc::EINVAL)
    }

    pub(crate) fn load64(&self, offset: usize) -> u64 {
        // Relaxed: fields are right for themselves; where one announces others, its user says so.
        self.u64(offset).map_or(0, |w| w.load(Ordering::Relaxed))
    }

    pub(crate) fn load32(&self, offset: usize) -> u32 {
        self.u32(offset).map_or(0, |w| w.load(Ordering::Relaxed))
    }

    pub(crate) fn store64(&self, offset: usize, value: u64) {
        if let Some(w) = self.u64(offset) {
            w.store(value, Ordering::Relaxed);
        }
    }

    pub(crate) fn store32(&self, offset: usize, value: u32) {
        if let Some(w) = self.u32(offset) {
            w.store(value, Ordering::Relaxed);
        }
    }

    /// Copies up to `room` bytes in, cut if longer, and fills the rest with zeros.
    pub(crate) fn put_bytes(&self, offset: usize, room: usize, bytes: &[u8]) {
        if let Some(to) = self.slice(offset, room) {
            let rest = bytes.iter().copied().chain(std::iter::repeat(0));
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

impl Drop for Memory {
    fn drop(&mut self) {
        // SAFETY: the range of `map`; no reference outlives self.
        unsafe { libc::munmap(self.base.as_ptr().cast(), self.bytes) };
    }
}
