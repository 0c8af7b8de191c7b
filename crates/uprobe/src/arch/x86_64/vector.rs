//! Which vector state there is to be saved.
#![allow(unsafe_code)]

use core::arch::x86_64::{__cpuid, __cpuid_count, _xgetbv};
use core::sync::atomic::{AtomicU32, AtomicUsize, Ordering};

/// x87, SSE, AVX, AVX-512 (three parts). Left out: what functions may not rely on across calls and kernels switch lazily (AMX tiles, 8 KiB), and protection keys.
const WANTED: u64 = 0b1110_0111;

/// The components that `xsave` saves in cold paths; 0: there is no xsave, use `fxsave`.
pub(crate) static MASK: AtomicU32 = AtomicU32::new(0);
/// Bytes to set aside for that, alignment not included.
pub(crate) static AREA_BYTES: AtomicUsize = AtomicUsize::new(512);

/// Asks the processor, once.
pub(crate) fn init() {
    const OSXSAVE: u32 = 1 << 27;
    // SAFETY: the instruction is there in every x86-64.
    #[allow(unused_unsafe, reason = "safe in newer compilers")]
    let features = unsafe { __cpuid(1) };
    if features.ecx & OSXSAVE == 0 {
        return;
    }
    let enabled = enabled();
    let mask = enabled & WANTED;
    // The standard format: each component at a fixed place.
    let mut end = 576;
    for component in (2..8).filter(|c| mask & 1 << c != 0) {
        // SAFETY: leaf 13 is there where xsave is.
        #[allow(unused_unsafe, reason = "safe in newer compilers")]
        let part = unsafe { __cpuid_count(13, component) };
        end = end.max(part.ebx as usize + part.eax as usize);
    }
    AREA_BYTES.store(end, Ordering::Relaxed);
    MASK.store(mask as u32, Ordering::Relaxed);
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
