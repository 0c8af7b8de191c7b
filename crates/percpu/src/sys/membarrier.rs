//! `membarrier(2)`.
#![allow(unsafe_code)]

use core::ffi::{c_int, c_long};

const CMD_PRIVATE_EXPEDITED: c_int = 1 << 3;
const CMD_REGISTER_PRIVATE_EXPEDITED: c_int = 1 << 4;
const CMD_PRIVATE_EXPEDITED_RSEQ: c_int = 1 << 7;
const CMD_REGISTER_PRIVATE_EXPEDITED_RSEQ: c_int = 1 << 8;

fn call(cmd: c_int) -> bool {
    // SAFETY: membarrier takes three integers and touches no memory of the caller.
    let r: c_long = unsafe { libc::syscall(libc::SYS_membarrier, cmd, 0, 0) };
    r == 0
}

/// Announces that this process will use `PRIVATE_EXPEDITED`. False where the kernel or a filter refuses it.
pub(crate) fn register_private_expedited() -> bool {
    call(CMD_REGISTER_PRIVATE_EXPEDITED)
}

/// A full barrier on every CPU that runs a thread of this process.
///
/// The process is registered (see above) and the registration is inherited over fork, so the kernel itself cannot refuse.
pub(crate) fn private_expedited() {
    if !call(CMD_PRIVATE_EXPEDITED) {
        refused();
    }
}

/// Announces that this process will use `PRIVATE_EXPEDITED_RSEQ` (Linux 5.10).
pub(crate) fn register_rseq() -> bool {
    call(CMD_REGISTER_PRIVATE_EXPEDITED_RSEQ)
}

/// Aborts every restartable sequence in progress in this process, and is a full barrier as above.
pub(crate) fn rseq() {
    if !call(CMD_PRIVATE_EXPEDITED_RSEQ) {
        refused();
    }
}

/// A seccomp filter installed after registration took the call away. Readers already run without their half of the barrier, so there is no
/// correct way on: stop with a reason instead of corrupting memory.
#[cold]
#[inline(never)]
fn refused() -> ! {
    const TEXT: &[u8] = b"percpu: membarrier(2) was allowed at start and is refused now (a seccomp filter?); cannot continue safely\n";
    // SAFETY: TEXT is valid for TEXT.len() bytes; write keeps no pointer.
    unsafe { libc::write(2, TEXT.as_ptr().cast(), TEXT.len()) };
    // SAFETY: abort has no precondition and does not return.
    unsafe { libc::abort() }
}
