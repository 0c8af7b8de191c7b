//! The system calls of this crate: reserving and committing address space, asking whether a process lives.
//!
//! Saving happens in signal handlers and inside hooks, so every function here leaves `errno` as it found it.
#![allow(unsafe_code)]

use core::ffi::{c_int, c_void};
use core::ptr::NonNull;

#[cfg(any(target_arch = "mips64", target_arch = "sparc64"))]
compile_error!("stackdepot: the mmap constants below are those of the other 64-bit Linux ports");

const PROT_NONE: c_int = 0;
const PROT_READ_WRITE: c_int = 3;
const MAP_PRIVATE_ANONYMOUS: c_int = 0x22;
const MADV_HUGEPAGE: c_int = 14;
const MADV_POPULATE_WRITE: c_int = 23;
const SC_PAGESIZE: c_int = 30;
const ESRCH: c_int = 3;
const EINVAL: c_int = 22;

unsafe extern "C" {
    fn mmap(addr: *mut c_void, len: usize, prot: c_int, flags: c_int, fd: c_int, offset: i64) -> *mut c_void;
    fn munmap(addr: *mut c_void, len: usize) -> c_int;
    fn mprotect(addr: *mut c_void, len: usize, prot: c_int) -> c_int;
    fn madvise(addr: *mut c_void, len: usize, advice: c_int) -> c_int;
    fn sysconf(name: c_int) -> core::ffi::c_long;
    fn getpid() -> c_int;
    fn kill(pid: c_int, signal: c_int) -> c_int;
    fn __errno_location() -> *mut c_int;
}

fn errno() -> c_int {
    // SAFETY: takes nothing; returns the thread's errno cell.
    let cell = unsafe { __errno_location() };
    // SAFETY: the cell is this thread's and valid for its life.
    unsafe { *cell }
}

fn set_errno(value: c_int) {
    // SAFETY: takes nothing; returns the thread's errno cell.
    let cell = unsafe { __errno_location() };
    // SAFETY: the cell is this thread's and valid for its life.
    unsafe { *cell = value };
}

/// Runs `call`, returns its error number if it failed, restores errno.
fn checked(call: impl FnOnce() -> bool) -> Result<(), i32> {
    let before = errno();
    if call() {
        return Ok(());
    }
    let error = errno();
    set_errno(before);
    Err(error)
}

/// Bytes of a base page.
pub(crate) fn page() -> usize {
    // SAFETY: sysconf takes a number; the C library answers this one from the auxiliary vector, without a system call.
    let bytes = unsafe { sysconf(SC_PAGESIZE) };
    usize::try_from(bytes).ok().filter(|b| b.is_power_of_two()).unwrap_or(4096)
}

/// Address space without memory: nothing in it may be touched before [`commit`].
pub(crate) fn reserve(bytes: usize) -> Result<NonNull<u8>, i32> {
    let mut base = core::ptr::null_mut();
    checked(|| {
        // SAFETY: an anonymous mapping at an address of the kernel's choice overlaps nothing.
        base = unsafe { mmap(core::ptr::null_mut(), bytes, PROT_NONE, MAP_PRIVATE_ANONYMOUS, -1, 0) };
        base as isize != -1
    })?;
    NonNull::new(base.cast()).ok_or(EINVAL)
}

/// # Safety
/// `base` and `bytes` are those of one [`reserve`], and nothing refers to the pages any more.
pub(crate) unsafe fn release(base: NonNull<u8>, bytes: usize) {
    // SAFETY: the caller's promise.
    let _ = checked(|| unsafe { munmap(base.as_ptr().cast(), bytes) } == 0);
}

/// Makes a part of a reservation readable and writable. Committing twice is harmless.
///
/// # Safety
/// `[from, from + bytes)` is page-aligned and inside one reservation of the caller.
pub(crate) unsafe fn commit(from: NonNull<u8>, bytes: usize) -> Result<(), i32> {
    // SAFETY: the caller's promise; giving access to the caller's own pages invalidates nothing.
    checked(|| unsafe { mprotect(from.as_ptr().cast(), bytes, PROT_READ_WRITE) } == 0)
}

/// Asks for huge pages; a kernel that knows none just says no.
///
/// # Safety
/// `[from, from + bytes)` is inside one reservation of the caller.
pub(crate) unsafe fn advise_huge(from: NonNull<u8>, bytes: usize) {
    // SAFETY: the advice changes how the caller's own pages are backed, not what they hold.
    let _ = checked(|| unsafe { madvise(from.as_ptr().cast(), bytes, MADV_HUGEPAGE) } == 0);
}

/// Faults pages in for writing, so that a file system without space answers here with an error and not later with SIGBUS.
/// Kernels before 5.14 do not know the request and are taken to agree.
///
/// # Safety
/// `[from, from + bytes)` is page-aligned memory that the caller may write.
pub(crate) unsafe fn populate(from: NonNull<u8>, bytes: usize) -> Result<(), i32> {
    // SAFETY: populating writes no data.
    match checked(|| unsafe { madvise(from.as_ptr().cast(), bytes, MADV_POPULATE_WRITE) } == 0) {
        Err(EINVAL) => Ok(()),
        other => other,
    }
}

/// This process.
pub(crate) fn pid() -> u32 {
    // SAFETY: takes nothing and cannot fail.
    unsafe { getpid() }.cast_unsigned()
}

/// Whether a process with this number exists (a zombie does). In doubt it does.
pub(crate) fn exists(pid: u32) -> bool {
    let Ok(pid) = c_int::try_from(pid) else { return false };
    // SAFETY: signal 0 is only a question.
    pid > 0 && checked(|| unsafe { kill(pid, 0) } == 0) != Err(ESRCH)
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
    fn errno_survives_failing_calls() {
        set_errno(77);
        assert!(!exists(0x3fff_ffff));
        assert!(reserve(usize::MAX).is_err());
        assert_eq!(errno(), 77);
    }
}
