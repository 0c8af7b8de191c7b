//! What glibc keeps of a thread, as far as it is needed where the kernel cannot be asked: the
//! number of a thread. Its layout is glibc's own business, so the caller's is compared first.
#![allow(unsafe_code)]

use core::arch::asm;
use std::sync::atomic::{AtomicBool, Ordering};

/// Where a control block has the number of its thread (2.x, x86-64).
const NUMBER: u64 = 720;

/// It is there.
static AGREES: AtomicBool = AtomicBool::new(false);

/// The calling thread's: the first word of the block is its own address, by the x86-64 TLS ABI.
pub(crate) fn own() -> u64 {
    let own: u64;
    // SAFETY: a load from where the ABI has that address.
    unsafe {
        asm!("mov {}, qword ptr fs:0", out(reg) own, options(nostack, preserves_flags, readonly));
    }
    own
}

/// The number in a thread's block, if it is there; 0: the thread has ended.
///
/// # Safety
/// A control block of the C library, which reads the same word.
pub(crate) unsafe fn number(block: u64) -> u32 {
    let place = core::ptr::with_exposed_provenance::<u32>((block + NUMBER) as usize);
    // SAFETY: within the block; another thread may clear it at its end.
    unsafe { place.read_volatile() }
}

/// The calling thread has this number: whether its block says so.
pub(crate) fn compare(truth: u32) -> bool {
    // SAFETY: the caller's own block.
    let agrees = unsafe { number(own()) } == truth;
    AGREES.store(agrees, Ordering::Relaxed);
    agrees
}

/// The calling thread's number, without a system call; in a fork child, too. `None`: nobody knows
/// where it is.
pub(crate) fn own_number() -> Option<u32> {
    // SAFETY: the caller's own block.
    AGREES.load(Ordering::Relaxed).then(|| unsafe { number(own()) })
}
