//! The way back from a signal handler.
#![allow(unsafe_code)]

use core::arch::naked_asm;

/// The kernel insists on one here: there is none in its vDSO.
pub(crate) const FLAG: u64 = 0x0400_0000;

/// Where a handler returns to. `rt_sigreturn` puts back what the kernel has saved at the stack
/// pointer.
///
/// These are the bytes by which debuggers and unwinders recognise a signal frame that has no unwind
/// information (`mov $15, %rax; syscall`, in this encoding).
#[unsafe(naked)]
pub(crate) extern "C" fn restorer() -> ! {
    naked_asm!(".byte 0x48, 0xc7, 0xc0, 0x0f, 0x00, 0x00, 0x00", "syscall")
}
