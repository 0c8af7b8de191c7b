//! The program's own handlers, called with frames that show the program.
#![allow(unsafe_code)]

use super::dispositions::{self, handler};
use super::masks;
use crate::arch::x86_64::frame::{Frame, Info};
use crate::kernel::Mask;
use crate::{kernel, stubs};
use core::ffi::c_int;
use patch::Registers;
use sys::signal::{SA_NODEFER, SA_RESETHAND, SIG_DFL, SIG_IGN, SIGTRAP};

/// Calls the program's handler with a frame that shows the program's own code. `install` is for a
/// handler that blocks SIGTRAP: see [`masks::block_traps`].
pub(super) fn call(signal: c_int, info: *mut Info, frame: &mut Frame, install: fn()) {
    let there = handler(signal);
    if there == SIG_DFL || there == SIG_IGN {
        // Changed since the kernel decided to call us.
        return;
    }
    if dispositions::is_ours(signal) {
        own_mask(signal, frame.mask);
    }
    let interrupted = frame.registers();
    let mut shown = interrupted;
    if stubs::present(&mut shown) {
        frame.set_registers(&shown);
    }
    // SAFETY: the program gave this address to sigaction as a handler; one of a single argument
    // does not look at the others.
    let function: extern "C" fn(c_int, *mut Info, *mut Frame) =
        unsafe { core::mem::transmute(there) };
    masks::show(&mut frame.mask);
    function(signal, info, core::ptr::from_mut(frame));
    masks::take_back(&mut frame.mask, install);
    go_on(frame, &shown, &interrupted);
}

/// Lets the thread go on as the handler left the frame: with what it changed, and else where it
/// was.
fn go_on(frame: &mut Frame, shown: &Registers, interrupted: &Registers) {
    let left = frame.registers();
    let mut next = left;
    if left.rip == shown.rip {
        // It may have mended a register, and tries the instruction again, which is ours. Everything
        // that it did not touch is as it was.
        next = left.or_where_same(shown, interrupted);
    } else if let Some(to) = stubs::relocated(left.rip) {
        // To an instruction that is not where it was.
        next.rip = to;
    }
    if next != left {
        frame.set_registers(&next);
    }
}

/// The kernel called our handler with our flags and mask: applies those of the program's. The mask
/// ends with the frame.
fn own_mask(signal: c_int, interrupted: Mask) {
    let action = dispositions::with(signal, |action| {
        let now = *action;
        if let Some(a) = action.as_mut().filter(|a| a.flags & SA_RESETHAND as c_int != 0) {
            a.handler = SIG_DFL;
        }
        now
    });
    if let Some(Some(action)) = action {
        let deferred = action.flags & SA_NODEFER as c_int == 0;
        let own = if deferred { kernel::bit(signal) } else { 0 };
        // SIGTRAP blocked would kill at the next breakpoint.
        let mask = (interrupted | action.mask.signals | own) & !kernel::bit(SIGTRAP);
        kernel::block(mask);
    }
}
