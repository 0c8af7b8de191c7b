//! A word beside the thread pointer.
#![allow(unsafe_code)]

use core::arch::asm;
use sys::raw::syscall2;

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

/// The thread pointer itself, by a system call: not every kernel lets programs read it.
pub(crate) fn thread_pointer() -> Option<usize> {
    const ARCH_PRCTL: usize = 158;
    const ARCH_GET_FS: usize = 0x1003;
    let mut pointer = 0_usize;
    let place = (&raw mut pointer).expose_provenance();
    // SAFETY: a place for the answer, which lives through the call.
    unsafe { syscall2(ARCH_PRCTL, ARCH_GET_FS, place) }.ok()?;
    Some(pointer)
}
