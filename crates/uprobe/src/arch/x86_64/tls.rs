//! The engine's thread-local words, at a constant distance from fs:0 (the initial-exec model, as in
//! `percpu`), so that stubs can use them.
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
#![allow(unsafe_code)]

use core::arch::{asm, global_asm};

global_asm!(
    ".pushsection .tbss.__trapline_uprobe_tls_v0,\"awT\",@nobits",
    ".globl __trapline_uprobe_tls_v0",
    ".hidden __trapline_uprobe_tls_v0",
    ".type __trapline_uprobe_tls_v0,@tls_object",
    ".size __trapline_uprobe_tls_v0,64",
    ".balign 64",
    "__trapline_uprobe_tls_v0:",
    ".zero 64",
    ".popsection",
);

/// See the module.
pub(crate) const STATE: usize = 0;
/// See the module.
pub(crate) const OWN: usize = 8;
/// See the module.
pub(crate) const BUSY: usize = 16;
/// See the module.
pub(crate) const TRAPS: usize = 24;
/// See the module.
pub(crate) const SIGNAL_STACK: usize = 32;
/// See the module.
pub(crate) const SIGNAL_STACK_END: usize = 40;

/// Distance of the words from fs:0.
#[inline]
pub(crate) fn distance() -> i64 {
    let distance: i64;
    // SAFETY: a load from the global offset table (or a constant, if the linker knows it).
    unsafe {
        asm!(
            "mov {}, qword ptr [rip + __trapline_uprobe_tls_v0@GOTTPOFF]",
            out(reg) distance,
            options(nostack, preserves_flags, readonly),
        );
    }
    distance
}

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

/// Reads a word.
#[inline(always)]
pub(crate) fn get<const WORD: usize>() -> usize {
    const { assert!(WORD <= SIGNAL_STACK_END) };
    let value: usize;
    // SAFETY: a load of one of the thread's own words.
    unsafe {
        asm!(
            "mov {v}, qword ptr [rip + __trapline_uprobe_tls_v0@GOTTPOFF]",
            "mov {v}, qword ptr fs:[{v} + {w}]",
            v = out(reg) value,
            w = const WORD,
            options(nostack, preserves_flags, readonly),
        );
    }
    value
}

/// Writes a word.
#[inline(always)]
pub(crate) fn set<const WORD: usize>(value: usize) {
    const { assert!(WORD <= SIGNAL_STACK_END) };
    // SAFETY: a store to one of the thread's own words. Memory is not declared untouched: signal
    // handlers read what was written before.
    unsafe {
        asm!(
            "mov {t}, qword ptr [rip + __trapline_uprobe_tls_v0@GOTTPOFF]",
            "mov qword ptr fs:[{t} + {w}], {v}",
            t = out(reg) _,
            v = in(reg) value,
            w = const WORD,
            options(nostack, preserves_flags),
        );
    }
}
