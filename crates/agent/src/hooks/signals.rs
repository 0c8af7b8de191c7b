//! Signal dispositions and masks: the engine shows the program its own ([`uprobe::signals`]).
#![allow(unsafe_code)]
#![cfg_attr(test, expect(dead_code, reason = "tests keep the C library's own"))]

use libc::{SA_NODEFER, SA_RESETHAND, SA_RESTART, c_int, sighandler_t, sigset_t};

/// `sigaction(2)`.
///
/// # Safety
/// The pointers are null or valid.
#[cfg_attr(not(test), unsafe(no_mangle))]
unsafe extern "C" fn sigaction(
    signal: c_int,
    new: *const libc::sigaction,
    old: *mut libc::sigaction,
) -> c_int {
    // SAFETY: the caller's pointers.
    unsafe { uprobe::signals::sigaction(signal, new.cast(), old.cast()) }
}

/// `signal(2)` with the BSD meaning, as glibc has it.
///
/// # Safety
/// A handler, `SIG_DFL` or `SIG_IGN`.
#[cfg_attr(not(test), unsafe(no_mangle))]
unsafe extern "C" fn signal(number: c_int, handler: sighandler_t) -> sighandler_t {
    // SAFETY: the caller's handler.
    unsafe { uprobe::signals::signal(number, handler, SA_RESTART) }
}

/// `signal` under its BSD name.
///
/// # Safety
/// As `signal`.
#[cfg_attr(not(test), unsafe(no_mangle))]
unsafe extern "C" fn bsd_signal(number: c_int, handler: sighandler_t) -> sighandler_t {
    // SAFETY: as above.
    unsafe { uprobe::signals::signal(number, handler, SA_RESTART) }
}

/// `signal` under another old name.
///
/// # Safety
/// As `signal`.
#[cfg_attr(not(test), unsafe(no_mangle))]
unsafe extern "C" fn ssignal(number: c_int, handler: sighandler_t) -> sighandler_t {
    // SAFETY: as above.
    unsafe { uprobe::signals::signal(number, handler, SA_RESTART) }
}

/// `signal` with the System V meaning: one shot, not blocked meanwhile.
///
/// # Safety
/// As `signal`.
#[cfg_attr(not(test), unsafe(no_mangle))]
unsafe extern "C" fn sysv_signal(number: c_int, handler: sighandler_t) -> sighandler_t {
    // SAFETY: as above.
    unsafe { uprobe::signals::signal(number, handler, SA_RESETHAND | SA_NODEFER) }
}

/// What `signal` is in programs compiled for System V.
///
/// # Safety
/// As `signal`.
#[cfg_attr(not(test), unsafe(no_mangle))]
unsafe extern "C" fn __sysv_signal(number: c_int, handler: sighandler_t) -> sighandler_t {
    // SAFETY: as above.
    unsafe { uprobe::signals::signal(number, handler, SA_RESETHAND | SA_NODEFER) }
}

/// `sigprocmask(2)`.
///
/// # Safety
/// The pointers are null or valid.
#[cfg_attr(not(test), unsafe(no_mangle))]
unsafe extern "C" fn sigprocmask(how: c_int, set: *const sigset_t, old: *mut sigset_t) -> c_int {
    // SAFETY: the caller's pointers.
    let error = unsafe { uprobe::signals::mask(how, set.cast(), old.cast()) };
    if error == 0 {
        return 0;
    }
    // SAFETY: no arguments.
    let errno = unsafe { libc::__errno_location() };
    // SAFETY: the thread's own word.
    unsafe { errno.write(error) };
    -1
}

/// `sigpending(2)`.
///
/// # Safety
/// The pointer is valid.
#[cfg_attr(not(test), unsafe(no_mangle))]
unsafe extern "C" fn sigpending(set: *mut sigset_t) -> c_int {
    // SAFETY: the caller's pointer, to a set, which begins with the kernel's 64 bits. glibc writes
    // no more either.
    unsafe { set.cast::<u64>().write(uprobe::signals::pending()) };
    0
}

/// `pthread_sigmask(3)`.
///
/// # Safety
/// The pointers are null or valid.
#[cfg_attr(not(test), unsafe(no_mangle))]
unsafe extern "C" fn pthread_sigmask(
    how: c_int,
    set: *const sigset_t,
    old: *mut sigset_t,
) -> c_int {
    // SAFETY: the caller's pointers.
    unsafe { uprobe::signals::mask(how, set.cast(), old.cast()) }
}
