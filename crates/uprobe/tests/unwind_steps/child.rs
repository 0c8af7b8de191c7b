//! In the child that is stepped: a signal handler, called at each instruction, that walks the stack
//! with the unwinder that exceptions use, and leaves what it found where the parent reads it.

use std::ffi::{c_int, c_void};
use std::sync::atomic::{AtomicPtr, Ordering};

/// Frames that are kept of a walk: more than any case here has but the deep ones.
pub(crate) const FRAMES: usize = 96;

/// The registers that a function has to keep, but rsp: rbx, rbp, r12 to r15, by DWARF number.
const KEPT: [c_int; 6] = [3, 6, 12, 13, 14, 15];

/// What the unwinder says of a frame.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Frame {
    pub(crate) ip: u64,
    /// Nonzero: it was interrupted at `ip`. Else `ip` is behind a call.
    pub(crate) interrupted: c_int,
    /// rsp in that frame, at `ip`.
    pub(crate) rsp: u64,
    pub(crate) kept: [u64; 6],
}

/// What a handler found, from the interrupted frame on.
#[repr(C)]
#[derive(Debug)]
pub(crate) struct Walk {
    pub(crate) calls: u64,
    pub(crate) length: usize,
    pub(crate) frames: [Frame; FRAMES],
}

static WALK: AtomicPtr<Walk> = AtomicPtr::new(std::ptr::null_mut());

type Step = extern "C" fn(*mut c_void, *mut c_void) -> c_int;

unsafe extern "C" {
    fn _Unwind_Backtrace(step: Step, data: *mut c_void) -> c_int;
    fn _Unwind_GetIPInfo(context: *mut c_void, interrupted: *mut c_int) -> u64;
    fn _Unwind_GetCFA(context: *mut c_void) -> u64;
    fn _Unwind_GetGR(context: *mut c_void, register: c_int) -> u64;
}

extern "C" fn step(context: *mut c_void, data: *mut c_void) -> c_int {
    const GO_ON: c_int = 0;
    const STOP: c_int = 5;
    // SAFETY: `walk` passes its own.
    let walk = unsafe { &mut *data.cast::<Walk>() };
    let mut frame = Frame::default();
    // SAFETY: the unwinder's context, in its callback.
    frame.ip = unsafe { _Unwind_GetIPInfo(context, &raw mut frame.interrupted) };
    if walk.length == 0 && frame.interrupted == 0 {
        // The handler's own.
        return GO_ON;
    }
    // SAFETY: as above.
    frame.rsp = unsafe { _Unwind_GetCFA(context) };
    for (place, register) in frame.kept.iter_mut().zip(KEPT) {
        // SAFETY: as above; these registers are known in every frame, as functions save them.
        *place = unsafe { _Unwind_GetGR(context, register) };
    }
    walk.frames[walk.length] = frame;
    walk.length += 1;
    if walk.length == FRAMES { STOP } else { GO_ON }
}

extern "C" fn handler(_: c_int) {
    let walk = WALK.load(Ordering::Relaxed);
    // SAFETY: memory that is shared with the parent, which waits.
    let its = unsafe { &mut *walk };
    its.calls += 1;
    its.length = 0;
    // SAFETY: the callback is for that data.
    unsafe { _Unwind_Backtrace(step, walk.cast()) };
}

/// Makes the walk at SIGUSR1 from now on, and the first one, which loads what the unwinder needs.
pub(crate) fn walk_at_signals(place: *mut Walk) {
    WALK.store(place, Ordering::Relaxed);
    install(libc::SIGUSR1, handler);
    handler(0);
}

/// A handler as a program under the agent has it: shown the program's registers, not a stub's.
pub(crate) fn install(signal: c_int, handler: extern "C" fn(c_int)) {
    // SAFETY: zero is a valid sigaction.
    let mut action: libc::sigaction = unsafe { std::mem::zeroed() };
    action.sa_sigaction = handler as *const () as usize;
    let action = (&raw const action).cast();
    // SAFETY: a valid action and no place for the old one.
    let result = unsafe { uprobe::signals::sigaction(signal, action, std::ptr::null_mut()) };
    assert_eq!(result, 0);
}
