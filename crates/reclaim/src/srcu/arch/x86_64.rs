//! One instruction: a signal comes before or after it.
#![allow(unsafe_code)]

use core::arch::asm;
use percpu::sync::atomic::AtomicU64;

/// Adds one with Release order (as every store on x86-64; the assembly is a compiler fence). The
/// calling thread is the word's only writer.
#[inline(always)]
pub(crate) fn add_one(word: &AtomicU64) {
    // SAFETY: the word is writable memory of an atomic; other threads only load it, and an aligned
    // store of 8 bytes is atomic.
    unsafe { asm!("add qword ptr [{w}], 1", w = in(reg) word.as_ptr(), options(nostack)) };
}
