//! Threads get their block when they start, so that their first hit makes no system call.
//!
//! The new thread first comes by a few instructions of ours, which leave no frame behind: unwinding
//! out of it (`pthread_exit`, cancellation) sees the program's frames only.
#![allow(unsafe_code)]
#![cfg_attr(test, expect(dead_code, reason = "tests start threads without us"))]

use core::arch::global_asm;
use libc::{c_int, c_void, pthread_attr_t, pthread_t};
use std::sync::atomic::{AtomicUsize, Ordering};
use uprobe::signals::{Inherited, inherited};

type Start = extern "C" fn(*mut c_void) -> *mut c_void;
type Create =
    unsafe extern "C" fn(*mut pthread_t, *const pthread_attr_t, Start, *mut c_void) -> c_int;

/// The C library's function.
static CREATE: AtomicUsize = AtomicUsize::new(0);

/// What the new thread is to run.
#[repr(C)]
struct Thread {
    start: Start,
    argument: *mut c_void,
    signals: Inherited,
    /// Bytes of its stack.
    stack: usize,
}

/// What the assembly takes from us, in two registers.
#[repr(C)]
struct Call {
    start: Start,
    argument: *mut c_void,
}

global_asm!(
    ".pushsection .text.trapline_thread_start,\"ax\",@progbits",
    ".hidden trapline_thread_start",
    ".type trapline_thread_start, @function",
    "trapline_thread_start:",
    ".cfi_startproc",
    "push rdi",
    ".cfi_adjust_cfa_offset 8",
    "call {prepare}",
    "pop rdi",
    ".cfi_adjust_cfa_offset -8",
    // start and argument, in two registers.
    "mov rdi, rdx",
    "jmp rax",
    ".cfi_endproc",
    ".size trapline_thread_start, . - trapline_thread_start",
    ".popsection",
    prepare = sym prepare_thread,
);

unsafe extern "C" {
    #[link_name = "trapline_thread_start"]
    safe fn thread_start(thread: *mut c_void) -> *mut c_void;
}

extern "C" fn prepare_thread(thread: *mut Thread) -> Call {
    // SAFETY: made by `pthread_create` from a box, for this thread alone.
    let stack = unsafe { (*thread).stack };
    uprobe::prepare_started_thread(stack);
    // SAFETY: as above.
    let Thread { start, argument, signals, .. } =
        uprobe::own_code(|| *unsafe { Box::from_raw(thread) });
    uprobe::signals::inherit(signals);
    Call { start, argument }
}

/// Looks up the C library's `pthread_create`.
pub(super) fn prepare() {
    // SAFETY: a name that lives through the call.
    let real = unsafe { libc::dlsym(libc::RTLD_NEXT, c"pthread_create".as_ptr()) };
    CREATE.store(real.expose_provenance(), Ordering::Release);
    // SAFETY: zero is as good as any; the call fills it.
    let mut attributes: pthread_attr_t = unsafe { std::mem::zeroed() };
    // SAFETY: a place for the answer.
    if unsafe { pthread_getattr_default_np(&raw mut attributes) } == 0 {
        // SAFETY: just filled.
        STACK.store(unsafe { stack_size(&raw const attributes) }, Ordering::Relaxed);
        // SAFETY: as above.
        unsafe { libc::pthread_attr_destroy(&raw mut attributes) };
    }
}

unsafe extern "C" {
    fn pthread_getattr_default_np(attributes: *mut pthread_attr_t) -> c_int;
}

/// Bytes of the stack of a thread that is made without attributes.
static STACK: AtomicUsize = AtomicUsize::new(0);

/// Bytes of the stack of a thread that is made with these.
///
/// # Safety
/// The pointer is null or valid.
unsafe fn stack_size(attributes: *const pthread_attr_t) -> usize {
    if attributes.is_null() {
        return STACK.load(Ordering::Relaxed);
    }
    let mut size = 0;
    // SAFETY: the caller's pointer, and a place for the answer.
    unsafe { libc::pthread_attr_getstacksize(attributes, &raw mut size) };
    size
}

/// `pthread_create(3)`.
///
/// # Safety
/// As there.
#[cfg_attr(not(test), unsafe(no_mangle))]
unsafe extern "C" fn pthread_create(
    thread: *mut pthread_t,
    attributes: *const pthread_attr_t,
    start: Start,
    argument: *mut c_void,
) -> c_int {
    if CREATE.load(Ordering::Acquire) == 0 {
        // Without a segment nobody has looked yet.
        prepare();
    }
    let real = CREATE.load(Ordering::Acquire);
    if real == 0 {
        return libc::EAGAIN;
    }
    // SAFETY: the address of that function.
    let real: Create = unsafe { std::mem::transmute(real) };
    if crate::segment::get().is_none() {
        // SAFETY: the caller's arguments.
        return unsafe { real(thread, attributes, start, argument) };
    }
    let ours = uprobe::own_code(|| {
        // SAFETY: the caller's pointer.
        let stack = unsafe { stack_size(attributes) };
        Box::into_raw(Box::new(Thread { start, argument, signals: inherited(), stack }))
    });
    // SAFETY: the caller's arguments, and ours.
    let result = unsafe { real(thread, attributes, thread_start, ours.cast()) };
    if result != 0 {
        // SAFETY: no thread has it.
        uprobe::own_code(|| drop(unsafe { Box::from_raw(ours) }));
    }
    result
}
