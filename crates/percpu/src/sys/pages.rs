//! Anonymous memory straight from the kernel.
#![allow(unsafe_code)]

use core::ptr::NonNull;

/// Zeroed private pages, or nothing when the kernel refuses.
pub(crate) fn map(bytes: usize) -> Option<NonNull<u8>> {
    // SAFETY: an anonymous mapping at an address of the kernel's choice overlaps nothing.
    let p = unsafe {
        libc::mmap(core::ptr::null_mut(), bytes, libc::PROT_READ | libc::PROT_WRITE, libc::MAP_PRIVATE | libc::MAP_ANONYMOUS, -1, 0)
    };
    if p == libc::MAP_FAILED { None } else { NonNull::new(p.cast()) }
}

/// # Safety
/// `p` and `bytes` are those of one [`map`], and nothing refers to the pages any more.
pub(crate) unsafe fn unmap(p: NonNull<u8>, bytes: usize) {
    // SAFETY: the caller's promise.
    unsafe { libc::munmap(p.as_ptr().cast(), bytes) };
}
