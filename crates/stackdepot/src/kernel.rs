//! What this crate asks the kernel for: address space, pages in it, and whether a process lives.
//!
//! Saving happens in signal handlers and inside hooks: none of these touches `errno`.
#![allow(unsafe_code)]

use core::ptr::NonNull;
use sys::memory::{self, MADV_HUGEPAGE, MADV_POPULATE_WRITE, MAP_ANONYMOUS, MAP_PRIVATE};
use sys::memory::{PROT_NONE, PROT_READ, PROT_WRITE};
use sys::{Errno, process};

pub(crate) use sys::memory::PAGE;
pub(crate) const ENOMEM: i32 = Errno::ENOMEM.number();

/// Address space without memory: nothing in it may be touched before [`commit`].
pub(crate) fn reserve(bytes: usize) -> Result<NonNull<u8>, i32> {
    // SAFETY: an anonymous mapping at an address of the kernel's choice overlaps nothing.
    let base = unsafe { memory::mmap(0, bytes, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0) };
    NonNull::new(base.map_err(Errno::number)?).ok_or(ENOMEM)
}

/// # Safety
/// `base` and `bytes` are those of one [`reserve`], and nothing refers to the pages any more.
pub(crate) unsafe fn release(base: NonNull<u8>, bytes: usize) {
    // SAFETY: the caller's promise.
    let _ = unsafe { memory::munmap(base.as_ptr(), bytes) };
}

/// Makes a part of a reservation readable and writable. Committing twice is harmless.
///
/// # Safety
/// `[from, from + bytes)` is page-aligned and inside one reservation of the caller.
pub(crate) unsafe fn commit(from: NonNull<u8>, bytes: usize) -> Result<(), i32> {
    // SAFETY: the caller's promise; giving access to the caller's own pages invalidates nothing.
    unsafe { memory::mprotect(from.as_ptr(), bytes, PROT_READ | PROT_WRITE) }.map_err(Errno::number)
}

/// Asks for huge pages; a kernel that knows none just says no.
///
/// # Safety
/// `[from, from + bytes)` is inside one reservation of the caller.
pub(crate) unsafe fn advise_huge(from: NonNull<u8>, bytes: usize) {
    // SAFETY: the advice changes how the caller's own pages are backed, not what they hold.
    let _ = unsafe { memory::madvise(from.as_ptr(), bytes, MADV_HUGEPAGE) };
}

/// Faults pages in for writing, so that a file system without space answers here with an error and
/// not later with SIGBUS. Kernels before 5.14 do not know the request and are taken to agree.
///
/// # Safety
/// `[from, from + bytes)` is page-aligned memory that the caller may write.
pub(crate) unsafe fn populate(from: NonNull<u8>, bytes: usize) -> Result<(), i32> {
    // SAFETY: populating writes no data.
    match unsafe { memory::madvise(from.as_ptr(), bytes, MADV_POPULATE_WRITE) } {
        Err(Errno::EINVAL) => Ok(()),
        other => other.map_err(Errno::number),
    }
}

/// This process.
pub(crate) fn pid() -> u32 {
    process::getpid().cast_unsigned()
}

/// Whether a process with this number exists (a zombie does). In doubt it does.
pub(crate) fn exists(pid: u32) -> bool {
    let Ok(pid) = i32::try_from(pid) else { return false };
    // Signal 0 is only a question.
    pid > 0 && process::kill(pid, 0) != Err(Errno::ESRCH)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn own_process_exists_and_pid_0_does_not() {
        assert!(exists(pid()));
        assert!(exists(1), "init exists, whoever may signal it");
        assert!(!exists(0));
        assert!(!exists(u32::MAX));
    }

    #[test]
    fn refusals_have_their_numbers() {
        assert!(!exists(0x3fff_ffff));
        assert_eq!(reserve(usize::MAX - 4095), Err(ENOMEM));
        assert_eq!(reserve(0), Err(Errno::EINVAL.number()));
    }
}
