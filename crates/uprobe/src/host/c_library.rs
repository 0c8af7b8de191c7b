//! A process with glibc.
#![allow(unsafe_code)]

use crate::c_signals::SignalAction;
use core::ffi::c_int;

/// Whether forks and the ends of threads are told.
pub(crate) const SEES: bool = true;

/// Runs code that may call the C library; the thread's `errno` is afterwards what it was.
///
/// # Context
/// Signal-safe.
pub(crate) fn keeping_errno(f: impl FnOnce()) {
    // SAFETY: every thread has one.
    let place = unsafe { libc::__errno_location() };
    // SAFETY: the thread's own.
    let errno = unsafe { place.read() };
    f();
    // SAFETY: as above.
    unsafe { place.write(errno) };
}

/// Has these functions run at each `fork(3)` from now on: before it, and behind it in the parent
/// and in the child. Of functions that were named before, those before a fork run later and those
/// behind it earlier. Without memory for it nothing is run.
pub(crate) fn on_fork(
    before: unsafe extern "C" fn(),
    parent: unsafe extern "C" fn(),
    child: unsafe extern "C" fn(),
) {
    // SAFETY: functions for the life of the process.
    unsafe { libc::pthread_atfork(Some(before), Some(parent), Some(child)) };
}

/// The handlers of [`on_fork`] know.
pub(crate) fn forked() {}

/// Where the first thread's stack was when the kernel began the process.
pub(crate) fn first_stack_end() -> u64 {
    unsafe extern "C" {
        static __libc_stack_end: *const u8;
    }
    // SAFETY: the dynamic loader writes it before any code of the process runs.
    unsafe { __libc_stack_end }.addr() as u64
}

unsafe extern "C" {
    /// glibc's own name for `sigaction`, which a preloaded object that offers `sigaction` does not
    /// catch.
    fn __sigaction(signal: c_int, new: *const SignalAction, old: *mut SignalAction) -> c_int;
}

/// `sigaction(2)` as the program would get it without the engine: with the C library's way back
/// from handlers, and without the signals that it keeps for itself. 0, or -1 and an error number in
/// `errno`.
///
/// # Safety
/// As `sigaction(2)`.
pub(crate) unsafe fn sigaction(
    signal: c_int,
    new: *const SignalAction,
    old: *mut SignalAction,
) -> c_int {
    // SAFETY: the caller's.
    unsafe { __sigaction(signal, new, old) }
}
