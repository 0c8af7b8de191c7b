//! `struct rseq` and `rseq(2)`, of the calling thread (Linux `include/uapi/linux/rseq.h`). An area
//! is named by its distance from the thread pointer.
#![allow(unsafe_code)]

use core::arch::asm;
use sys::{Errno, thread};

/// The four bytes before each abort handler on x86-64, which the kernel compares with those of the
/// registration.
pub(crate) const SIGNATURE: u32 = 0x5305_3053;

/// Offsets in the structure.
pub(crate) const CPU_ID: usize = 4;
pub(crate) const RSEQ_CS: usize = 8;
pub(super) const MM_CID: usize = 24;
/// The size that every kernel with rseq accepts.
pub(super) const SIZE: u32 = 32;

/// `cpu_id` of an area that is not registered.
pub(super) const UNREGISTERED: u32 = u32::MAX;
const FLAG_UNREGISTER: i32 = 1;

/// Where the thread runs, if the area is registered.
#[inline(always)]
pub(super) fn cpu_id(offset: isize) -> Option<u32> {
    let id = read_u32(offset, CPU_ID);
    // -1 and -2 say "not registered".
    (id.cast_signed() >= 0).then_some(id)
}

/// # Safety
/// The area is this thread's own: 32 bytes, aligned to 32, unregistered before the thread's memory
/// is given back.
#[cfg(feature = "std")]
pub(super) unsafe fn register(offset: isize) -> Result<(), Errno> {
    // SAFETY: the caller's promise.
    unsafe { thread::rseq(area(offset), SIZE, 0, SIGNATURE) }
}

/// With the wrong signature the kernel changes nothing, but says `EPERM` of what is registered.
///
/// # Safety
/// The area is this thread's, and nobody relies on its being registered with this signature.
pub(super) unsafe fn unregister(offset: isize, size: u32, signature: u32) -> Result<(), Errno> {
    // SAFETY: the caller's promise.
    unsafe { thread::rseq(area(offset), size, FLAG_UNREGISTER, signature) }
}

fn area(offset: isize) -> *mut u8 {
    thread_pointer().wrapping_offset(offset)
}

fn thread_pointer() -> *mut u8 {
    let p: *mut u8;
    // SAFETY: the x86-64 ABI keeps the thread pointer at fs:0.
    unsafe {
        asm!("mov {}, qword ptr fs:[0]", out(reg) p, options(nostack, preserves_flags, readonly))
    };
    p
}

#[inline(always)]
pub(super) fn read_u32(offset: isize, field: usize) -> u32 {
    let value: u32;
    // SAFETY: an area of at least 32 bytes lies at `offset` from the thread pointer. The kernel
    // changes it behind the compiler's back, hence not `pure`.
    unsafe {
        asm!(
            "mov {v:e}, dword ptr fs:[{o} + {f}]",
            v = out(reg) value,
            o = in(reg) offset,
            f = in(reg) field,
            options(nostack, preserves_flags, readonly),
        );
    }
    value
}

pub(super) fn write_u32(offset: isize, field: usize, value: u32) {
    // SAFETY: an area of at least 32 bytes lies at `offset` from the thread pointer, and it is this
    // thread's.
    unsafe {
        asm!(
            "mov dword ptr fs:[{o} + {f}], {v:e}",
            v = in(reg) value,
            o = in(reg) offset,
            f = in(reg) field,
            options(nostack, preserves_flags),
        );
    }
}
