//! Signal masks as the program sees them. SIGTRAP is never blocked in the kernel, for a breakpoint
//! would kill then; the thread remembers that the program believes so, and a SIGTRAP that somebody
//! sends meanwhile waits until it is unblocked.
//!
//! The word is the thread's own, written by it and its handlers.

use crate::arch::x86_64::tls::{self, TRAPS};
use crate::kernel::{self, Mask, bit};
use sys::signal::SIGTRAP;

/// The program has blocked SIGTRAP.
const BLOCKED: usize = 1;
/// One came.
const PENDING: usize = 2;
/// Signals for glibc's own use: it does not let the program block them.
pub(super) const INTERNAL: Mask = bit(32) | bit(33);

/// Whether the program believes that SIGTRAP is blocked in this thread.
pub(super) fn blocks_traps() -> bool {
    tls::get::<TRAPS>() & BLOCKED != 0
}

/// A SIGTRAP was sent to a thread that has blocked it.
pub(super) fn keep_trap() {
    tls::set::<TRAPS>(tls::get::<TRAPS>() | PENDING);
}

/// The program blocks SIGTRAP, or does not any more. `install` sees to it that whoever sends one
/// finds our handler, which keeps it.
pub(super) fn block_traps(block: bool, install: fn()) {
    let word = tls::get::<TRAPS>();
    if block {
        install();
        tls::set::<TRAPS>(word | BLOCKED);
    } else {
        tls::set::<TRAPS>(0);
        if word & PENDING != 0 {
            kernel::signal_thread(kernel::thread_id(), SIGTRAP);
        }
    }
}

/// Whether a SIGTRAP was kept, which is not any more: for who sends it again himself.
pub(super) fn take_kept() -> bool {
    let word = tls::get::<TRAPS>();
    tls::set::<TRAPS>(word & !PENDING);
    word & PENDING != 0
}

/// For a handler: the mask that it was told of, with what the program believes.
pub(super) fn show(frame: &mut Mask) {
    if blocks_traps() {
        *frame |= bit(SIGTRAP);
    }
}

/// The handler is done: what it has left there is what the program believes now. `install` as for
/// [`block_traps`].
pub(super) fn take_back(frame: &mut Mask, install: fn()) {
    let block = *frame & bit(SIGTRAP) != 0;
    if block != blocks_traps() {
        block_traps(block, install);
    }
    *frame &= !bit(SIGTRAP);
}

/// Whether a SIGTRAP waits until the program unblocks it.
pub(super) fn keeps_trap() -> bool {
    tls::get::<TRAPS>() & PENDING != 0
}

/// `sigpending(2)` for the program.
///
/// # Context
/// Signal-safe.
pub fn pending() -> u64 {
    let kept = if keeps_trap() { bit(SIGTRAP) } else { 0 };
    kernel::pending_signals() | kept
}
