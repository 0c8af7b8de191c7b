//! The end of the process: the last objects of the thread that ends it, and of idle ones.
//!
//! `exit`, and returning from `main`, run no exit functions of threads. So the entries of all
//! threads are emptied by `atexit`. The drops that follow are the program's code, and the thread
//! that called `exit` may be anywhere, with any locks: they run on a thread of their own, and
//! `exit` does not wait for one that gets nowhere.
#![allow(unsafe_code)]

use super::flush::take_over;
use crate::panics::Panics;
use alloc::sync::Arc;
use core::sync::atomic::{AtomicBool, Ordering};
use core::time::Duration;
use std::sync::{Condvar, Mutex, PoisonError};
use std::thread;

/// How long one object's drop may take before the process ends without it and those behind it.
const PATIENCE: Duration = Duration::from_secs(1);

/// Sees to it that the last objects are dropped when the process ends. Allocates, the first time.
pub(super) fn prepare() {
    static REGISTERED: AtomicBool = AtomicBool::new(false);
    // Relaxed: whoever is first registers it, and nothing depends on when.
    if !REGISTERED.swap(true, Ordering::Relaxed) {
        // SAFETY: `run` is a function for the life of the process. Without memory for it the last
        // objects end with the process, as their memory does.
        unsafe { libc::atexit(run) };
    }
}

#[derive(Debug, Default)]
struct Progress {
    /// Objects freed so far, and whether that is all. Locked for a moment at a time.
    freed: Mutex<(u64, bool)>,
    changed: Condvar,
}

impl Progress {
    fn report(&self, is_all: bool) {
        let mut freed = self.freed.lock().unwrap_or_else(PoisonError::into_inner);
        *freed = (freed.0 + 1, is_all);
        self.changed.notify_all();
    }

    /// Returns when all is done, or nothing has been for a while.
    fn wait(&self) {
        let mut freed = self.freed.lock().unwrap_or_else(PoisonError::into_inner);
        loop {
            let before = freed.0;
            if freed.1 {
                return;
            }
            freed = self
                .changed
                .wait_timeout(freed, PATIENCE)
                .unwrap_or_else(PoisonError::into_inner)
                .0;
            if freed.0 == before {
                return;
            }
        }
    }
}

extern "C" fn run() {
    let mut dead = take_over(None);
    if dead.is_empty() {
        return;
    }
    let progress = Arc::new(Progress::default());
    let seen = Arc::clone(&progress);
    let free = move || {
        // Panics end here: nobody could catch them.
        while dead.free_one(&mut Panics::none()) {
            seen.report(false);
            if dead.is_empty() {
                // What the drops have left behind.
                dead = take_over(None);
            }
        }
        seen.report(true);
    };
    // Without another thread the last objects end with the process.
    if thread::Builder::new().spawn(free).is_ok() {
        progress.wait();
    }
}
