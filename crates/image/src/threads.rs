//! Threads that are started by one that believes SIGTRAP to be blocked: they believe so, too.
//!
//! Such a thread first comes by a few instructions of ours, which leave no frame behind: unwinding
//! out of it (`pthread_exit`, cancellation) sees the program's frames only.
#![allow(unsafe_code)]

use alloc::boxed::Box;
use core::arch::global_asm;
use uprobe::Context;
use uprobe::signals::beside;

/// What the new thread is to run.
#[repr(C)]
struct Start {
    function: u64,
    argument: u64,
}

global_asm!(
    ".pushsection .text.trapline_thread_start,\"ax\",@progbits",
    ".hidden trapline_thread_start",
    ".type trapline_thread_start, @function",
    "trapline_thread_start:",
    "push rdi",
    "call {begin}",
    "pop rdi",
    // Function and argument, in two registers.
    "mov rdi, rdx",
    "jmp rax",
    ".size trapline_thread_start, . - trapline_thread_start",
    ".popsection",
    begin = sym begin,
);

unsafe extern "C" {
    #[link_name = "trapline_thread_start"]
    fn thread_start();
}

/// Called as the new thread.
extern "C" fn begin(start: *mut Start) -> Start {
    beside::believe_blocked();
    // SAFETY: made by `about_to_start` from a box, for this thread alone.
    uprobe::own_code(|| *unsafe { Box::from_raw(start) })
}

/// The program calls `pthread_create` with these registers.
///
/// # Context
/// Of a consumer.
pub(crate) fn about_to_start(context: &mut Context) {
    if !beside::believes_blocked() {
        return;
    }
    let registers = &mut context.registers;
    uprobe::slowly(&mut || {
        let start = Start { function: registers.rdx, argument: registers.rcx };
        // If no thread is started, it stays.
        registers.rcx = Box::into_raw(Box::new(start)).expose_provenance() as u64;
        registers.rdx = thread_start as *const () as u64;
    });
}
