//! Without signals: around locks that a handler's hit would ask for a second time.
#![allow(unsafe_code)]

use std::ptr;

/// Runs `f` with all signals of the calling thread blocked, and keeps `errno`.
///
/// # Context
/// Signal-safe. Two system calls by number: libc's functions may be probed.
pub(crate) fn quietly<R>(f: impl FnOnce() -> R) -> R {
    // SAFETY: every thread has one.
    let errno = unsafe { libc::__errno_location() };
    // SAFETY: the calling thread's own.
    let before = unsafe { errno.read() };
    let (all, mut old) = (u64::MAX, 0_u64);
    let bytes = size_of::<u64>();
    // SAFETY: two masks of the kernel's size.
    unsafe {
        libc::syscall(
            libc::SYS_rt_sigprocmask,
            libc::SIG_SETMASK,
            &raw const all,
            &raw mut old,
            bytes,
        )
    };
    let result = f();
    let none = ptr::null_mut::<u64>();
    // SAFETY: the mask as it was.
    unsafe {
        libc::syscall(libc::SYS_rt_sigprocmask, libc::SIG_SETMASK, &raw const old, none, bytes)
    };
    // SAFETY: as above.
    unsafe { errno.write(before) };
    result
}

#[cfg(test)]
mod tests {
    use super::quietly;

    fn blocked() -> bool {
        // SAFETY: a mask is plain bits.
        let mut mask: libc::sigset_t = unsafe { std::mem::zeroed() };
        // SAFETY: only asks.
        unsafe { libc::pthread_sigmask(libc::SIG_SETMASK, std::ptr::null(), &raw mut mask) };
        // SAFETY: a mask that the kernel wrote.
        unsafe { libc::sigismember(&raw const mask, libc::SIGUSR1) == 1 }
    }

    #[test]
    fn blocked_inside_only() {
        assert_eq!((blocked(), quietly(blocked), blocked()), (false, true, false));
    }
}
