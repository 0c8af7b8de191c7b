//! The way from the hit path to [`crate::slow_path`] and back where the program's stack has no
//! room: in functions of Go, which check for the room that they need, and for no more.
//!
//! It comes in with the site's number in r12 and the goroutine's descriptor in r14, by a jump, and
//! leaves for the site's `resume`; r12, r13 and the flags are free. The rest is saved on a stack of
//! the engine's, one of a few that any thread may take. Before rsp leads there signals are blocked:
//! whether a signal stack is in use the kernel tells by rsp, and Go's handlers whether they
//! interrupted a goroutine.
//!
//! ```text
//! claim a stack; save what the kernel and the slow path do not preserve on it
//! block all signals; rsp = the stack's top; save vectors
//! r12 = slow_path::entry_elsewhere(site, the program's rsp, r14)
//! all back; the signal mask, too; give the stack back; jump to r12
//! ```
//!
//! A handler may come in here again, with another stack, before signals are blocked and after they
//! are not any more.
#![allow(unsafe_code)]

use crate::slow_path;
use core::arch::global_asm;
use core::sync::atomic::{AtomicPtr, Ordering};
use sys::memory::{
    self, MADV_WIPEONFORK, MAP_ANONYMOUS, MAP_NORESERVE, MAP_PRIVATE, PROT_READ, PROT_WRITE,
};

/// How many threads can be in the slow path at once; others wait. The assembly counts in a byte.
const STACKS: usize = 256;
/// Bytes of a stack. What is never touched is no memory.
const STACK_BITS: usize = 15;
const STACK: usize = 1 << STACK_BITS;

/// The lower end of all stacks. A stack begins with a word whose lowest bit says that it is taken,
/// and with what is saved.
static BASE: AtomicPtr<u8> = AtomicPtr::new(core::ptr::null_mut());

/// Maps the stacks, once. False: there is no memory. Under the engine's lock.
///
/// # Context
/// Two system calls the first time.
pub(crate) fn prepare() -> bool {
    if !BASE.load(Ordering::Relaxed).is_null() {
        return true;
    }
    let (both, flags) = (PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE);
    // SAFETY: a new mapping of its own.
    let Ok(stacks) = (unsafe { memory::mmap(0, STACKS * STACK, both, flags, -1, 0) }) else {
        return false;
    };
    // A fork child finds them free: what other threads have taken is theirs in the parent only. The
    // thread that forks is in none. (Best effort: Linux 4.14.)
    // SAFETY: just mapped, and nothing is in it.
    let _ = unsafe { memory::madvise(stacks, STACKS * STACK, MADV_WIPEONFORK) };
    // Stubs that need it are written afterwards.
    BASE.store(stacks, Ordering::Relaxed);
    true
}

global_asm!(
    ".pushsection .text.__trapline_uprobe_switching,\"ax\",@progbits",
    ".balign 64",
    ".globl __trapline_uprobe_switching_entry_v0",
    ".hidden __trapline_uprobe_switching_entry_v0",
    ".type __trapline_uprobe_switching_entry_v0,@function",
    "__trapline_uprobe_switching_entry_v0:",
    // The stack's number is in the lowest byte, and wraps.
    "shl r12, 8",
    "2:",
    "movzx r13d, r12b",
    "shl r13d, {bits}",
    "add r13, qword ptr [rip + {base}]",
    "lock bts dword ptr [r13], 0",
    "jnc 3f",
    "inc r12b",
    "pause",
    "jmp 2b",
    "3:",
    "shr r12, 8",
    "mov qword ptr [r13 + 8], rsp",
    "mov qword ptr [r13 + 16], rbx",
    "mov qword ptr [r13 + 24], rax",
    "mov qword ptr [r13 + 32], rcx",
    "mov qword ptr [r13 + 40], rdx",
    "mov qword ptr [r13 + 48], rsi",
    "mov qword ptr [r13 + 56], rdi",
    "mov qword ptr [r13 + 64], r8",
    "mov qword ptr [r13 + 72], r9",
    "mov qword ptr [r13 + 80], r10",
    "mov qword ptr [r13 + 88], r11",
    "mov rbx, r13",
    // rt_sigprocmask(SIG_BLOCK, all, where the old ones go, 8)
    "mov eax, 14",
    "xor edi, edi",
    "lea rsi, [rip + 5f]",
    "lea rdx, [rbx + 96]",
    "mov r10d, 8",
    "syscall",
    "lea rsp, [rbx + {stack} - 256]",
    ".irp n, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15",
    "movaps xmmword ptr [rsp + 16 * \\n], xmm\\n",
    ".endr",
    "cld",
    "mov rdi, r12",
    "mov rsi, qword ptr [rbx + 8]",
    "mov rdx, r14",
    "call {entry}",
    "mov r12, rax",
    ".irp n, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15",
    "movaps xmm\\n, xmmword ptr [rsp + 16 * \\n]",
    ".endr",
    "mov rsp, qword ptr [rbx + 8]",
    // rt_sigprocmask(SIG_SETMASK, those, none, 8)
    "mov eax, 14",
    "mov edi, 2",
    "lea rsi, [rbx + 96]",
    "xor edx, edx",
    "mov r10d, 8",
    "syscall",
    "mov r13, rbx",
    "mov rbx, qword ptr [r13 + 16]",
    "mov rax, qword ptr [r13 + 24]",
    "mov rcx, qword ptr [r13 + 32]",
    "mov rdx, qword ptr [r13 + 40]",
    "mov rsi, qword ptr [r13 + 48]",
    "mov rdi, qword ptr [r13 + 56]",
    "mov r8, qword ptr [r13 + 64]",
    "mov r9, qword ptr [r13 + 72]",
    "mov r10, qword ptr [r13 + 80]",
    "mov r11, qword ptr [r13 + 88]",
    "mov dword ptr [r13], 0",
    "jmp r12",
    ".size __trapline_uprobe_switching_entry_v0, . - __trapline_uprobe_switching_entry_v0",
    ".balign 8",
    "5:",
    ".quad -1",
    ".popsection",
    bits = const STACK_BITS,
    stack = const STACK,
    base = sym BASE,
    entry = sym slow_path::entry_elsewhere,
);
