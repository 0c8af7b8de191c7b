//! A word beside the thread pointer.
#![allow(unsafe_code)]

use core::arch::asm;

/// What the word at this distance from the thread pointer holds.
#[inline(always)]
pub(crate) fn read(offset: isize) -> u32 {
    let value;
    // SAFETY: the word can be read in every thread (the promise to `host::supply`).
    unsafe {
        asm!(
            "mov {v:e}, dword ptr fs:[{o}]",
            v = out(reg) value,
            o = in(reg) offset,
            options(nostack, preserves_flags, readonly),
        );
    }
    value
}

/// Writes it.
pub(crate) fn write(offset: isize, value: u32) {
    // SAFETY: the word is the image's own in every thread (the promise to `host::supply`).
    unsafe {
        asm!(
            "mov dword ptr fs:[{o}], {v:e}",
            v = in(reg) value,
            o = in(reg) offset,
            options(nostack, preserves_flags),
        );
    }
}

/// Address of the thread's control block: its first word, by the x86-64 TLS ABI.
pub(crate) fn control_block() -> Option<usize> {
    let at;
    // SAFETY: as above.
    unsafe {
        asm!("mov {}, qword ptr fs:[0]", out(reg) at, options(nostack, preserves_flags, readonly));
    }
    Some(at)
}
