//! System calls of the engine's own: the C library's functions may be probed, and set `errno`.
#![allow(unsafe_code)]

use crate::sealed;
use core::arch::asm;

/// # Safety
/// As for the system call.
unsafe fn call(number: libc::c_long, a: usize, b: usize, c: usize, d: usize) -> isize {
    let result;
    // SAFETY: the caller's; the kernel changes rax, rcx and r11, and what the arguments point to.
    unsafe {
        asm!(
            "syscall",
            inlateout("rax") number as usize => result,
            in("rdi") a,
            in("rsi") b,
            in("rdx") c,
            in("r10") d,
            lateout("rcx") _,
            lateout("r11") _,
            options(nostack),
        );
    }
    result
}

/// A set of signals as the kernel has it: signal n is bit n - 1.
pub(crate) type Mask = u64;

/// All signals.
pub(crate) const ALL: Mask = Mask::MAX;

/// `rt_sigprocmask(2)` with masks at any address, or 0: 0 or an error number.
///
/// # Safety
/// The kernel may read 8 bytes at `new` and write 8 bytes at `old`; it checks whether they are
/// mapped.
pub(crate) unsafe fn rt_sigprocmask(how: i32, new: usize, old: usize) -> i32 {
    // SAFETY: the caller's.
    let result = unsafe { call(libc::SYS_rt_sigprocmask, how as usize, new, old, 8) };
    -result as i32
}

/// `rt_sigprocmask(2)`; the mask until now.
pub(crate) fn change_mask(how: i32, mask: Mask) -> Mask {
    let mut old = 0;
    // SAFETY: 8 bytes of ours each.
    unsafe {
        rt_sigprocmask(
            how,
            (&raw const mask).expose_provenance(),
            (&raw mut old).expose_provenance(),
        )
    };
    old
}

/// `rt_sigpending(2)`.
pub(crate) fn pending_signals() -> Mask {
    let mut pending = 0_u64;
    // SAFETY: writes 8 bytes of ours.
    unsafe { call(libc::SYS_rt_sigpending, (&raw mut pending).expose_provenance(), 8, 0, 0) };
    pending
}

/// Blocks all signals but the engine's own traps, for a breakpoint with SIGTRAP blocked kills; the
/// mask until now. None: the program has given that up.
pub(crate) fn block_signals() -> Option<Mask> {
    block(ALL & !(bit(libc::SIGTRAP) | bit(libc::SIGILL)))
}

/// Blocks these signals alone; as [`block_signals`].
pub(crate) fn block(signals: Mask) -> Option<Mask> {
    sealed::may_mask().then(|| change_mask(libc::SIG_SETMASK, signals))
}

/// A signal in a [`Mask`].
pub(crate) const fn bit(signal: i32) -> Mask {
    1 << (signal - 1)
}

/// Puts a mask back, if there was one.
pub(crate) fn restore_signals(mask: Option<Mask>) {
    if let Some(mask) = mask {
        change_mask(libc::SIG_SETMASK, mask);
    }
}

/// Takes the thread's signal stack away, and tells which it was. Not on that stack.
pub(crate) fn take_signal_stack() -> libc::stack_t {
    let none =
        libc::stack_t { ss_sp: core::ptr::null_mut(), ss_flags: libc::SS_DISABLE, ss_size: 0 };
    let mut old = none;
    // SAFETY: two descriptions of ours.
    unsafe {
        call(
            libc::SYS_sigaltstack,
            (&raw const none).expose_provenance(),
            (&raw mut old).expose_provenance(),
            0,
            0,
        )
    };
    old
}

/// Gives the thread the signal stack that was taken away.
pub(crate) fn put_signal_stack(stack: &libc::stack_t) {
    // SAFETY: a description that the kernel gave: the program's own stack.
    unsafe { call(libc::SYS_sigaltstack, core::ptr::from_ref(stack).expose_provenance(), 0, 0, 0) };
}

/// Whether 8 bytes at `address` can be read: the kernel reads them and then refuses the request, so
/// nothing changes.
///
/// # Context
/// Signal-safe; one system call. False where the program has given it up.
pub fn readable(address: u64) -> bool {
    const NO_SUCH_REQUEST: usize = usize::MAX;
    if !sealed::may_mask() {
        return false;
    }
    // SAFETY: the kernel checks the address.
    unsafe {
        call(libc::SYS_rt_sigprocmask, NO_SUCH_REQUEST, address as usize, 0, 8)
            == -(libc::EINVAL as isize)
    }
}

/// The calling thread's number.
pub(crate) fn thread_id() -> u32 {
    // SAFETY: no pointers.
    unsafe { call(libc::SYS_gettid, 0, 0, 0, 0) as u32 }
}

/// The program break: where the heap ends now.
pub(crate) fn program_break() -> u64 {
    // SAFETY: 0 changes nothing.
    unsafe { call(libc::SYS_brk, 0, 0, 0, 0) as u64 }
}

/// The calling process's number.
pub(crate) fn process_id() -> u32 {
    // SAFETY: no pointers.
    unsafe { call(libc::SYS_getpid, 0, 0, 0, 0) as u32 }
}

/// A mapping of zeros that is zeros again in a fork child: its address.
pub(crate) fn wiped_page(bytes: usize) -> Option<usize> {
    const WIPE_ON_FORK: usize = 18;
    let protection = libc::PROT_READ | libc::PROT_WRITE;
    let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS;
    let at: isize;
    // SAFETY: a new mapping, in a place that the kernel chooses. Six arguments: not by `call`.
    unsafe {
        asm!(
            "syscall",
            inlateout("rax") libc::SYS_mmap as usize => at,
            in("rdi") 0,
            in("rsi") bytes,
            in("rdx") protection as usize,
            in("r10") flags as usize,
            in("r8") usize::MAX,
            in("r9") 0,
            lateout("rcx") _,
            lateout("r11") _,
            options(nostack),
        );
    }
    if at < 0 {
        return None;
    }
    let at = at as usize;
    // Kernels before 4.14 cannot; then it is a page like any other.
    // SAFETY: the mapping that was just made.
    unsafe { call(libc::SYS_madvise, at, bytes, WIPE_ON_FORK, 0) };
    Some(at)
}

/// `tgkill(2)` to a thread of this process. False: there is no such thread.
pub(crate) fn signal_thread(thread: u32, signal: i32) -> bool {
    let process = process_id();
    // SAFETY: no pointers.
    unsafe {
        call(libc::SYS_tgkill, process as usize, thread as usize, signal as usize, 0)
            != -(libc::ESRCH as isize)
    }
}
