//! The thread's restartable-sequence area: glibc's, or one of our own.
//!
//! States of the process, decided once: UNKNOWN -> OFF | LIBC | OWN. In LIBC and OWN the area of every thread lies at the same distance from its thread pointer, `OFFSET`.
//! The own area starts with `cpu_id` = -1, as an unregistered one has it, so that a sequence on it is refused until the kernel fills it in.
#![allow(unsafe_code)]

use crate::sys::membarrier;
use crate::tls;
use core::arch::{asm, global_asm};
use core::ffi::c_long;
use core::sync::atomic::{AtomicIsize, AtomicU8, Ordering};

/// The four bytes before each abort handler on x86-64, which the kernel compares with those of the registration.
pub(crate) const SIGNATURE: u32 = 0x5305_3053;

/// Offsets in `struct rseq` (Linux `include/uapi/linux/rseq.h`).
pub(crate) const CPU_ID: usize = 4;
pub(crate) const RSEQ_CS: usize = 8;
const MM_CID: usize = 24;
/// What the own area has: the size that every kernel with rseq accepts.
const OWN_SIZE: u32 = 32;

const UNREGISTERED: u32 = u32::MAX;
const FLAG_UNREGISTER: i32 = 1;
/// Auxiliary vector entry: how many bytes of the area this kernel fills in (Linux 6.3).
const AT_RSEQ_FEATURE_SIZE: u64 = 27;

// The own area, and weak references to what glibc says of its own (0 where there is none).
global_asm!(
    ".weak __rseq_offset",
    ".weak __rseq_size",
    ".pushsection .tdata.__trapline_percpu_rseq_v0,\"awT\",@progbits",
    ".weak __trapline_percpu_rseq_v0",
    ".hidden __trapline_percpu_rseq_v0",
    ".type __trapline_percpu_rseq_v0,@tls_object",
    ".size __trapline_percpu_rseq_v0,32",
    ".balign 32",
    "__trapline_percpu_rseq_v0:",
    ".long 0, -1",
    ".zero 24",
    ".popsection",
);

const UNKNOWN: u8 = 0;
const OFF: u8 = 1;
const LIBC: u8 = 2;
const OWN: u8 = 3;

/// Written by [`detect`]; all racing writers write the same values, `OFFSET` last.
static STATE: AtomicU8 = AtomicU8::new(UNKNOWN);
/// Whether the kernel fills in `mm_cid`.
static HAS_MM_CID: AtomicU8 = AtomicU8::new(0);
/// 0 until detected: no area lies at the thread pointer itself, which is the ABI's own word.
static OFFSET: AtomicIsize = AtomicIsize::new(0);

#[inline]
pub(crate) fn available() -> bool {
    matches!(state(), LIBC | OWN)
}

#[inline]
fn state() -> u8 {
    offset();
    STATE.load(Ordering::Relaxed)
}

/// Distance of the area from the thread pointer. Where no sequences are available it is the own area's, whose `cpu_id` stays -1.
#[inline(always)]
pub(crate) fn offset() -> isize {
    // Acquire pairs with the Release in `detect`: the other two are there.
    match OFFSET.load(Ordering::Acquire) {
        0 => detect(),
        offset => offset,
    }
}

#[cold]
#[inline(never)]
fn detect() -> isize {
    let (state, offset) = match libc_offset() {
        _ if !membarrier::register_rseq() => (OFF, own_offset()),
        Some(offset) if read_u32(offset, CPU_ID).cast_signed() >= 0 => (LIBC, offset),
        _ if register(own_offset()) => (OWN, own_offset()),
        _ => (OFF, own_offset()),
    };
    // SAFETY: getauxval takes a number and touches no memory of the caller.
    let features = unsafe { libc::getauxval(AT_RSEQ_FEATURE_SIZE) };
    HAS_MM_CID.store(u8::from(features as usize >= MM_CID + 4), Ordering::Relaxed);
    STATE.store(state, Ordering::Relaxed);
    // Release pairs with the Acquire in `offset`.
    OFFSET.store(offset, Ordering::Release);
    if state == OWN {
        forget_at_exit();
    }
    offset
}

#[inline]
pub(crate) fn cpu_id() -> Option<u32> {
    let id = read_u32(offset(), CPU_ID);
    // -1 and -2 say "not registered".
    (id.cast_signed() >= 0).then_some(id)
}

#[inline]
pub(crate) fn mm_cid() -> Option<u32> {
    let offset = offset();
    let registered = read_u32(offset, CPU_ID).cast_signed() >= 0;
    (registered && HAS_MM_CID.load(Ordering::Relaxed) != 0).then(|| read_u32(offset, MM_CID))
}

pub(crate) fn fence() {
    if available() {
        membarrier::rseq();
    }
}

/// See [`crate::rseq::register_thread`].
#[cold]
pub(crate) fn register_thread() -> bool {
    match state() {
        LIBC => cpu_id().is_some(),
        OWN => {
            if cpu_id().is_some() {
                return true;
            }
            let registered = register(own_offset());
            if registered {
                forget_at_exit();
            }
            registered
        }
        _ => false,
    }
}

/// See [`crate::rseq::check_thread`].
#[cold]
pub(crate) fn check_thread() {
    if state() != LIBC || cpu_id().is_none() {
        return;
    }
    // The kernel refuses to unregister with a wrong signature, but only what is registered. It compares the size first, which newer C libraries take from the kernel.
    // SAFETY: getauxval takes a number and touches no memory of the caller.
    let features = unsafe { libc::getauxval(AT_RSEQ_FEATURE_SIZE) } as u32;
    let refused = |size: u32| raw_unregister(offset(), size, !SIGNATURE) == -(libc::EPERM as isize);
    if !refused(OWN_SIZE) && !refused(features.next_multiple_of(OWN_SIZE)) {
        write_u32(offset(), CPU_ID, UNREGISTERED);
    }
}

/// By itself, for it is called in the middle of programs, whose `errno` is theirs.
fn raw_unregister(offset: isize, size: u32, signature: u32) -> isize {
    let area = thread_pointer().wrapping_offset(offset);
    let result;
    // SAFETY: with a wrong signature the kernel changes nothing; it clobbers rax, rcx and r11.
    unsafe {
        asm!("syscall", inlateout("rax") libc::SYS_rseq as isize => result, in("rdi") area, in("rsi") size as usize, in("rdx") FLAG_UNREGISTER as usize,
             in("r10") signature as usize, lateout("rcx") _, lateout("r11") _, options(nostack));
    }
    result
}

/// The own area must not be registered when the C library frees or reuses the thread's memory.
fn forget_at_exit() {
    tls::on_thread_exit(unregister_thread);
    tls::arm_exit();
}

extern "C" fn unregister_thread() {
    if STATE.load(Ordering::Relaxed) == OWN && rseq_call(own_offset(), FLAG_UNREGISTER) {
        write_u32(own_offset(), CPU_ID, UNREGISTERED);
    }
}

/// True: this thread's area at `offset` is registered now (EBUSY: it was already).
fn register(offset: isize) -> bool {
    if rseq_call(offset, 0) {
        return true;
    }
    // SAFETY: takes nothing and returns where this thread's errno lies.
    let errno = unsafe { libc::__errno_location() };
    // SAFETY: as said.
    let errno = unsafe { *errno };
    errno == libc::EBUSY && read_u32(offset, CPU_ID).cast_signed() >= 0
}

fn rseq_call(offset: isize, flags: i32) -> bool {
    let area = thread_pointer().wrapping_offset(offset);
    // SAFETY: `area` is this thread's own area: 32 bytes, aligned to 32, in static thread-local storage, unregistered before the thread's memory is given back.
    let r: c_long = unsafe { libc::syscall(libc::SYS_rseq, area, OWN_SIZE, flags, SIGNATURE) };
    r == 0
}

fn thread_pointer() -> *mut u8 {
    let p: *mut u8;
    // SAFETY: the x86-64 ABI keeps the thread pointer at fs:0.
    unsafe { asm!("mov {}, qword ptr fs:[0]", out(reg) p, options(nostack, preserves_flags, readonly)) };
    p
}

#[inline(always)]
fn read_u32(offset: isize, field: usize) -> u32 {
    let value: u32;
    // SAFETY: an area of at least 32 bytes lies at `offset` from the thread pointer. The kernel changes it behind the compiler's back, hence not `pure`.
    unsafe {
        asm!("mov {v:e}, dword ptr fs:[{o} + {f}]", v = out(reg) value, o = in(reg) offset, f = in(reg) field,
             options(nostack, preserves_flags, readonly));
    }
    value
}

fn write_u32(offset: isize, field: usize, value: u32) {
    // SAFETY: an area of at least 32 bytes lies at `offset` from the thread pointer, and it is this thread's.
    unsafe {
        asm!("mov dword ptr fs:[{o} + {f}], {v:e}", v = in(reg) value, o = in(reg) offset, f = in(reg) field, options(nostack, preserves_flags));
    }
}

fn own_offset() -> isize {
    let offset: isize;
    // SAFETY: reads a constant that the linker computed.
    unsafe {
        asm!("mov {}, qword ptr [rip + __trapline_percpu_rseq_v0@GOTTPOFF]", out(reg) offset, options(nostack, preserves_flags, readonly));
    }
    offset
}

/// Where glibc says its area is; `None` where it registers none.
fn libc_offset() -> Option<isize> {
    let (offset, size): (*const isize, *const u32);
    // SAFETY: reads two addresses from the global offset table; a weak symbol that nobody defines is null.
    unsafe {
        asm!(
            "mov {o}, qword ptr [rip + __rseq_offset@GOTPCREL]",
            "mov {s}, qword ptr [rip + __rseq_size@GOTPCREL]",
            o = out(reg) offset,
            s = out(reg) size,
            options(nostack, preserves_flags, readonly),
        );
    }
    // SAFETY: null or glibc's `extern const unsigned int __rseq_size`.
    let size = unsafe { size.as_ref() }?;
    // SAFETY: null or glibc's `extern const ptrdiff_t __rseq_offset`.
    let offset = unsafe { offset.as_ref() }?;
    (*size != 0).then_some(*offset)
}

#[cfg(all(test, feature = "std", not(loom)))]
mod tests {
    use super::{CPU_ID, LIBC, OWN_SIZE, SIGNATURE, check_thread, cpu_id, offset, raw_unregister, state, write_u32};

    #[test]
    fn an_area_that_only_looks_registered_is_found_out() {
        let alone = std::thread::spawn(|| {
            let before = cpu_id();
            check_thread();
            assert_eq!(cpu_id().is_some(), before.is_some(), "what is registered stays");
            if state() != LIBC || raw_unregister(offset(), OWN_SIZE, SIGNATURE) != 0 {
                return;
            }
            // As it is in a thread whose C library has not come to it yet.
            write_u32(offset(), CPU_ID, 0);
            assert_eq!(cpu_id(), Some(0));
            check_thread();
            assert_eq!(cpu_id(), None);
        });
        alone.join().expect("no panic");
    }
}
