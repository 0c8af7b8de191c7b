//! A process that is not ours: what the image that was put into it has said.
#![allow(unsafe_code)]

use crate::c_signals::SignalAction;
use core::ffi::c_int;
use core::ptr;
use core::sync::atomic::{AtomicPtr, Ordering};
use sys::signal::{Action, Set};

/// What an image knows of the process that it is in, beside [`percpu::host::Host`].
#[derive(Clone, Copy, Debug)]
pub struct Host {
    /// The end of the first thread's stack: of the mapping that the kernel calls `[stack]`. 0: not
    /// known. No code is put where that stack grows, and in it unwinders of consumers know where
    /// they are.
    pub first_stack_end: u64,
    /// Called in a fork child, once, by the first of its threads that has a hit: before its
    /// [`Hooks::thread_start`](crate::Hooks), and before any thread of the child runs a consumer.
    /// With signals blocked; under the same conditions as that.
    pub forked: fn(),
}

/// Forks are found by memory that is wiped; ends of threads are not seen.
pub(crate) const SEES: bool = false;

static HOST: AtomicPtr<Host> = AtomicPtr::new(ptr::null_mut());

/// Says what the process is like: behind [`percpu::host::supply`], and before
/// [`Engine::start`](crate::Engine::start). What was not said is not known.
///
/// # Context
/// Signal-safe; no system call.
pub fn supply(host: &'static Host) {
    // Release pairs with the Acquire in `first_stack_end`.
    HOST.store(ptr::from_ref(host).cast_mut(), Ordering::Release);
}

/// Runs code that never calls a C library: the thread's `errno` is not touched.
pub(crate) fn keeping_errno(f: impl FnOnce()) {
    f();
}

/// Nobody tells of forks.
pub(crate) fn on_fork(
    _before: unsafe extern "C" fn(),
    _parent: unsafe extern "C" fn(),
    _child: unsafe extern "C" fn(),
) {
}

/// Where the first thread's stack was when the kernel began the process; 0: not known.
pub(crate) fn first_stack_end() -> u64 {
    // Acquire pairs with the Release in `supply`.
    // SAFETY: null, or a host for ever.
    unsafe { HOST.load(Ordering::Acquire).as_ref() }.map_or(0, |host| host.first_stack_end)
}

/// This is a fork child.
pub(crate) fn forked() {
    // SAFETY: null, or a host for ever.
    if let Some(host) = unsafe { HOST.load(Ordering::Acquire).as_ref() } {
        (host.forked)();
    }
}

/// `sigaction(2)` with a way back of this image's own. 0 or -1.
///
/// # Safety
/// As `sigaction(2)`.
pub(crate) unsafe fn sigaction(
    signal: c_int,
    new: *const SignalAction,
    old: *mut SignalAction,
) -> c_int {
    // SAFETY: the caller's pointer.
    let new = unsafe { new.as_ref() }.map(|new| Action {
        handler: new.handler,
        flags: u64::from(new.flags.cast_unsigned()) | Action::RESTORES,
        restorer: new.restorer_or(Action::restorer()),
        mask: Set(new.mask.signals),
    });
    // SAFETY: the caller's handler.
    let Ok(before) = (unsafe { sys::signal::sigaction(signal, new.as_ref()) }) else { return -1 };
    // SAFETY: the caller's pointer.
    if let Some(old) = unsafe { old.as_mut() } {
        *old = SignalAction::of_kernel(&before);
    }
    0
}
