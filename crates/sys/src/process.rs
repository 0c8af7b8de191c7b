//! Processes: who one is, signals to others, the end.
#![allow(unsafe_code)]

use crate::Errno;
use crate::number;
use crate::raw::{syscall0, syscall1, syscall2, syscall3, syscall4, syscall5, syscall6};
use crate::signal::{self, Action, SIGABRT, Set};
use crate::thread::gettid;

/// `getpid(2)`.
#[must_use]
pub fn getpid() -> i32 {
    // SAFETY: takes nothing.
    unsafe { syscall0(number::GETPID) }.unwrap_or(0) as i32
}

/// `getppid(2)`: 0 where the parent is in another pid namespace.
#[must_use]
pub fn getppid() -> i32 {
    // SAFETY: takes nothing.
    unsafe { syscall0(number::GETPPID) }.unwrap_or(0) as i32
}

/// `kill(2)`. Signal 0 only asks whether there is such a process.
///
/// # Errors
/// `ESRCH`, `EPERM`, `EINVAL`.
pub fn kill(process: i32, signal: i32) -> Result<(), Errno> {
    let (process, signal) = (process as isize as usize, signal as isize as usize);
    // SAFETY: two numbers. What a process does with a signal is its own affair.
    unsafe { syscall2(number::KILL, process, signal) }.map(drop)
}

/// `tgkill(2)`. Signal 0 only asks whether there is such a thread.
///
/// # Errors
/// `ESRCH`, `EPERM`, `EINVAL`, `EAGAIN`.
pub fn tgkill(process: i32, thread: i32, signal: i32) -> Result<(), Errno> {
    let (process, thread) = (process as isize as usize, thread as isize as usize);
    // SAFETY: as `kill`.
    unsafe { syscall3(number::TGKILL, process, thread, signal as isize as usize) }.map(drop)
}

/// `exit_group(2)`: all threads end, at once and without a word to anybody.
pub fn exit_group(status: i32) -> ! {
    loop {
        // SAFETY: a number; the call does not come back.
        let _ = unsafe { syscall1(number::EXIT_GROUP, status as isize as usize) };
    }
}

/// The process ends by SIGABRT, whatever it does about that signal.
#[cold]
pub fn abort() -> ! {
    let only = Set::of(SIGABRT);
    // Its handler may have its say first, as with the C library.
    // SAFETY: unblocking a signal that the thread raises itself, to die of it.
    let _ = unsafe { signal::sigprocmask(signal::SIG_UNBLOCK, Some(&only)) };
    let _ = tgkill(getpid(), gettid(), SIGABRT);
    // SAFETY: nothing of the handler is needed any more.
    let _ = unsafe { signal::sigaction(SIGABRT, Some(&Action::DEFAULT)) };
    let _ = tgkill(getpid(), gettid(), SIGABRT);
    exit_group(127)
}

/// `prctl(2)`.
///
/// # Errors
/// As the operation's.
///
/// # Safety
/// The operation with these arguments does nothing that the caller may not do.
pub unsafe fn prctl(operation: i32, arguments: [usize; 4]) -> Result<usize, Errno> {
    let [a, b, c, d] = arguments;
    // SAFETY: the caller's promise.
    unsafe { syscall5(number::PRCTL, operation as usize, a, b, c, d) }
}

/// `access(2)` for execution, of a path that lies at an address which may be anything.
///
/// # Errors
/// `EFAULT`: there is no text; `ENOENT`, `ENOTDIR`: no such file; `EACCES` and others.
pub fn may_execute(path: usize) -> Result<(), Errno> {
    const AT_FDCWD: i32 = -100;
    const X_OK: usize = 1;
    // SAFETY: the kernel only reads, and says where it cannot.
    unsafe { syscall3(number::FACCESSAT, AT_FDCWD as isize as usize, path, X_OK) }.map(drop)
}

/// `prlimit(2)` of this process for `RLIMIT_FSIZE`: no file may become longer, and the kernel kills
/// who tries (SIGXFSZ). `u64::MAX`: there is no such limit.
#[must_use]
pub fn longest_file() -> u64 {
    const RLIMIT_FSIZE: usize = 1;
    let mut limit = [u64::MAX; 2];
    // SAFETY: asks for two words, and there is room for them.
    let _ = unsafe {
        syscall4(number::PRLIMIT64, 0, RLIMIT_FSIZE, 0, limit.as_mut_ptr().expose_provenance())
    };
    limit[0]
}

/// `process_vm_readv(2)`: how many bytes at `from` of a process could be read, from its beginning.
/// Of the own process, too: what is not mapped there is an answer, not a fault.
///
/// # Errors
/// `EFAULT`: not even the first; `ESRCH`, `EPERM`.
pub fn read_memory(process: i32, from: usize, to: &mut [u8]) -> Result<usize, Errno> {
    // As `struct iovec` has them: address, bytes.
    let local = [to.as_mut_ptr().expose_provenance(), to.len()];
    let remote = [from, to.len()];
    let (local, remote) = (local.as_ptr().expose_provenance(), remote.as_ptr().expose_provenance());
    // SAFETY: one part on each side; `to` is writable for its length.
    unsafe { syscall6(number::PROCESS_VM_READV, process as isize as usize, local, 1, remote, 1, 0) }
}
