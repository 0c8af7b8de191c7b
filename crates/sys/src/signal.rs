//! Dispositions, masks and signal stacks, with the kernel's structures: those of a C library are
//! larger, and in another order.
#![allow(unsafe_code)]

use crate::Errno;
use crate::arch::restorer;
use crate::number;
use crate::raw::{syscall2, syscall4};
use core::ffi::c_void;
use core::ptr;

/// Ends the process, with a core.
pub const SIGILL: i32 = 4;
/// A breakpoint.
pub const SIGTRAP: i32 = 5;
/// What [`crate::process::abort`] raises.
pub const SIGABRT: i32 = 6;
/// A wild access.
pub const SIGSEGV: i32 = 11;
/// A child has changed.
pub const SIGCHLD: i32 = 17;

/// The signals of the set are blocked, too.
pub const SIG_BLOCK: i32 = 0;
/// The signals of the set are blocked no more.
pub const SIG_UNBLOCK: i32 = 1;
/// The set is what is blocked.
pub const SIG_SETMASK: i32 = 2;

/// Instead of a handler's address: what the kernel does by itself.
pub const SIG_DFL: usize = 0;
/// Instead of a handler's address: nothing happens.
pub const SIG_IGN: usize = 1;

/// The handler gets three arguments.
pub const SA_SIGINFO: u64 = 4;
/// The handler runs on the signal stack, where there is one.
pub const SA_ONSTACK: u64 = 0x0800_0000;
/// Calls that a handler interrupts begin again.
pub const SA_RESTART: u64 = 0x1000_0000;
/// The signal itself is not blocked in its handler.
pub const SA_NODEFER: u64 = 0x4000_0000;

/// The handler runs once; then the signal does what the kernel does by itself.
pub const SA_RESETHAND: u64 = 0x8000_0000;

/// There is no signal stack.
pub const SS_DISABLE: i32 = 2;

/// A set of signals, 1 to 64.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(transparent)]
pub struct Set(pub u64);

impl Set {
    /// None.
    pub const EMPTY: Self = Self(0);
    /// All that can be blocked.
    pub const ALL: Self = Self(u64::MAX);

    /// One signal.
    #[must_use]
    pub const fn of(signal: i32) -> Self {
        Self(1 << (signal - 1))
    }

    /// Whether the signal is in the set.
    #[must_use]
    pub const fn contains(self, signal: i32) -> bool {
        self.0 & Self::of(signal).0 != 0
    }
}

/// What happens at a signal: `struct sigaction` as the kernel has it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(C)]
pub struct Action {
    /// Address of the handler, or 0 (default), or 1 (ignored).
    pub handler: usize,
    /// `SA_*`.
    pub flags: u64,
    /// Where the handler returns to. [`Action::new`] brings one.
    pub restorer: usize,
    /// What is blocked meanwhile.
    pub mask: Set,
}

/// A handler with [`SA_SIGINFO`]: the signal, `siginfo_t`, `ucontext_t`.
pub type Handler = extern "C" fn(i32, *mut c_void, *mut c_void);

impl Action {
    /// What the kernel does by itself.
    pub const DEFAULT: Self = Self { handler: 0, flags: 0, restorer: 0, mask: Set::EMPTY };

    /// The flag that says that there is a restorer; 0 where the kernel needs none.
    pub const RESTORES: u64 = restorer::FLAG;

    /// Address of a restorer of this crate's own.
    #[must_use]
    pub fn restorer() -> usize {
        restorer::restorer as *const () as usize
    }

    /// Runs `handler`, which returns through a restorer of this crate's own.
    #[must_use]
    pub fn new(handler: Handler, flags: u64, mask: Set) -> Self {
        Self {
            handler: handler as usize,
            flags: flags | SA_SIGINFO | Self::RESTORES,
            restorer: Self::restorer(),
            mask,
        }
    }
}

/// `rt_sigaction(2)`: what was there. `None` only asks.
///
/// # Errors
/// `EINVAL`.
///
/// # Safety
/// The handler is right for the process at any moment at which the signal can come, and returns to
/// a restorer. Whoever had a handler there can do without.
pub unsafe fn sigaction(signal: i32, new: Option<&Action>) -> Result<Action, Errno> {
    let mut old = Action::DEFAULT;
    let new = new.map_or(ptr::null(), ptr::from_ref).expose_provenance();
    let at = (&raw mut old).expose_provenance();
    // SAFETY: the caller's promise; both have the kernel's layout.
    unsafe { syscall4(number::RT_SIGACTION, signal as usize, new, at, size_of::<Set>()) }?;
    Ok(old)
}

/// `rt_sigprocmask(2)` of this thread: what was blocked. `None` only asks.
///
/// # Errors
/// `EINVAL`.
///
/// # Safety
/// Nobody relies on a signal being blocked that is unblocked here.
pub unsafe fn sigprocmask(how: i32, set: Option<&Set>) -> Result<Set, Errno> {
    let mut old = Set::EMPTY;
    let set = set.map_or(ptr::null(), ptr::from_ref).expose_provenance();
    let at = (&raw mut old).expose_provenance();
    // SAFETY: the caller's promise; both have the kernel's layout.
    unsafe { syscall4(number::RT_SIGPROCMASK, how as usize, set, at, size_of::<Set>()) }?;
    Ok(old)
}

/// `rt_sigpending(2)`: what waits for being unblocked, in this thread or the process.
///
/// # Errors
/// What a filter says.
pub fn sigpending() -> Result<Set, Errno> {
    let mut set = Set::EMPTY;
    let at = (&raw mut set).expose_provenance();
    // SAFETY: the set has the kernel's layout.
    unsafe { syscall2(number::RT_SIGPENDING, at, size_of::<Set>()) }?;
    Ok(set)
}

/// A signal stack: `stack_t`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(C)]
pub struct Stack {
    /// Its lowest address.
    pub base: usize,
    /// `SS_*`.
    pub flags: i32,
    /// Bytes.
    pub bytes: usize,
}

/// `sigaltstack(2)` of this thread: what was there. `None` only asks.
///
/// # Errors
/// `EPERM`: the thread is on it; `ENOMEM`: too small; `EINVAL`.
///
/// # Safety
/// The stack is this thread's alone, writable, and stays until another takes its place.
pub unsafe fn sigaltstack(new: Option<&Stack>) -> Result<Stack, Errno> {
    let mut old = Stack { base: 0, flags: SS_DISABLE, bytes: 0 };
    let new = new.map_or(ptr::null(), ptr::from_ref).expose_provenance();
    let at = (&raw mut old).expose_provenance();
    // SAFETY: the caller's promise; both have the kernel's layout.
    unsafe { syscall2(number::SIGALTSTACK, new, at) }?;
    Ok(old)
}
