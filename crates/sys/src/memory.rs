//! Mappings.
//!
//! Addresses are numbers where they are a wish, and pointers where the kernel has given them.
#![allow(unsafe_code)]

use crate::Errno;
use crate::number;
use crate::raw::{syscall1, syscall2, syscall3, syscall5, syscall6};
use core::ptr::{NonNull, with_exposed_provenance_mut};

pub use crate::arch::PAGE;

/// Nothing may be done there.
pub const PROT_NONE: i32 = 0;
/// Reading.
pub const PROT_READ: i32 = 1;
/// Writing.
pub const PROT_WRITE: i32 = 2;
/// Running.
pub const PROT_EXEC: i32 = 4;

/// Changes reach the file, and whoever else has it.
pub const MAP_SHARED: i32 = 0x1;
/// Changes are the process's own.
pub const MAP_PRIVATE: i32 = 0x2;
/// At the address that is given; what is there goes.
pub const MAP_FIXED: i32 = 0x10;
/// Zeros instead of a file.
pub const MAP_ANONYMOUS: i32 = 0x20;
/// No swap space is set aside.
pub const MAP_NORESERVE: i32 = 0x4000;
/// At the address that is given, or not at all: `EEXIST` (Linux 4.17; before, the address is a
/// wish).
pub const MAP_FIXED_NOREPLACE: i32 = 0x10_0000;

/// The mapping may move.
pub const MREMAP_MAYMOVE: i32 = 1;
/// It goes to the address that is given; what is there goes.
pub const MREMAP_FIXED: i32 = 2;

/// The pages' contents are needed no more.
pub const MADV_DONTNEED: i32 = 4;
/// Huge pages are welcome.
pub const MADV_HUGEPAGE: i32 = 14;
/// Left out of core dumps.
pub const MADV_DONTDUMP: i32 = 16;
/// A fork child finds zeros (Linux 4.14; private anonymous memory).
pub const MADV_WIPEONFORK: i32 = 18;
/// Faulted in for writing now (Linux 5.14).
pub const MADV_POPULATE_WRITE: i32 = 23;

/// `mmap(2)`: where the mapping is. `fd` is -1 for [`MAP_ANONYMOUS`].
///
/// # Errors
/// `ENOMEM`, `EACCES`, `EBADF`, `EINVAL`, `EEXIST` and others of mmap(2).
///
/// # Safety
/// With [`MAP_FIXED`], what is mapped at the address is the caller's, and nothing refers to it.
pub unsafe fn mmap(
    address: usize,
    bytes: usize,
    protection: i32,
    flags: i32,
    fd: i32,
    offset: u64,
) -> Result<*mut u8, Errno> {
    let (protection, flags, fd) = (protection as usize, flags as usize, fd as isize as usize);
    // SAFETY: the caller's promise; without MAP_FIXED a new mapping overlaps nothing.
    unsafe { syscall6(number::MMAP, address, bytes, protection, flags, fd, offset as usize) }
        .map(with_exposed_provenance_mut)
}

/// Zeroed private pages, where the kernel likes.
///
/// # Errors
/// `ENOMEM`, and what a filter says.
pub fn pages(bytes: usize) -> Result<NonNull<u8>, Errno> {
    let (protection, flags) = (PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS);
    // SAFETY: without MAP_FIXED a new mapping overlaps nothing.
    let at = unsafe { mmap(0, bytes, protection, flags, -1, 0) }?;
    // The kernel never chooses address 0.
    NonNull::new(at).ok_or(Errno::ENOMEM)
}

/// `munmap(2)`.
///
/// # Errors
/// `EINVAL`, `ENOMEM`.
///
/// # Safety
/// What is mapped there is the caller's, and nothing refers to it.
pub unsafe fn munmap(at: *mut u8, bytes: usize) -> Result<(), Errno> {
    // SAFETY: the caller's promise.
    unsafe { syscall2(number::MUNMAP, at.expose_provenance(), bytes) }.map(drop)
}

/// `mprotect(2)`.
///
/// # Errors
/// `EACCES`, `EINVAL`, `ENOMEM`.
///
/// # Safety
/// What is mapped there is the caller's, and nothing there is used in a way that is not allowed any
/// more.
pub unsafe fn mprotect(at: *mut u8, bytes: usize, protection: i32) -> Result<(), Errno> {
    // SAFETY: the caller's promise.
    unsafe { syscall3(number::MPROTECT, at.expose_provenance(), bytes, protection as usize) }
        .map(drop)
}

/// `madvise(2)`.
///
/// # Errors
/// `EINVAL` for an advice that the kernel does not know, `ENOMEM`, `EFAULT` and others.
///
/// # Safety
/// What is mapped there is the caller's. Some advice changes contents, now or in a fork child
/// ([`MADV_DONTNEED`], [`MADV_WIPEONFORK`]): nothing relies on them.
pub unsafe fn madvise(at: *mut u8, bytes: usize, advice: i32) -> Result<(), Errno> {
    // SAFETY: the caller's promise.
    unsafe { syscall3(number::MADVISE, at.expose_provenance(), bytes, advice as usize) }.map(drop)
}

/// `mremap(2)`: where the mapping is now. An old size of 0 maps a shared mapping a second time.
/// `to` counts with [`MREMAP_FIXED`] only.
///
/// # Errors
/// `ENOMEM`, `EAGAIN`, `EFAULT`, `EINVAL`.
///
/// # Safety
/// What is mapped at `from`, and with [`MREMAP_FIXED`] at `to`, is the caller's. Nothing refers to
/// what is moved or goes.
pub unsafe fn mremap(
    from: *mut u8,
    old: usize,
    new: usize,
    flags: i32,
    to: usize,
) -> Result<*mut u8, Errno> {
    let (from, flags) = (from.expose_provenance(), flags as usize);
    // SAFETY: the caller's promise.
    unsafe { syscall5(number::MREMAP, from, old, new, flags, to) }.map(with_exposed_provenance_mut)
}

/// `munlock(2)`: the pages may be swapped out again.
///
/// # Errors
/// `ENOMEM`, `EINVAL`.
pub fn munlock(at: *mut u8, bytes: usize) -> Result<(), Errno> {
    // SAFETY: where pages are kept is nothing that a program sees.
    unsafe { syscall2(number::MUNLOCK, at.expose_provenance(), bytes) }.map(drop)
}

/// `brk(2)`, asked: where the heap that grows behind the program ends now. It cannot fail.
#[must_use]
pub fn program_break() -> usize {
    // SAFETY: 0 is no place for the end of a heap, and changes nothing.
    unsafe { syscall1(number::BRK, 0) }.unwrap_or(0)
}
