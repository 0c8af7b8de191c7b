//! Which vector state there is to be saved.
#![allow(unsafe_code)]

use core::arch::x86_64::{__cpuid, _xgetbv};
use core::sync::atomic::{AtomicU32, Ordering};

/// AVX and AVX-512 (three parts). Left out: AMX tiles, which no code here touches.
const WANTED: u64 = 0b1110_0100;

/// Which of the wanted state the operating system has enabled; 0: there is SSE only.
pub(crate) static MASK: AtomicU32 = AtomicU32::new(0);
/// Asks the processor, once.
pub(crate) fn init() {
    const OSXSAVE: u32 = 1 << 27;
    // SAFETY: the instruction is there in every x86-64.
    #[allow(unused_unsafe, reason = "safe in newer compilers")]
    let features = unsafe { __cpuid(1) };
    if features.ecx & OSXSAVE == 0 {
        return;
    }
    MASK.store((enabled() & WANTED) as u32, Ordering::Relaxed);
}

fn enabled() -> u64 {
    #[target_feature(enable = "xsave")]
    fn read() -> u64 {
        // SAFETY: register 0 is there where xgetbv is.
        unsafe { _xgetbv(0) }
    }
    // SAFETY: the caller has seen that the operating system has enabled xsave.
    unsafe { read() }
}
