//! SIGTRAP and SIGILL: breakpoints, and threads that wake in the middle of a jump.
#![allow(unsafe_code)]

use super::dispositions::{self, handler};
use super::{masks, stack, wrap};
use crate::arch::x86_64::frame::{Frame, Info};
use crate::c_signals::SignalAction;
use crate::trap_table::{self, Meaning};
use crate::{breakpoint, host, kernel};
use core::ffi::c_int;
use core::ptr;
use sys::signal::{
    SA_NODEFER, SA_ONSTACK, SA_SIGINFO, SIG_DFL, SIG_IGN, SIG_UNBLOCK, SIGILL, SIGTRAP,
};

const INT3: u8 = 0xcc;
/// `si_code` of a trap by `int3`.
const SI_KERNEL: c_int = 0x80;

/// Puts our handlers before the program's, and lets the calling thread be trapped. Two threads may
/// do so at once.
pub(crate) fn install() {
    if dispositions::traps_are_ours() {
        return;
    }
    for &signal in dispositions::TRAPS {
        dispositions::with(signal, |action| {
            let mut old = SignalAction::DEFAULT;
            let handler = trapped as *const () as usize;
            // NODEFER: what the handler calls may be probed by a breakpoint, and a blocked SIGTRAP
            // would kill.
            let flags = (SA_SIGINFO | SA_ONSTACK | SA_NODEFER) as c_int;
            // Everything else waits: a profiler's signal would find a frame that is being
            // rewritten.
            let mask = kernel::ALL & !(kernel::bit(SIGTRAP) | kernel::bit(SIGILL));
            let new = SignalAction::new(handler, flags, mask);
            // SAFETY: a handler for the life of the process.
            if unsafe { host::sigaction(signal, &raw const new, &raw mut old) } == 0
                && action.is_none()
            {
                *action = Some(old);
            }
        });
    }
    dispositions::take_traps();
    adopt();
}

/// Unblocks SIGTRAP in the calling thread, if it is blocked in the kernel, without the program
/// noticing: for the first thread of a program that was started like that.
pub fn adopt() {
    let before = kernel::change_mask(SIG_UNBLOCK, kernel::bit(SIGTRAP));
    if before & kernel::bit(SIGTRAP) != 0 {
        masks::block_traps(true, install);
    }
}

extern "C" fn trapped(signal: c_int, info: *mut Info, frame: *mut Frame) {
    // SAFETY: the kernel gives a SA_SIGINFO handler its frame, which is this handler's alone until
    // it returns.
    let frame = unsafe { &mut *frame };
    // SAFETY: as above.
    let code = unsafe { (*info).code };
    stack::note(frame);
    if !(code > 0 && resolve(signal, frame)) {
        forward(signal, code, info, frame);
    }
}

/// True if the trap was ours: the frame says where to go on.
fn resolve(signal: c_int, frame: &mut Frame) -> bool {
    let mut registers = frame.registers();
    let address = if signal == SIGTRAP { registers.rip.wrapping_sub(1) } else { registers.rip };
    match trap_table::find(address) {
        Some(Meaning::Hit(site)) => {
            registers.rip = address;
            breakpoint::hit(site, &mut registers);
        }
        Some(Meaning::GoOn(to)) => registers.rip = to,
        // Removed since the trap was taken: try again what is there now. A trap that is there still
        // is somebody else's.
        None if signal == SIGTRAP && byte_at(address) != INT3 && trap_table::was_ours(address) => {
            registers.rip = address
        }
        None => return false,
    }
    frame.set_registers(&registers);
    true
}

fn byte_at(address: u64) -> u8 {
    // SAFETY: the thread has just executed a byte there. Volatile: code changes under us.
    unsafe { ptr::with_exposed_provenance::<u8>(address as usize).read_volatile() }
}

/// Does what would happen without the engine.
fn forward(signal: c_int, code: c_int, info: *mut Info, frame: &mut Frame) {
    let synchronous = code > 0;
    let blocked = signal == SIGTRAP && masks::blocks_traps();
    match handler(signal) {
        _ if blocked && !synchronous => masks::keep_trap(),
        // The kernel kills for a trap that is blocked.
        _ if blocked => die(signal, code, frame),
        SIG_IGN if !synchronous => {}
        // The kernel does not let a program ignore a trap of its own.
        SIG_DFL | SIG_IGN => die(signal, code, frame),
        _ => wrap::call(signal, info, frame, install),
    }
}

/// Restores the default and makes it happen again, so that the core shows the program and not this
/// handler.
fn die(signal: c_int, code: c_int, frame: &mut Frame) {
    // SAFETY: restores the default.
    unsafe { host::sigaction(signal, &SignalAction::DEFAULT, ptr::null_mut()) };
    if signal == SIGTRAP && code == SI_KERNEL {
        let mut registers = frame.registers();
        registers.rip = registers.rip.wrapping_sub(1);
        frame.set_registers(&registers);
    } else if code <= 0 || signal == SIGTRAP {
        kernel::signal_thread(kernel::thread_id(), signal);
    }
}
