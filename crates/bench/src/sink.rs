//! Using a value without storing it.
#![allow(unsafe_code)]

/// Pretends to use `value`, and to touch all memory, as [`std::hint::black_box`] does; but takes
/// the value in a register, where `black_box` stores it first. Beside sections of two or three
/// cycles that store would be a third of what is measured.
#[inline(always)]
pub fn sink(value: u64) {
    #[cfg(any(target_arch = "x86_64", target_arch = "aarch64"))]
    // SAFETY: no instruction at all.
    unsafe {
        core::arch::asm!("/* {0} */", in(reg) value, options(nostack, preserves_flags));
    }
    #[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
    std::hint::black_box(value);
}
