//! Signals as the program sees them: its dispositions and masks, though the engine needs some for
//! itself.
//!
//! A preloaded agent offers `sigaction`, `signal`, `sigprocmask`, `pthread_sigmask` and
//! `sigpending` to the program and forwards them here. Every handler of the program is then called
//! through a wrapper that shows it a frame in its own code, also when the signal arrived in a stub.
//! A child of `vfork`, which runs on its parent's memory, changes nothing for its parent. SIGTRAP
//! and SIGILL reach the program only when the trap is not the engine's.
//!
//! An image that was put into a process offers nothing: its probes on the C library's functions
//! change what those are called with ([`beside`]).
//!
//! What is passed is what the program's C library has in its headers ([`SignalAction`],
//! [`SignalSet`]), wherever its types come from.
#![allow(unsafe_code)]

pub mod beside;
mod dispositions;
mod masks;
pub(crate) mod stack;
pub(crate) mod traps;
mod wrap;

use crate::arch::x86_64::frame::{Frame, Info};
use crate::thread_state::{Busy, busy, set_busy};
use crate::{host, kernel, sealed, wipe_on_fork};
use core::ffi::c_int;
use core::ptr;
use sys::signal::{
    SA_RESETHAND, SA_SIGINFO, SIG_BLOCK, SIG_DFL, SIG_IGN, SIG_SETMASK, SIG_UNBLOCK, SIGTRAP,
};

pub use crate::c_signals::{SignalAction, SignalSet};
pub use masks::pending;
pub use traps::adopt;

/// `sigaction(2)` for the program.
///
/// # Safety
/// `new` and `old` are null or valid, as for `sigaction(2)`.
///
/// # Context
/// Signal-safe; blocks signals for its duration.
pub unsafe fn sigaction(signal: c_int, new: *const SignalAction, old: *mut SignalAction) -> c_int {
    if wipe_on_fork::is_borrowed() {
        // SAFETY: the caller's pointers.
        return unsafe { of_borrower(signal, new, old) };
    }
    // SAFETY: the caller's pointer.
    let asked = unsafe { new.as_ref() }.copied();
    let result = dispositions::with(signal, |mine| {
        let mut before = SignalAction::DEFAULT;
        let reserved = dispositions::is_ours(signal);
        let real = asked.map(|a| wrapped(&a));
        let real = real.as_ref().filter(|_| !reserved).map_or(ptr::null(), ptr::from_ref);
        // SAFETY: `real` is null or a sigaction that lives through the call.
        let result = unsafe { host::sigaction(signal, real, &raw mut before) };
        if result == 0 {
            // One-shot handlers that ran are the default again: the kernel knows.
            let spent = before.handler == SIG_DFL
                && mine.is_some_and(|m| m.flags & SA_RESETHAND as c_int != 0);
            let known = mine.filter(|_| !spent || reserved);
            // SAFETY: the caller's pointer.
            if let Some(old) = unsafe { old.as_mut() } {
                *old = known.unwrap_or(before);
            }
            *mine = asked.or(known);
        }
        result
    });
    // A number that no signal has: let the system say so.
    // SAFETY: the caller's pointers.
    result.unwrap_or_else(|| unsafe { host::sigaction(signal, new, old) })
}

/// [`sigaction`] in a child of `vfork`: its dispositions are its own, in the kernel, but what is
/// known here is its parent's, and stays so. A handler of the child's own is called as it is; it
/// lives until the child executes another program.
///
/// # Safety
/// As there.
unsafe fn of_borrower(signal: c_int, new: *const SignalAction, old: *mut SignalAction) -> c_int {
    let reserved = dispositions::is_ours(signal);
    // SAFETY: the caller's pointer.
    let asked = unsafe { new.as_ref() }.map(|asked| trappable(*asked));
    let real = asked.as_ref().filter(|_| !reserved).map_or(ptr::null(), ptr::from_ref);
    let mut before = SignalAction::DEFAULT;
    // SAFETY: `real` is null or a sigaction that lives through the call.
    let result = unsafe { host::sigaction(signal, real, &raw mut before) };
    if result == 0
        // SAFETY: the caller's pointer.
        && let Some(old) = unsafe { old.as_mut() }
    {
        let inherited = reserved || before.handler == wrapper as *const () as usize;
        *old = dispositions::look(signal).filter(|_| inherited).unwrap_or(before);
    }
    result
}

/// With a mask under which a breakpoint inside the handler can trap.
fn trappable(mut action: SignalAction) -> SignalAction {
    action.mask.signals &= !kernel::bit(SIGTRAP);
    action
}

/// What the kernel is told instead.
fn wrapped(asked: &SignalAction) -> SignalAction {
    let mut real = trappable(*asked);
    if asked.handler != SIG_DFL && asked.handler != SIG_IGN {
        real.handler = wrapper as *const () as usize;
        real.flags |= SA_SIGINFO as c_int;
    }
    real
}

/// `signal(3)` for the program, with the given `sigaction` flags (`SA_RESTART` for the BSD meaning,
/// `SA_RESETHAND | SA_NODEFER` for System V's).
///
/// # Safety
/// `handler` is `SIG_DFL`, `SIG_IGN` or a signal handler.
pub unsafe fn signal(signal: c_int, handler: usize, flags: c_int) -> usize {
    const SIG_ERR: usize = usize::MAX;
    let (new, mut old) = (SignalAction::new(handler, flags, 0), SignalAction::DEFAULT);
    // SAFETY: two sigactions that live through the call.
    let result = unsafe { sigaction(signal, &raw const new, &raw mut old) };
    if result == 0 { old.handler } else { SIG_ERR }
}

/// What the kernel calls instead of a handler of the program.
extern "C" fn wrapper(signal: c_int, info: *mut Info, frame: *mut Frame) {
    // SAFETY: the kernel gives a SA_SIGINFO handler its frame.
    let frame = unsafe { &mut *frame };
    stack::note(frame);
    // Signals wait for the engine's own code, or cannot be made to.
    let in_between = sealed::is_sealed() && busy() == Busy::Own;
    if in_between {
        set_busy(Busy::Agent);
    }
    wrap::call(signal, info, frame, traps::install);
    if in_between {
        set_busy(Busy::Own);
    }
}

/// `sigprocmask(2)` and `pthread_sigmask(3)` for the program; 0 or an error number. SIGTRAP is
/// blocked in appearance only.
///
/// # Safety
/// `new` and `old` are null or valid.
///
/// # Context
/// Signal-safe.
pub unsafe fn mask(how: c_int, new: *const SignalSet, old: *mut SignalSet) -> c_int {
    // SAFETY: the caller's pointer.
    let asked = unsafe { new.as_ref() }.map(|set| set.signals);
    let blocked = masks::blocks_traps();
    let real = asked.map(|mask| {
        if how == SIG_UNBLOCK { mask } else { mask & !masks::INTERNAL & !kernel::bit(SIGTRAP) }
    });
    let real = real.as_ref().map_or(0, |mask| ptr::from_ref(mask).expose_provenance());
    // SAFETY: a mask that lives through the call, and the caller's pointer.
    let error = unsafe { kernel::rt_sigprocmask(how, real, old.expose_provenance()) };
    if error != 0 {
        return error;
    }
    // SAFETY: the caller's pointer, to which the kernel has written.
    if let Some(old) = unsafe { old.as_mut() }.filter(|_| blocked) {
        old.signals |= kernel::bit(SIGTRAP);
    }
    if let Some(mask) = asked {
        let named = mask & kernel::bit(SIGTRAP) != 0;
        let block = match how {
            SIG_BLOCK => blocked || named,
            SIG_UNBLOCK => blocked && !named,
            _ => named,
        };
        // The word of a child of `vfork` is its parent's.
        if block != blocked && !wipe_on_fork::is_borrowed() {
            masks::block_traps(block, traps::install);
        }
    }
    0
}

const _: () = assert!(SIG_SETMASK == 2, "the only other request");

/// What a thread hands on to one that it starts.
#[derive(Clone, Copy, Debug)]
pub struct Inherited(bool);

/// For a thread that is about to start another one.
pub fn inherited() -> Inherited {
    Inherited(masks::blocks_traps())
}

/// In the new thread.
pub fn inherit(from: Inherited) {
    if from.0 != masks::blocks_traps() {
        masks::block_traps(from.0, traps::install);
    }
}
