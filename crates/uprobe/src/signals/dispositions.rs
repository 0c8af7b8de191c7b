//! What the program believes its signal handlers are.
//!
//! The kernel holds our handlers where the engine needs one, and a wrapper around each handler of
//! the program; this table holds what the program asked for, for the wrapper to call and for
//! `sigaction` to report back.
//!
//! # Who may write what
//! An entry is written by whoever holds its lock, with all signals blocked, so that a handler
//! cannot spin on its own thread. Handlers read `handler` alone, without the lock. A child of
//! `vfork` has dispositions of its own in the kernel, but this table is its parent's: it is not
//! written there, and no lock is taken that the child could die with. In a child of `fork` an entry
//! that another thread of the parent was writing may be partly the old one.
#![allow(unsafe_code)]

use crate::c_signals::SignalAction;
use crate::kernel;
use crate::wipe_on_fork::Lock;
use core::cell::UnsafeCell;
use core::ffi::c_int;
use core::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use sys::signal::{SIG_DFL, SIGILL, SIGTRAP};

/// Signals that there are on Linux, and number 0.
pub(super) const SIGNALS: usize = 65;

struct Entry {
    /// The program's handler, `SIG_DFL` or `SIG_IGN`.
    handler: AtomicUsize,
    /// What the program gave `sigaction` last. `None`: nothing yet, the kernel knows.
    action: UnsafeCell<Option<SignalAction>>,
}

// SAFETY: `action` is only touched by the lock's holder.
unsafe impl Sync for Entry {}

static TABLE: [Entry; SIGNALS] =
    [const { Entry { handler: AtomicUsize::new(0), action: UnsafeCell::new(None) } }; SIGNALS];

/// Runs `f` on what the program asked for this signal, alone.
pub(super) fn with<R>(signal: c_int, f: impl FnOnce(&mut Option<SignalAction>) -> R) -> Option<R> {
    let number = usize::try_from(signal).ok()?;
    let entry = TABLE.get(number)?;
    let mask = kernel::block(kernel::ALL);
    let result = Lock::new(number).with(|| {
        // SAFETY: the lock is held, and no handler of this thread can come in between.
        let action = unsafe { &mut *entry.action.get() };
        let result = f(action);
        if let Some(action) = action {
            // Release: whoever calls the handler comes after what the program did before it
            // installed it.
            entry.handler.store(action.handler, Ordering::Release);
        }
        result
    });
    kernel::restore_signals(mask);
    Some(result)
}

/// What the program asked for last, in a child of `vfork`: as its parent's thread left it, for that
/// waits. `None`: nothing yet.
pub(super) fn look(signal: c_int) -> Option<SignalAction> {
    let entry = TABLE.get(usize::try_from(signal).ok()?)?;
    // SAFETY: another thread of the parent may write the same entry just now, as it may change the
    // disposition itself while a child is made; volatile: each word is the old one or the new one.
    unsafe { entry.action.get().read_volatile() }
}

/// The program's handler; `SIG_DFL` if it never set one.
///
/// Context: signal-safe.
pub(super) fn handler(signal: c_int) -> usize {
    TABLE
        .get(usize::try_from(signal).unwrap_or(0))
        .map_or(SIG_DFL, |e| e.handler.load(Ordering::Acquire))
}

static TRAPS_ARE_OURS: AtomicBool = AtomicBool::new(false);

/// Signals that are the engine's own as soon as there is a trap: that of breakpoints, and that of a
/// jump that is entered in its middle, which is only met where code changes under running threads.
pub(super) const TRAPS: &[c_int] =
    if cfg!(feature = "std") { &[SIGTRAP, SIGILL] } else { &[SIGTRAP] };

/// Whether our handler stands before the program's for this signal.
pub(super) fn is_ours(signal: c_int) -> bool {
    TRAPS.contains(&signal) && traps_are_ours()
}

/// Whether our handlers stand before the program's for [`TRAPS`].
pub(super) fn traps_are_ours() -> bool {
    // Acquire pairs with the Release in `take_traps`.
    TRAPS_ARE_OURS.load(Ordering::Acquire)
}

/// They do from now on.
pub(super) fn take_traps() {
    // Release pairs with the Acquire in `traps_are_ours`.
    TRAPS_ARE_OURS.store(true, Ordering::Release);
}
