//! Signal masks as the program sees them. SIGTRAP is never blocked in the kernel, for a breakpoint would kill then; the thread remembers that the program believes so, and a
//! SIGTRAP that somebody sends meanwhile waits until it is unblocked.
//!
//! The word is the thread's own, written by it and its handlers.
#![allow(unsafe_code)]

use super::traps;
use crate::arch::x86_64::tls::{self, TRAPS};
use crate::kernel::{self, Mask, bit};
use libc::{SIG_BLOCK, SIG_SETMASK, SIG_UNBLOCK, SIGTRAP, c_int, sigset_t};

/// The program has blocked SIGTRAP.
const BLOCKED: usize = 1;
/// One came.
const PENDING: usize = 2;
/// Signals for glibc's own use: it does not let the program block them.
const INTERNAL: Mask = bit(32) | bit(33);

/// The kernel's part of a set.
pub(super) fn of(set: &sigset_t) -> Mask {
    // SAFETY: a signal set begins with the kernel's 64 bits.
    unsafe { std::ptr::from_ref(set).cast::<Mask>().read() }
}

/// Changes the kernel's part of a set; what the kernel gives a handler has no more.
pub(super) fn set(set: &mut sigset_t, mask: Mask) {
    // SAFETY: as above.
    unsafe { std::ptr::from_mut(set).cast::<Mask>().write(mask) };
}

/// Whether the program believes that SIGTRAP is blocked in this thread.
pub(super) fn blocks_traps() -> bool {
    tls::get::<TRAPS>() & BLOCKED != 0
}

/// A SIGTRAP was sent to a thread that has blocked it.
pub(super) fn keep_trap() {
    tls::set::<TRAPS>(tls::get::<TRAPS>() | PENDING);
}

fn block_traps(block: bool) {
    let word = tls::get::<TRAPS>();
    if block {
        // Whoever sends one finds our handler, which keeps it.
        traps::install();
        tls::set::<TRAPS>(word | BLOCKED);
    } else {
        tls::set::<TRAPS>(0);
        if word & PENDING != 0 {
            kernel::signal_thread(kernel::thread_id(), SIGTRAP);
        }
    }
}

/// For a handler: the mask that it was told of, with what the program believes.
pub(super) fn show(frame: &mut sigset_t) {
    if blocks_traps() {
        set(frame, of(frame) | bit(SIGTRAP));
    }
}

/// The handler is done: what it has left there is what the program believes now.
pub(super) fn take_back(frame: &mut sigset_t) {
    let mask = of(frame);
    let block = mask & bit(SIGTRAP) != 0;
    if block != blocks_traps() {
        block_traps(block);
    }
    set(frame, mask & !bit(SIGTRAP));
}

/// `sigprocmask(2)` and `pthread_sigmask(3)` for the program; 0 or an error number. SIGTRAP is blocked in appearance only.
///
/// # Safety
/// `new` and `old` are null or valid.
///
/// # Context
/// Signal-safe.
pub unsafe fn mask(how: c_int, new: *const sigset_t, old: *mut sigset_t) -> c_int {
    // SAFETY: the caller's pointer.
    let asked = unsafe { new.as_ref() }.map(of);
    let blocked = blocks_traps();
    let real = asked.map(|mask| if how == SIG_UNBLOCK { mask } else { mask & !INTERNAL & !bit(SIGTRAP) });
    let real = real.as_ref().map_or(0, |mask| std::ptr::from_ref(mask).expose_provenance());
    // SAFETY: a mask that lives through the call, and the caller's pointer.
    let error = unsafe { kernel::rt_sigprocmask(how, real, old.expose_provenance()) };
    if error != 0 {
        return error;
    }
    // SAFETY: the caller's pointer, to which the kernel has written.
    if let Some(old) = unsafe { old.as_mut() }.filter(|_| blocked) {
        set(old, of(old) | bit(SIGTRAP));
    }
    if let Some(mask) = asked {
        let named = mask & bit(SIGTRAP) != 0;
        let block = match how {
            SIG_BLOCK => blocked || named,
            SIG_UNBLOCK => blocked && !named,
            _ => named,
        };
        if block != blocked {
            block_traps(block);
        }
    }
    0
}

/// `sigpending(2)` for the program.
///
/// # Context
/// Signal-safe.
pub fn pending() -> u64 {
    let kept = if tls::get::<TRAPS>() & PENDING == 0 { 0 } else { bit(SIGTRAP) };
    kernel::pending_signals() | kept
}

/// What a thread hands on to one that it starts.
#[derive(Clone, Copy, Debug)]
pub struct Inherited(bool);

/// For a thread that is about to start another one.
pub fn inherited() -> Inherited {
    Inherited(blocks_traps())
}

/// In the new thread.
pub fn inherit(from: Inherited) {
    if from.0 != blocks_traps() {
        block_traps(from.0);
    }
}

/// Unblocks SIGTRAP in the calling thread, if it is blocked in the kernel, without the program noticing: for the first thread of a program that was started like that.
pub fn adopt() {
    let before = kernel::change_mask(SIG_UNBLOCK, bit(SIGTRAP));
    if before & bit(SIGTRAP) != 0 {
        block_traps(true);
    }
}

const _: () = assert!(SIG_SETMASK == 2, "the only other request");
