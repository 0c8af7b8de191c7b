//! The program's own calls go on, with other arguments where those would keep a breakpoint from
//! trapping: for an image, whose probes are on the C library's functions. Handlers are called as
//! they are: the way back from them is the C library's, which unwinders know.
//!
//! A function that is called with null pointers instead does nothing, and says that it has done it.
#![allow(unsafe_code)]

use super::{SignalAction, SignalSet, dispositions, mask, masks, sigaction, traps};
use crate::kernel::{self, bit};
use crate::{host, wipe_on_fork};
use core::cell::UnsafeCell;
use core::ffi::c_int;
use core::ptr;
use core::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use sys::signal::{SIG_BLOCK, SIG_UNBLOCK, SIGTRAP};

/// What two arguments are to be instead, of which the first is read and the second is written.
pub type Instead<T> = (*const T, *mut T);

/// Signals whose handlers the program wants to run with SIGTRAP blocked.
static WITHOUT_TRAPS: AtomicU64 = AtomicU64::new(0);

/// Actions that the kernel is told in the place of the program's. One is used again when so many
/// others have been: the kernel reads it a few instructions after it was written.
static ACTIONS: [Place; 256] = [const { Place(UnsafeCell::new(SignalAction::DEFAULT)) }; 256];
static NEXT: AtomicUsize = AtomicUsize::new(0);

struct Place(UnsafeCell<SignalAction>);

// SAFETY: written by whoever has taken it by `NEXT`, and read by the same thread.
unsafe impl Sync for Place {}

/// What a function like `sigaction(2)` is to be called with that the program calls with these.
///
/// # Safety
/// The pointers are null, or what they have to be there.
///
/// # Context
/// Signal-safe; some system calls.
pub unsafe fn instead_of_sigaction(
    signal: c_int,
    new: *const SignalAction,
    old: *mut SignalAction,
) -> Instead<SignalAction> {
    if dispositions::is_ours(signal) {
        // SAFETY: the caller's pointers.
        return match unsafe { sigaction(signal, new, old) } {
            0 => (ptr::null(), ptr::null_mut()),
            // Its own function fails, too, and says why.
            _ => (new, old),
        };
    }
    if !(1..=64).contains(&signal) {
        return (new, old);
    }
    let mut instead = (new, old);
    let without = WITHOUT_TRAPS.load(Ordering::Relaxed) & bit(signal) != 0;
    if without && !old.is_null() {
        // SAFETY: the caller's pointer.
        if unsafe { host::sigaction(signal, ptr::null(), old) } != 0 {
            return (new, old);
        }
        // SAFETY: the caller's pointer, which was just written to.
        unsafe { (*old).mask.signals |= bit(SIGTRAP) };
        instead.1 = ptr::null_mut();
    }
    // SAFETY: the caller's pointer.
    let Some(mut action) = (unsafe { new.as_ref() }).copied() else { return instead };
    let names = action.mask.signals & bit(SIGTRAP) != 0;
    // The dispositions of a child of `vfork` are not its parent's.
    if names != without && !wipe_on_fork::is_borrowed() {
        let change = |all| Some(if names { all | bit(signal) } else { all & !bit(signal) });
        let _ = WITHOUT_TRAPS.fetch_update(Ordering::Relaxed, Ordering::Relaxed, change);
    }
    if names {
        action.mask.signals &= !bit(SIGTRAP);
        let place = &ACTIONS[NEXT.fetch_add(1, Ordering::Relaxed) % ACTIONS.len()];
        // SAFETY: see `Place`.
        unsafe { place.0.get().write(action) };
        instead.0 = place.0.get();
    }
    instead
}

/// What a function like `pthread_sigmask(3)` is to be called with that the program calls with
/// these: the first argument, too.
///
/// # Safety
/// As [`instead_of_sigaction`].
///
/// # Context
/// As there.
pub unsafe fn instead_of_mask(
    how: c_int,
    new: *const SignalSet,
    old: *mut SignalSet,
) -> (c_int, Instead<SignalSet>) {
    // SAFETY: the caller's pointer.
    let asked = unsafe { new.as_ref() };
    let blocks = how != SIG_UNBLOCK && asked.is_some_and(|set| set.signals & bit(SIGTRAP) != 0);
    if !blocks && !masks::blocks_traps() {
        return (how, (new, old));
    }
    // One that was kept is the program's to be delivered, by its own call and not in this one.
    let kept = masks::take_kept();
    // SAFETY: the caller's pointers.
    if unsafe { mask(how, new, old) } != 0 {
        if kept {
            masks::keep_trap();
        }
        return (how, (new, old));
    }
    match (kept, masks::blocks_traps()) {
        (true, false) => {
            kernel::change_mask(SIG_BLOCK, bit(SIGTRAP));
            kernel::signal_thread(kernel::thread_id(), SIGTRAP);
            (SIG_UNBLOCK, (&raw const TRAP, ptr::null_mut()))
        }
        (kept, _) => {
            if kept {
                masks::keep_trap();
            }
            (how, (ptr::null(), ptr::null_mut()))
        }
    }
}

static TRAP: SignalSet = SignalSet::of(bit(SIGTRAP));

/// What `sigpending(2)` would say, if the kernel says something else: a SIGTRAP waits that the
/// program believes to be blocked.
///
/// # Context
/// Signal-safe.
pub fn pending_instead() -> Option<u64> {
    masks::keeps_trap().then(masks::pending)
}

/// Whether the calling thread believes that SIGTRAP is blocked.
///
/// # Context
/// Signal-safe; no system call.
pub fn believes_blocked() -> bool {
    masks::blocks_traps()
}

/// The calling thread believes that SIGTRAP is blocked, as it was when the program was executed,
/// or in the thread that has started it.
///
/// # Context
/// Signal-safe; some system calls.
pub fn believe_blocked() {
    masks::block_traps(true, traps::install);
}
