//! The `syscall` instruction. It takes the number in rax, arguments in rdi, rsi, rdx, r10, r8 and
//! r9, answers in rax, and clobbers rcx and r11 (System V ABI for x86-64, A.2.1).
#![allow(unsafe_code)]

use core::arch::asm;

/// # Safety
/// The system call with these arguments does nothing that the caller may not do.
#[inline(always)]
pub(crate) unsafe fn call(number: usize, arguments: [usize; 6]) -> usize {
    let result;
    // SAFETY: the caller's promise; the instruction changes no other register than those named,
    // and the kernel does not use the red zone.
    unsafe {
        asm!(
            "syscall",
            inlateout("rax") number => result,
            in("rdi") arguments[0],
            in("rsi") arguments[1],
            in("rdx") arguments[2],
            in("r10") arguments[3],
            in("r8") arguments[4],
            in("r9") arguments[5],
            lateout("rcx") _,
            lateout("r11") _,
            options(nostack),
        );
    }
    result
}
