//! The thread's errno, which a handler must leave as it was.
#![allow(unsafe_code)]

use libc::c_int;

fn place() -> *mut c_int {
    // SAFETY: no arguments.
    unsafe { libc::__errno_location() }
}

pub(super) fn get() -> c_int {
    // SAFETY: the thread's own word, valid as long as the thread runs.
    unsafe { place().read() }
}

pub(super) fn set(value: c_int) {
    // SAFETY: as above.
    unsafe { place().write(value) };
}
