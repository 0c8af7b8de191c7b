//! System calls as the engine asks for them; what the program has given up is left out.
#![allow(unsafe_code)]

use crate::sealed;
use core::ptr::NonNull;
use sys::memory::{self, MADV_WIPEONFORK};
use sys::signal::{self, SIG_SETMASK, SIGILL, SIGTRAP, SS_DISABLE, Set, Stack};
use sys::{Errno, number, process, raw, thread};

/// A set of signals as the kernel has it: signal n is bit n - 1.
pub(crate) type Mask = u64;

/// All signals.
pub(crate) const ALL: Mask = Set::ALL.0;

/// `rt_sigprocmask(2)` with masks at any address, or 0: 0 or an error number.
///
/// # Safety
/// The kernel may read 8 bytes at `new` and write 8 bytes at `old`; it checks whether they are
/// mapped.
pub(crate) unsafe fn rt_sigprocmask(how: i32, new: usize, old: usize) -> i32 {
    let bytes = size_of::<Mask>();
    // SAFETY: the caller's.
    let result =
        unsafe { raw::syscall4(number::RT_SIGPROCMASK, how as isize as usize, new, old, bytes) };
    result.map_or_else(Errno::number, |_| 0)
}

/// `rt_sigprocmask(2)`; the mask until now.
pub(crate) fn change_mask(how: i32, mask: Mask) -> Mask {
    // SAFETY: callers let through what they have held back, or what the program wants.
    unsafe { signal::sigprocmask(how, Some(&Set(mask))) }.map_or(0, |old| old.0)
}

/// `rt_sigpending(2)`.
pub(crate) fn pending_signals() -> Mask {
    signal::sigpending().map_or(0, |pending| pending.0)
}

/// Blocks all signals but the engine's own traps, for a breakpoint with SIGTRAP blocked kills; the
/// mask until now. None: the program has given that up.
pub(crate) fn block_signals() -> Option<Mask> {
    block(ALL & !(bit(SIGTRAP) | bit(SIGILL)))
}

/// Blocks these signals alone; as [`block_signals`].
pub(crate) fn block(signals: Mask) -> Option<Mask> {
    sealed::may_mask().then(|| change_mask(SIG_SETMASK, signals))
}

/// A signal in a [`Mask`].
pub(crate) const fn bit(signal: i32) -> Mask {
    Set::of(signal).0
}

/// Puts a mask back, if there was one.
pub(crate) fn restore_signals(mask: Option<Mask>) {
    if let Some(mask) = mask {
        change_mask(SIG_SETMASK, mask);
    }
}

/// Takes the thread's signal stack away, and tells which it was. Not on that stack.
pub(crate) fn take_signal_stack() -> Stack {
    let none = Stack { base: 0, flags: SS_DISABLE, bytes: 0 };
    // SAFETY: the thread does not need one before it is given back.
    unsafe { signal::sigaltstack(Some(&none)) }.unwrap_or(none)
}

/// Gives the thread the signal stack that was taken away.
pub(crate) fn put_signal_stack(stack: &Stack) {
    // SAFETY: what the kernel said: the program's own stack.
    let _ = unsafe { signal::sigaltstack(Some(stack)) };
}

/// Whether 8 bytes at `address` can be read: the kernel reads them and then refuses the request, so
/// nothing changes.
///
/// # Context
/// Signal-safe; one system call. False where the program has given it up.
pub fn readable(address: u64) -> bool {
    const NO_SUCH_REQUEST: i32 = -1;
    if !sealed::may_mask() {
        return false;
    }
    // SAFETY: the kernel checks the address.
    unsafe { rt_sigprocmask(NO_SUCH_REQUEST, address as usize, 0) == Errno::EINVAL.number() }
}

/// The calling thread's number.
pub(crate) fn thread_id() -> u32 {
    thread::gettid() as u32
}

/// The program break: where the heap ends now.
pub(crate) fn program_break() -> u64 {
    memory::program_break() as u64
}

/// The calling process's number.
pub(crate) fn process_id() -> u32 {
    process::getpid() as u32
}

/// A mapping of zeros that is zeros again in a fork child.
pub(crate) fn wiped_page(bytes: usize) -> Option<NonNull<u8>> {
    let page = memory::pages(bytes).ok()?;
    // Kernels before 4.14 cannot; then it is a page like any other.
    // SAFETY: the mapping that was just made.
    let _ = unsafe { memory::madvise(page.as_ptr(), bytes, MADV_WIPEONFORK) };
    Some(page)
}

/// `tgkill(2)` to a thread of this process. False: there is no such thread.
pub(crate) fn signal_thread(thread: u32, signal: i32) -> bool {
    process::tgkill(process::getpid(), thread as i32, signal) != Err(Errno::ESRCH)
}

#[cfg(test)]
mod tests {
    use super::{ALL, block_signals, change_mask, readable, restore_signals};
    use sys::memory::{PAGE, PROT_NONE, mprotect, munmap, pages};
    use sys::signal::{SIG_BLOCK, SIGTRAP, Set};

    #[test]
    fn what_is_readable_is_told_from_what_is_not() {
        let page = pages(2 * PAGE).expect("memory").as_ptr();
        let second = page.wrapping_add(PAGE);
        // SAFETY: nobody uses it.
        unsafe { mprotect(second, PAGE, PROT_NONE) }.expect("a page of ours");
        let at = second.addr() as u64;
        assert!(readable(at - 8));
        assert!(!readable(at - 7) && !readable(at) && !readable(0) && !readable(u64::MAX - 7));
        // SAFETY: nobody uses it.
        unsafe { munmap(page, 2 * PAGE) }.expect("pages of ours");
    }

    #[test]
    fn all_but_traps_wait() {
        let now = || change_mask(SIG_BLOCK, 0);
        let before = now();
        let kept = block_signals();
        let inside = Set(now());
        restore_signals(kept);
        assert_eq!((kept, now()), (Some(before), before));
        // SIGKILL and SIGSTOP cannot be blocked.
        let never = [9, 19].map(|signal| Set::of(signal).0);
        assert!(!inside.contains(SIGTRAP) && !inside.contains(4));
        let missing = ALL & !inside.0;
        assert_eq!(missing, never[0] | never[1] | Set::of(SIGTRAP).0 | Set::of(4).0);
    }
}
