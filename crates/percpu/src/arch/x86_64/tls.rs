//! A block of pointers in static thread-local storage (the initial-exec model).
//!
//! Rust's `thread_local!` in a shared object goes through `__tls_get_addr`, which may call malloc
//! at a thread's first access: fatal inside a malloc hook or a signal handler. A symbol reached
//! through `@GOTTPOFF` lies at a fixed distance from the thread pointer from the moment the thread
//! exists. The symbol is weak and hidden, so that two copies of this crate in one image share one
//! block.
#![allow(unsafe_code)]

use core::arch::{asm, global_asm};

global_asm!(
    ".pushsection .tbss.__trapline_percpu_tls_v0,\"awT\",@nobits",
    ".weak __trapline_percpu_tls_v0",
    ".hidden __trapline_percpu_tls_v0",
    ".type __trapline_percpu_tls_v0,@tls_object",
    ".size __trapline_percpu_tls_v0,64",
    ".balign 64",
    "__trapline_percpu_tls_v0:",
    ".zero 64",
    ".popsection",
);

/// Pointers in the block.
pub(crate) const SLOTS: usize = 8;

#[inline(always)]
pub(crate) fn get(slot: usize) -> *mut () {
    debug_assert!(slot < SLOTS);
    let value: *mut ();
    // SAFETY: the block has 8 pointers per thread, `slot` is below 8, and the load has no effect.
    unsafe {
        asm!(
            "mov {v}, qword ptr [rip + __trapline_percpu_tls_v0@GOTTPOFF]",
            "mov {v}, qword ptr fs:[{v} + {s}*8]",
            v = out(reg) value,
            s = in(reg) slot,
            options(nostack, preserves_flags, readonly),
        );
    }
    value
}

#[inline(always)]
pub(crate) fn set(slot: usize, value: *mut ()) {
    debug_assert!(slot < SLOTS);
    // SAFETY: the block has 8 pointers per thread, `slot` is below 8, and only this thread and its
    // signal handlers access them.
    unsafe {
        asm!(
            "mov {t}, qword ptr [rip + __trapline_percpu_tls_v0@GOTTPOFF]",
            "mov qword ptr fs:[{t} + {s}*8], {v}",
            t = out(reg) _,
            v = in(reg) value,
            s = in(reg) slot,
            options(nostack, preserves_flags),
        );
    }
}
