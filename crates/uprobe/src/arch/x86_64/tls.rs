//! The engine's words of each thread, where stubs can reach them.
//!
//! | word | |
//! |---|---|
//! | `STATE` | the [`State`](crate::thread_state::State) that hits of the thread use; 0: none yet, or a consumer is running |
//! | `OWN` | the thread's first state, also while a consumer runs; 0: none yet, or none any more |
//! | `BUSY` | why there is none: [`crate::thread_state::Busy`] |
//! | `TRAPS` | what the thread believes of SIGTRAP: [`crate::signals`] |
//! | `SIGNAL_STACK`, `SIGNAL_STACK_END` | the thread's signal stack, as of the last signal that was handled: [`crate::signals`]; 0, 0: none |
//!
//! Written by the thread and its signal handlers only.
//!
//! Where they are has two bodies: thread-local storage of the object that the engine is linked into
//! (`storage`), or memory whose address is in a word beside the thread pointer (`beside`), in an
//! image that is put into any process. Assembly is written once, with the macros that each of them
//! has:
//!
//! | | |
//! |---|---|
//! | `load_state!(register, else)` | `STATE` to a register; where there is none to the label |
//! | `load_place!(register)` | the register, by which `state!` is found in a thread that has had a state |
//! | `state!(register)` | `STATE`, as an operand; only where there are return instances |
#![allow(unsafe_code)]

#[cfg(not(feature = "std"))]
mod beside;
#[cfg(feature = "std")]
mod storage;

#[cfg(not(feature = "std"))]
use beside as place;
#[cfg(feature = "std")]
use storage as place;

use core::arch::asm;

#[cfg(not(feature = "std"))]
pub(crate) use beside::low_half;
#[cfg(feature = "std")]
pub(crate) use place::state;
pub(crate) use place::{get, load_place, load_state, prepare, set, stub_load};

/// See the module.
pub(crate) const STATE: usize = place::FIRST;
/// See the module.
pub(crate) const OWN: usize = place::FIRST + 8;
/// See the module.
pub(crate) const BUSY: usize = place::FIRST + 16;
/// See the module.
pub(crate) const TRAPS: usize = place::FIRST + 24;
/// See the module.
pub(crate) const SIGNAL_STACK: usize = place::FIRST + 32;
/// See the module.
pub(crate) const SIGNAL_STACK_END: usize = place::FIRST + 40;

/// Address of the thread's control block, which glibc puts above the stack that it made for the
/// thread.
pub(crate) fn control_block() -> u64 {
    let at;
    // SAFETY: the first word of the control block is its own address, by the x86-64 TLS ABI.
    unsafe {
        asm!("mov {}, qword ptr fs:0", out(reg) at, options(nostack, preserves_flags, readonly))
    };
    at
}

/// Makes another thread's hits take the slow path, and forgets why it has no state, if it is for
/// this reason.
#[cfg(not(feature = "std"))]
pub(crate) fn forget_state(words: &percpu::host::Words, reason: usize) {
    use core::sync::atomic::Ordering::Relaxed;
    // The thread sees it at its next hit, or at one soon after.
    words.more[beside::index(STATE)].store(0, Relaxed);
    let busy = &words.more[beside::index(BUSY)];
    let _ = busy.compare_exchange(reason, 0, Relaxed, Relaxed);
}
