//! A word beside the thread pointer.
#![allow(unsafe_code)]

use core::arch::asm;

/// What the word at this distance from the thread pointer holds.
#[inline(always)]
pub(crate) fn beside(offset: isize) -> *const () {
    let value;
    // SAFETY: the word can be read in every thread (the promise to `host::supply`).
    unsafe {
        asm!(
            "mov {v}, qword ptr fs:[{o}]",
            v = out(reg) value,
            o = in(reg) offset,
            options(nostack, preserves_flags, readonly),
        );
    }
    value
}
