//! System calls of the engine's own: the C library's functions may be probed, and set `errno`.
#![allow(unsafe_code)]

use core::arch::asm;

/// # Safety
/// As for the system call.
unsafe fn call(number: libc::c_long, a: usize, b: usize, c: usize, d: usize) -> isize {
    let result;
    // SAFETY: the caller's; the kernel changes rax, rcx and r11, and what the arguments point to.
    unsafe {
        asm!("syscall", inlateout("rax") number as usize => result, in("rdi") a, in("rsi") b, in("rdx") c, in("r10") d,
             lateout("rcx") _, lateout("r11") _, options(nostack));
    }
    result
}

/// A set of signals as the kernel has it: signal n is bit n - 1.
pub(crate) type Mask = u64;

/// `rt_sigprocmask(2)`; the mask until now, or a negative error number.
pub(crate) fn change_mask(how: i32, mask: Mask) -> Result<Mask, i32> {
    let mut old = 0;
    // SAFETY: reads and writes 8 bytes of ours.
    let result = unsafe {
        call(libc::SYS_rt_sigprocmask, how as usize, (&raw const mask).expose_provenance(), (&raw mut old).expose_provenance(), 8)
    };
    if result == 0 { Ok(old) } else { Err(-result as i32) }
}

/// Blocks all signals but the engine's own traps, for a breakpoint with SIGTRAP blocked kills; the mask until now.
pub(crate) fn block_signals() -> Mask {
    change_mask(libc::SIG_SETMASK, !(bit(libc::SIGTRAP) | bit(libc::SIGILL))).unwrap_or_default()
}

/// A signal in a [`Mask`].
pub(crate) const fn bit(signal: i32) -> Mask {
    1 << (signal - 1)
}

/// Puts a mask back.
pub(crate) fn restore_signals(mask: Mask) {
    let _ = change_mask(libc::SIG_SETMASK, mask);
}

/// Whether 8 bytes at `address` can be read: the kernel reads them and then refuses the request, so nothing changes.
pub(crate) fn readable(address: u64) -> bool {
    const NO_SUCH_REQUEST: usize = usize::MAX;
    // SAFETY: the kernel checks the address.
    unsafe { call(libc::SYS_rt_sigprocmask, NO_SUCH_REQUEST, address as usize, 0, 8) == -(libc::EINVAL as isize) }
}

/// The calling thread's number.
pub(crate) fn thread_id() -> u32 {
    // SAFETY: no pointers.
    unsafe { call(libc::SYS_gettid, 0, 0, 0, 0) as u32 }
}

/// `tgkill(2)` to a thread of this process. False: there is no such thread.
pub(crate) fn signal_thread(thread: u32, signal: i32) -> bool {
    // SAFETY: no pointers.
    let process = unsafe { call(libc::SYS_getpid, 0, 0, 0, 0) };
    // SAFETY: as above.
    unsafe { call(libc::SYS_tgkill, process as usize, thread as usize, signal as usize, 0) != -(libc::ESRCH as isize) }
}
