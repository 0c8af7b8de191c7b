//! Threads: which, where, their end, and barriers with all the others.
#![allow(unsafe_code)]

use crate::Errno;
use crate::number;
use crate::raw::{syscall0, syscall1, syscall3, syscall4};

/// `gettid(2)`.
#[must_use]
pub fn gettid() -> i32 {
    // SAFETY: takes nothing.
    unsafe { syscall0(number::GETTID) }.unwrap_or(0) as i32
}

/// `exit(2)`: this thread ends; with it the process, if it was the last.
///
/// # Safety
/// Nobody waits for anything that the thread would still do: its C library learns nothing of it,
/// and destructors do not run.
pub unsafe fn exit(status: i32) -> ! {
    loop {
        // SAFETY: the caller's promise; the call does not come back.
        let _ = unsafe { syscall1(number::EXIT, status as isize as usize) };
    }
}

/// `sched_yield(2)`.
pub fn sched_yield() {
    // SAFETY: takes nothing, and cannot fail.
    let _ = unsafe { syscall0(number::SCHED_YIELD) };
}

/// `getcpu(2)`: where the thread is, or was a moment ago. A system call, where a C library asks the
/// vDSO.
///
/// # Errors
/// What a filter says.
pub fn getcpu() -> Result<u32, Errno> {
    let mut cpu = 0u32;
    let at = (&raw mut cpu).expose_provenance();
    // SAFETY: a word for the answer; nobody asks for the node.
    unsafe { syscall3(number::GETCPU, at, 0, 0) }?;
    Ok(cpu)
}

/// `sched_getaffinity(2)` of this thread: how many bytes of the mask the kernel wrote, which are
/// those of all CPUs that it can ever have.
///
/// # Errors
/// `EINVAL`: the mask is too small.
pub fn affinity(mask: &mut [u64]) -> Result<usize, Errno> {
    let (at, bytes) = (mask.as_mut_ptr().expose_provenance(), size_of_val(mask));
    // SAFETY: `mask` is writable for its length, of which the kernel wants a multiple of 8.
    unsafe { syscall3(number::SCHED_GETAFFINITY, 0, bytes, at) }
}

/// `membarrier(2)`.
///
/// # Errors
/// `EINVAL`, `EPERM` (not registered), `ENOSYS`.
pub fn membarrier(command: i32, flags: u32) -> Result<usize, Errno> {
    // SAFETY: numbers; a barrier changes nothing.
    unsafe { syscall3(number::MEMBARRIER, command as usize, flags as usize, 0) }
}

/// `rseq(2)`: registers this thread's area, or takes the registration back.
///
/// # Errors
/// `EBUSY`: another is registered; `EPERM`: the signature is another; `EINVAL`, `ENOSYS`.
///
/// # Safety
/// The area has so many bytes and is aligned as rseq(2) asks. While it is registered it stays
/// mapped, and nobody else in this thread expects an area of its own to be there.
pub unsafe fn rseq(area: *mut u8, bytes: u32, flags: i32, signature: u32) -> Result<(), Errno> {
    let (area, bytes, flags) = (area.expose_provenance(), bytes as usize, flags as usize);
    // SAFETY: the caller's promise.
    unsafe { syscall4(number::RSEQ, area, bytes, flags, signature as usize) }.map(drop)
}
