//! The floor of the breakpoint method: a bare int3, a SIGTRAP handler that does nothing, and
//! sigreturn.
#![allow(unsafe_code)]

use super::functions;
use std::mem::MaybeUninit;

/// While it lives, SIGTRAP goes to a handler that does nothing; afterwards to whoever had it
/// before.
pub(super) struct Handler {
    before: libc::sigaction,
}

impl Handler {
    /// Installs the handler.
    pub(super) fn install() -> Option<Self> {
        // SAFETY: a sigaction of all zero bytes is a valid value: default action, empty mask.
        let mut ours: libc::sigaction = unsafe { MaybeUninit::zeroed().assume_init() };
        ours.sa_sigaction = nothing as *const () as usize;
        ours.sa_flags = libc::SA_SIGINFO;
        let mut before = MaybeUninit::uninit();
        // SAFETY: both point at live memory of the right type; the handler is async-signal-safe, as
        // it does nothing.
        let rc = unsafe { libc::sigaction(libc::SIGTRAP, &raw const ours, before.as_mut_ptr()) };
        // SAFETY: a call that returned 0 has written the old action.
        (rc == 0).then(|| Self { before: unsafe { before.assume_init() } })
    }

    /// Runs into `n` breakpoints.
    pub(super) fn trap(&self, n: u64) {
        // SAFETY: the handler is installed for as long as `self` lives.
        unsafe { functions::call_into_int3(n) };
    }
}

impl Drop for Handler {
    fn drop(&mut self) {
        // SAFETY: `before` is what the kernel gave us as the old action.
        unsafe { libc::sigaction(libc::SIGTRAP, &raw const self.before, std::ptr::null_mut()) };
    }
}

/// The ip behind an int3 is the next instruction: returning goes on.
extern "C" fn nothing(_: libc::c_int, _: *mut libc::siginfo_t, _: *mut libc::c_void) {}
