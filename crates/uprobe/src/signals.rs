//! Signals as the program sees them: its dispositions and masks, though the engine needs some for itself.
//!
//! A preloaded agent offers `sigaction`, `signal`, `sigprocmask`, `pthread_sigmask` and `sigpending` to the program and forwards them here. Every handler of the program is then called through a wrapper
//! that shows it a frame in its own code, also when the signal arrived in a stub. SIGTRAP and SIGILL reach the program only when the trap is not the engine's.
#![allow(unsafe_code)]

mod dispositions;
mod frame;
mod masks;
pub(crate) mod stack;
pub(crate) mod traps;
mod wrap;

use crate::kernel;
use dispositions::system;
use libc::{SA_RESETHAND, SA_SIGINFO, SIG_DFL, SIG_ERR, SIG_IGN, SIGILL, SIGTRAP, c_int};

pub use masks::{Inherited, adopt, inherit, inherited, mask, pending};

/// `sigaction(2)` for the program.
///
/// # Safety
/// `new` and `old` are null or valid, as for `sigaction(2)`.
///
/// # Context
/// Signal-safe; blocks signals for its duration.
pub unsafe fn sigaction(signal: c_int, new: *const libc::sigaction, old: *mut libc::sigaction) -> c_int {
    // SAFETY: the caller's pointer.
    let asked = unsafe { new.as_ref() }.copied();
    let result = dispositions::with(signal, |mine| {
        // SAFETY: zero is a valid sigaction.
        let mut before: libc::sigaction = unsafe { core::mem::zeroed() };
        let reserved = traps::installed() && matches!(signal, SIGTRAP | SIGILL);
        let real = asked.map(|a| wrapped(&a));
        let real = real.as_ref().filter(|_| !reserved).map_or(core::ptr::null(), core::ptr::from_ref);
        // SAFETY: `real` is null or a sigaction that lives through the call.
        let result = unsafe { system(signal, real, &raw mut before) };
        if result == 0 {
            // One-shot handlers that ran are the default again: the kernel knows.
            let spent = before.sa_sigaction == SIG_DFL && mine.is_some_and(|m| m.sa_flags & SA_RESETHAND != 0);
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
    result.unwrap_or_else(|| unsafe { system(signal, new, old) })
}

/// What the kernel is told instead.
fn wrapped(asked: &libc::sigaction) -> libc::sigaction {
    let mut real = *asked;
    // A breakpoint inside the handler must be able to trap.
    let mask = masks::of(&real.sa_mask) & !kernel::bit(SIGTRAP);
    masks::set(&mut real.sa_mask, mask);
    if asked.sa_sigaction != SIG_DFL && asked.sa_sigaction != SIG_IGN {
        real.sa_sigaction = wrap::wrapper as *const () as usize;
        real.sa_flags |= SA_SIGINFO;
    }
    real
}

/// `signal(3)` for the program, with the given `sigaction` flags (`SA_RESTART` for the BSD meaning, `SA_RESETHAND | SA_NODEFER` for System V's).
///
/// # Safety
/// `handler` is `SIG_DFL`, `SIG_IGN` or a signal handler.
pub unsafe fn signal(signal: c_int, handler: usize, flags: c_int) -> usize {
    // SAFETY: zero is a valid sigaction.
    let mut new: libc::sigaction = unsafe { core::mem::zeroed() };
    // SAFETY: as above.
    let mut old: libc::sigaction = unsafe { core::mem::zeroed() };
    new.sa_sigaction = handler;
    new.sa_flags = flags;
    // SAFETY: two sigactions that live through the call.
    if unsafe { sigaction(signal, &raw const new, &raw mut old) } == 0 { old.sa_sigaction } else { SIG_ERR }
}
