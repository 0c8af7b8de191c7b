//! What the program believes its signal handlers are.
//!
//! The kernel holds our handlers where the engine needs one, and a wrapper around each handler of the program; this table holds what the program asked for, for the wrapper
//! to call and for `sigaction` to report back.
//!
//! # Who may write what
//! An entry is written by whoever holds its lock, with all signals blocked, so that a handler cannot spin on its own thread. Handlers read `handler` alone, without the lock.
#![allow(unsafe_code)]

use crate::kernel;
use core::cell::UnsafeCell;
use core::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use libc::{c_int, sigaction};

/// Signals that there are on Linux, and number 0.
pub(super) const SIGNALS: usize = 65;

struct Entry {
    locked: AtomicBool,
    /// The program's handler, `SIG_DFL` or `SIG_IGN`.
    handler: AtomicUsize,
    /// What the program gave `sigaction` last. `None`: nothing yet, the kernel knows.
    action: UnsafeCell<Option<sigaction>>,
}

// SAFETY: `action` is only touched by the lock's holder.
unsafe impl Sync for Entry {}

static TABLE: [Entry; SIGNALS] =
    [const { Entry { locked: AtomicBool::new(false), handler: AtomicUsize::new(0), action: UnsafeCell::new(None) } }; SIGNALS];

unsafe extern "C" {
    /// glibc's own name for `sigaction`, which a preloaded object that offers `sigaction` does not catch.
    fn __sigaction(signal: c_int, new: *const sigaction, old: *mut sigaction) -> c_int;
}

/// The system's `sigaction`.
///
/// # Safety
/// As `sigaction(2)`.
pub(super) unsafe fn system(signal: c_int, new: *const sigaction, old: *mut sigaction) -> c_int {
    // SAFETY: the caller's.
    unsafe { __sigaction(signal, new, old) }
}

/// Runs `f` on what the program asked for this signal, alone.
pub(super) fn with<R>(signal: c_int, f: impl FnOnce(&mut Option<sigaction>) -> R) -> Option<R> {
    let entry = TABLE.get(usize::try_from(signal).ok()?)?;
    let mask = kernel::change_mask(libc::SIG_SETMASK, kernel::ALL);
    // Acquire pairs with the Release below.
    while entry.locked.compare_exchange_weak(false, true, Ordering::Acquire, Ordering::Relaxed).is_err() {
        core::hint::spin_loop();
    }
    // SAFETY: the lock is held, and no handler of this thread can come in between.
    let action = unsafe { &mut *entry.action.get() };
    let result = f(action);
    if let Some(action) = action {
        // Release: whoever calls the handler comes after what the program did before it installed it.
        entry.handler.store(action.sa_sigaction, Ordering::Release);
    }
    entry.locked.store(false, Ordering::Release);
    kernel::restore_signals(mask);
    Some(result)
}

/// The program's handler; `SIG_DFL` if it never set one.
///
/// Context: signal-safe.
pub(super) fn handler(signal: c_int) -> usize {
    TABLE.get(usize::try_from(signal).unwrap_or(0)).map_or(libc::SIG_DFL, |e| e.handler.load(Ordering::Acquire))
}
