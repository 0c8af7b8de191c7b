//! `nanosleep(2)`.
#![allow(unsafe_code)]

use core::time::Duration;

/// Sleeps until the time is over or a signal handler has run.
pub(crate) fn once(time: Duration) {
    let time = libc::timespec { tv_sec: time.as_secs().try_into().unwrap_or(libc::time_t::MAX), tv_nsec: time.subsec_nanos().into() };
    // SAFETY: `time` is readable; what is left of it is not asked for.
    unsafe { libc::nanosleep(&time, core::ptr::null_mut()) };
}
