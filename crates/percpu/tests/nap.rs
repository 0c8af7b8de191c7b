//! A nap ends when a signal handler has run.
#![cfg(not(loom))]

use std::os::unix::thread::JoinHandleExt;
use std::ptr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::Duration;

static HANDLED: AtomicU64 = AtomicU64::new(0);

extern "C" fn on_signal(_signal: libc::c_int) {
    HANDLED.fetch_add(1, Ordering::Relaxed);
}

#[test]
fn a_signal_ends_a_nap() {
    // SAFETY: an all-zero sigaction is valid.
    let mut action: libc::sigaction = unsafe { std::mem::zeroed() };
    action.sa_sigaction = on_signal as *const () as usize;
    action.sa_flags = libc::SA_RESTART;
    // SAFETY: the action is initialised, and the handler keeps to an atomic.
    assert_eq!(unsafe { libc::sigaction(libc::SIGUSR1, &action, ptr::null_mut()) }, 0);
    let sleeper = thread::spawn(|| percpu::thread::nap(Duration::from_secs(3600)));
    let mut sent = 0;
    while !sleeper.is_finished() {
        assert!(
            sent < 10_000,
            "{} handlers have run, and the thread sleeps on",
            HANDLED.load(Ordering::Relaxed)
        );
        // SAFETY: the thread has not been joined.
        assert_eq!(unsafe { libc::pthread_kill(sleeper.as_pthread_t(), libc::SIGUSR1) }, 0);
        sent += 1;
        thread::sleep(Duration::from_millis(1));
    }
    sleeper.join().expect("no panic");
    assert!(HANDLED.load(Ordering::Relaxed) > 0);
}
