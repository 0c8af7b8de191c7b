//! Waiting on a word of shared memory, across processes.
#![allow(unsafe_code)]

use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

/// Waits until `word` is not `value`, or up to `patience`.
pub(crate) fn wait(word: &AtomicU32, value: u32, patience: Duration) {
    let end = Instant::now() + patience;
    // Relaxed: callers load again with the ordering they need.
    while word.load(Ordering::Relaxed) == value {
        let left = end.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return;
        }
        let timeout = libc::timespec {
            tv_sec: left.as_secs().cast_signed(),
            tv_nsec: i64::from(left.subsec_nanos()),
        };
        // SAFETY: the word and the timeout live through the call; the kernel only compares and
        // sleeps.
        unsafe {
            libc::syscall(
                libc::SYS_futex,
                word.as_ptr(),
                libc::FUTEX_WAIT,
                value,
                &raw const timeout,
            )
        };
    }
}

/// Wakes everybody who waits on `word`.
pub(crate) fn wake(word: &AtomicU32) {
    // SAFETY: the word lives through the call, which reads nothing.
    unsafe { libc::syscall(libc::SYS_futex, word.as_ptr(), libc::FUTEX_WAKE, i32::MAX) };
}
