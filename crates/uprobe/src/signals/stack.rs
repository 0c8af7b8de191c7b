//! Whether the thread is on its signal stack: the kernel knows, but not every program may ask it
//! (seccomp). Each handler's frame tells which stack it was.
//!
//! A handler that was not installed through [`super::sigaction`] is not noticed.

use crate::arch::x86_64::frame::Frame;
use crate::arch::x86_64::tls::{self, SIGNAL_STACK, SIGNAL_STACK_END};
use core::ptr;
use sys::signal::SS_DISABLE;

/// In a handler: remembers the stack.
pub(super) fn note(frame: &Frame) {
    let stack = &frame.stack;
    let (start, size) =
        if stack.flags & SS_DISABLE == 0 { (stack.base, stack.bytes) } else { (0, 0) };
    tls::set::<SIGNAL_STACK>(start);
    tls::set::<SIGNAL_STACK_END>(start.saturating_add(size));
}

/// Whether the caller is on the signal stack.
pub(crate) fn in_use() -> bool {
    let here = 0_u8;
    contains(ptr::from_ref(&here).addr())
}

/// Whether an address is in the signal stack.
pub(crate) fn contains(address: usize) -> bool {
    (tls::get::<SIGNAL_STACK>()..tls::get::<SIGNAL_STACK_END>()).contains(&address)
}
