//! `membarrier(2)`.

use sys::{file, process, thread};

const CMD_PRIVATE_EXPEDITED: i32 = 1 << 3;
const CMD_REGISTER_PRIVATE_EXPEDITED: i32 = 1 << 4;
const CMD_PRIVATE_EXPEDITED_RSEQ: i32 = 1 << 7;
const CMD_REGISTER_PRIVATE_EXPEDITED_RSEQ: i32 = 1 << 8;

fn call(cmd: i32) -> bool {
    thread::membarrier(cmd, 0).is_ok()
}

/// Announces that this process will use `PRIVATE_EXPEDITED`. False where the kernel or a filter
/// refuses it.
pub(crate) fn register_private_expedited() -> bool {
    call(CMD_REGISTER_PRIVATE_EXPEDITED)
}

/// A full barrier on every CPU that runs a thread of this process.
///
/// The process is registered (see above) and the registration is inherited over fork, so the kernel
/// itself cannot refuse.
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

/// A seccomp filter installed after registration took the call away. Readers already run without
/// their half of the barrier, so there is no correct way on: stop with a reason instead of
/// corrupting memory.
#[cold]
#[inline(never)]
fn refused() -> ! {
    const TEXT: &[u8] = b"percpu: membarrier(2) was allowed at start and is refused now (a \
        seccomp filter?); cannot continue safely\n";
    let _ = file::write(2, TEXT);
    process::abort()
}
