//! Without signals: around locks that a handler's hit would ask for a second time.
#![allow(unsafe_code)]

use sys::signal::{SIG_SETMASK, Set, sigprocmask};

/// Runs `f` with all signals of the calling thread blocked.
///
/// # Context
/// Signal-safe. Two system calls; `errno` stays.
pub(crate) fn quietly<R>(f: impl FnOnce() -> R) -> R {
    // SAFETY: all are blocked, none is unblocked.
    let before = unsafe { sigprocmask(SIG_SETMASK, Some(&Set::ALL)) };
    let result = f();
    if let Ok(before) = before {
        // SAFETY: the mask as it was.
        let _ = unsafe { sigprocmask(SIG_SETMASK, Some(&before)) };
    }
    result
}

#[cfg(test)]
mod tests {
    use super::quietly;
    use core::{mem, ptr};

    fn blocked() -> bool {
        // SAFETY: a mask is plain bits.
        let mut mask: libc::sigset_t = unsafe { mem::zeroed() };
        // SAFETY: only asks.
        unsafe { libc::pthread_sigmask(libc::SIG_SETMASK, ptr::null(), &raw mut mask) };
        // SAFETY: a mask that the kernel wrote.
        unsafe { libc::sigismember(&raw const mask, libc::SIGUSR1) == 1 }
    }

    #[test]
    fn blocked_inside_only() {
        assert_eq!((blocked(), quietly(blocked), blocked()), (false, true, false));
    }
}
