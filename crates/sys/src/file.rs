//! Descriptors.
//!
//! A descriptor is a number, as in C: this crate does not know who owns one.
#![allow(unsafe_code)]

use crate::Errno;
use crate::number;
use crate::raw::{syscall1, syscall2, syscall3, syscall4};
use core::ffi::CStr;

pub use crate::arch::Stat;

/// Instead of a directory: names begin where the process is.
pub const AT_FDCWD: i32 = -100;
/// For reading.
pub const O_RDONLY: i32 = 0;
/// For writing.
pub const O_WRONLY: i32 = 1;
/// For both.
pub const O_RDWR: i32 = 2;
/// Closed by an exec.
pub const O_CLOEXEC: i32 = 0o2_000_000;
/// Closed by an exec, for [`memfd_create`].
pub const MFD_CLOEXEC: u32 = 1;

/// `openat(2)`: a new descriptor.
///
/// # Errors
/// `ENOENT`, `EACCES`, `EMFILE` and others of openat(2).
pub fn openat(directory: i32, path: &CStr, flags: i32, mode: u32) -> Result<i32, Errno> {
    let (directory, path) = (directory as isize as usize, path.as_ptr().expose_provenance());
    // SAFETY: a string that lives through the call.
    unsafe { syscall4(number::OPENAT, directory, path, flags as usize, mode as usize) }
        .map(|fd| fd as i32)
}

/// `close(2)`. The descriptor is closed also when an error is reported.
///
/// # Errors
/// `EBADF`, `EIO`.
///
/// # Safety
/// The descriptor is the caller's, who does not use it again.
pub unsafe fn close(fd: i32) -> Result<(), Errno> {
    // SAFETY: the caller's promise.
    unsafe { syscall1(number::CLOSE, fd as isize as usize) }.map(drop)
}

/// `read(2)`: how many bytes, 0 at the end.
///
/// # Errors
/// `EBADF`, `EINTR`, `EAGAIN`, `EIO`.
pub fn read(fd: i32, buffer: &mut [u8]) -> Result<usize, Errno> {
    let (at, bytes) = (buffer.as_mut_ptr().expose_provenance(), buffer.len());
    // SAFETY: `buffer` is writable for its length.
    unsafe { syscall3(number::READ, fd as isize as usize, at, bytes) }
}

/// `pread(2)`: as [`read`], from `offset`.
///
/// # Errors
/// As [`read`]; `ESPIPE` of what cannot be sought.
pub fn pread(fd: i32, buffer: &mut [u8], offset: u64) -> Result<usize, Errno> {
    let (at, bytes) = (buffer.as_mut_ptr().expose_provenance(), buffer.len());
    // SAFETY: `buffer` is writable for its length.
    unsafe { syscall4(number::PREAD64, fd as isize as usize, at, bytes, offset as usize) }
}

/// `write(2)`: how many bytes were taken.
///
/// # Errors
/// `EBADF`, `EINTR`, `EAGAIN`, `EPIPE` (with a signal), `ENOSPC`, `EIO`.
pub fn write(fd: i32, bytes: &[u8]) -> Result<usize, Errno> {
    let (at, len) = (bytes.as_ptr().expose_provenance(), bytes.len());
    // SAFETY: `bytes` is readable for its length.
    unsafe { syscall3(number::WRITE, fd as isize as usize, at, len) }
}

/// `pwrite(2)`: as [`write()`], at `offset`.
///
/// # Errors
/// As [`write()`]; `ESPIPE` of what cannot be sought.
pub fn pwrite(fd: i32, bytes: &[u8], offset: u64) -> Result<usize, Errno> {
    let (at, len) = (bytes.as_ptr().expose_provenance(), bytes.len());
    // SAFETY: `bytes` is readable for its length.
    unsafe { syscall4(number::PWRITE64, fd as isize as usize, at, len, offset as usize) }
}

/// `readlinkat(2)`: how many bytes of the text of a symbolic link fit into `buffer`; no NUL.
///
/// # Errors
/// `ENOENT`, `EINVAL` (no link), `EACCES`.
pub fn readlinkat(directory: i32, path: &CStr, buffer: &mut [u8]) -> Result<usize, Errno> {
    let (directory, path) = (directory as isize as usize, path.as_ptr().expose_provenance());
    let (at, bytes) = (buffer.as_mut_ptr().expose_provenance(), buffer.len());
    // SAFETY: a string that lives through the call; `buffer` is writable for its length.
    unsafe { syscall4(number::READLINKAT, directory, path, at, bytes) }
}

/// `fstat(2)`.
///
/// # Errors
/// `EBADF`.
pub fn fstat(fd: i32) -> Result<Stat, Errno> {
    let mut stat = Stat::default();
    let at = (&raw mut stat).expose_provenance();
    // SAFETY: `stat` has the kernel's layout.
    unsafe { syscall2(number::FSTAT, fd as isize as usize, at) }?;
    Ok(stat)
}

/// `newfstatat(2)`: follows a symbolic link.
///
/// # Errors
/// `ENOENT`, `EACCES` and others of stat(2).
pub fn fstatat(directory: i32, path: &CStr) -> Result<Stat, Errno> {
    let mut stat = Stat::default();
    let (directory, path) = (directory as isize as usize, path.as_ptr().expose_provenance());
    let at = (&raw mut stat).expose_provenance();
    // SAFETY: a string that lives through the call; `stat` has the kernel's layout.
    unsafe { syscall4(number::NEWFSTATAT, directory, path, at, 0) }?;
    Ok(stat)
}

/// `ftruncate(2)`: a file of so many bytes.
///
/// # Errors
/// `EBADF`, `EINVAL`, `EFBIG`, `EPERM` (sealed).
///
/// # Safety
/// Nobody relies on what is cut off: touching a mapping of it is a SIGBUS.
pub unsafe fn ftruncate(fd: i32, bytes: u64) -> Result<(), Errno> {
    // SAFETY: the caller's promise.
    unsafe { syscall2(number::FTRUNCATE, fd as isize as usize, bytes as usize) }.map(drop)
}

/// `memfd_create(2)`: a new descriptor of a file in memory.
///
/// # Errors
/// `EMFILE`, `ENOMEM`, `EINVAL`, and what a filter says.
pub fn memfd_create(name: &CStr, flags: u32) -> Result<i32, Errno> {
    let name = name.as_ptr().expose_provenance();
    // SAFETY: a string that lives through the call.
    unsafe { syscall2(number::MEMFD_CREATE, name, flags as usize) }.map(|fd| fd as i32)
}
