//! `svc #0`. It takes the number in x8, arguments in x0 to x5, and answers in x0; all other
//! registers stay (Linux `arch/arm64/kernel/entry.S`).
#![allow(unsafe_code)]

use core::arch::asm;

/// # Safety
/// The system call with these arguments does nothing that the caller may not do.
#[inline(always)]
pub(crate) unsafe fn call(number: usize, arguments: [usize; 6]) -> usize {
    let result;
    // SAFETY: the caller's promise; the instruction changes no other register than those named.
    unsafe {
        asm!(
            "svc #0",
            in("x8") number,
            inlateout("x0") arguments[0] => result,
            in("x1") arguments[1],
            in("x2") arguments[2],
            in("x3") arguments[3],
            in("x4") arguments[4],
            in("x5") arguments[5],
            options(nostack),
        );
    }
    result
}
