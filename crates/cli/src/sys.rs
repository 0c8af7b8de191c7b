//! The few system calls that the standard library does not have.
#![allow(unsafe_code)]

use std::ffi::CString;
use std::fs::File;
use std::io::Write;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

/// Effective ids.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Ids {
    pub(crate) user: u32,
    pub(crate) group: u32,
}

impl Ids {
    pub(crate) fn current() -> Self {
        // SAFETY: always succeeds and touches no memory.
        let user = unsafe { libc::geteuid() };
        // SAFETY: as above.
        let group = unsafe { libc::getegid() };
        Self { user, group }
    }
}

/// Locks a file until every descriptor of this opening is closed, at the latest when the process ends. False: somebody else holds the lock.
pub(crate) fn lock(file: &File) -> bool {
    // SAFETY: the descriptor is open.
    unsafe { libc::flock(file.as_raw_fd(), libc::LOCK_EX | libc::LOCK_NB) == 0 }
}

/// Whether this process may execute the file.
pub(crate) fn may_execute(file: &Path) -> bool {
    let Ok(path) = CString::new(file.as_os_str().as_bytes()) else {
        return false;
    };
    // SAFETY: `path` is a string that ends in a zero byte and outlives the call.
    unsafe { libc::faccessat(libc::AT_FDCWD, path.as_ptr(), libc::X_OK, libc::AT_EACCESS) == 0 }
}

/// Whether the file gives capabilities to who executes it.
pub(crate) fn has_capabilities(file: &Path) -> bool {
    let Ok(path) = CString::new(file.as_os_str().as_bytes()) else {
        return false;
    };
    // SAFETY: both strings end in a zero byte; a size of zero asks for the length alone and writes nothing.
    unsafe { libc::getxattr(path.as_ptr(), c"security.capability".as_ptr(), std::ptr::null_mut(), 0) > 0 }
}

/// Bytes that this user may still write to the file system of `path`.
pub(crate) fn free_bytes(path: &Path) -> Option<u64> {
    let path = CString::new(path.as_os_str().as_bytes()).ok()?;
    let mut stat = std::mem::MaybeUninit::<libc::statvfs>::uninit();
    // SAFETY: the path ends in a zero byte, and the kernel fills the structure that it is given.
    if unsafe { libc::statvfs(path.as_ptr(), stat.as_mut_ptr()) } != 0 {
        return None;
    }
    // SAFETY: filled by the call that succeeded.
    let stat = unsafe { stat.assume_init() };
    Some(stat.f_bavail.saturating_mul(stat.f_frsize))
}

/// `MEMBARRIER_CMD_PRIVATE_EXPEDITED_SYNC_CORE` (linux/membarrier.h).
pub(crate) const MEMBARRIER_SYNC_CORE: i64 = 1 << 5;

/// The commands that the kernel's membarrier has.
pub(crate) fn membarrier_commands() -> Option<i64> {
    // SAFETY: the query (command 0) takes no pointers and changes nothing.
    let commands = unsafe { libc::syscall(libc::SYS_membarrier, 0, 0, 0) };
    (commands >= 0).then_some(commands)
}

/// Whether the kernel has restartable sequences.
pub(crate) fn rseq_known() -> bool {
    // SAFETY: a null area of size zero is refused (EINVAL) before anything is registered; only a kernel without rseq says ENOSYS.
    unsafe { libc::syscall(libc::SYS_rseq, 0, 0, 0, 0) };
    std::io::Error::last_os_error().raw_os_error() != Some(libc::ENOSYS)
}

/// Whether files in this directory cannot be mapped for execution.
pub(crate) fn no_execution(directory: &Path) -> bool {
    let Ok(path) = CString::new(directory.as_os_str().as_bytes()) else {
        return true;
    };
    let mut stat = std::mem::MaybeUninit::<libc::statvfs>::uninit();
    // SAFETY: the path ends in a zero byte, and the kernel fills the structure that it is given.
    if unsafe { libc::statvfs(path.as_ptr(), stat.as_mut_ptr()) } != 0 {
        return true;
    }
    // SAFETY: filled by the call that succeeded.
    let stat = unsafe { stat.assume_init() };
    stat.f_flag & libc::ST_NOEXEC != 0
}

/// A file in memory with `bytes`.
pub(crate) fn memory_file(bytes: &[u8]) -> std::io::Result<OwnedFd> {
    // SAFETY: the name ends in a zero byte.
    let fd = unsafe { libc::memfd_create(c"trapline-agent".as_ptr(), libc::MFD_CLOEXEC) };
    if fd < 0 {
        return Err(std::io::Error::last_os_error());
    }
    // SAFETY: the descriptor was just opened, and nobody else has it.
    let file = unsafe { File::from_raw_fd(fd) };
    (&file).write_all(bytes)?;
    Ok(file.into())
}
