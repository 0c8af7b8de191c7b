//! With a C library: glibc's area, or our own in thread-local storage. The own area starts with
//! `cpu_id` = -1, as an unregistered one has it, so that a sequence on it is refused until the
//! kernel fills it in.
#![allow(unsafe_code)]

use super::state::State;
use crate::arch::x86_64::rseq_abi::{self, CPU_ID, SIGNATURE, SIZE, UNREGISTERED};
use crate::kernel::membarrier;
use crate::tls;
use core::arch::{asm, global_asm};
use sys::Errno;

/// There always is one, registered or not.
pub(super) const MAY_BE_MISSING: bool = false;

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

/// Whose area it is here, and where. The own one's of this thread is registered if it is that.
pub(super) fn find() -> (State, isize) {
    match libc_offset() {
        _ if !membarrier::register_rseq() => (State::Off, own_offset()),
        Some(offset) if rseq_abi::cpu_id(offset).is_some() => (State::Library, offset),
        _ if register_own() => (State::Own, own_offset()),
        _ => (State::Off, own_offset()),
    }
}

/// How many bytes of an area this kernel fills in; 0 from before it said so.
pub(super) fn features() -> u32 {
    // SAFETY: getauxval takes a number and touches no memory of the caller.
    unsafe { libc::getauxval(AT_RSEQ_FEATURE_SIZE) as u32 }
}

/// True: this thread's own area is registered now (EBUSY: it was already).
pub(super) fn register_own() -> bool {
    let offset = own_offset();
    // SAFETY: 32 bytes, aligned to 32, in static thread-local storage; `forget_at_exit`.
    match unsafe { rseq_abi::register(offset) } {
        Ok(()) => true,
        Err(error) => error == Errno::EBUSY && rseq_abi::cpu_id(offset).is_some(),
    }
}

/// The own area must not be registered when the C library frees or reuses the thread's memory. If
/// nobody will see to that, it is unregistered at once.
pub(super) fn forget_at_exit() {
    if !(tls::on_thread_exit(unregister_thread) && tls::arm_exit()) {
        unregister_thread();
    }
}

extern "C" fn unregister_thread() {
    let offset = own_offset();
    // SAFETY: this thread's, which uses no sequence any more, or asks before it does.
    if unsafe { rseq_abi::unregister(offset, SIZE, SIGNATURE) }.is_ok() {
        rseq_abi::write_u32(offset, CPU_ID, UNREGISTERED);
    }
}

fn own_offset() -> isize {
    let offset: isize;
    // SAFETY: reads a constant that the linker computed.
    unsafe {
        asm!(
            "mov {}, qword ptr [rip + __trapline_percpu_rseq_v0@GOTTPOFF]",
            out(reg) offset,
            options(nostack, preserves_flags, readonly),
        );
    }
    offset
}

/// Where glibc says its area is; `None` where it registers none.
fn libc_offset() -> Option<isize> {
    let (offset, size): (*const isize, *const u32);
    // SAFETY: reads two addresses from the global offset table; a weak symbol that nobody defines
    // is null.
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
