//! Filters of system calls that the program is about to install, by `prctl` ([`super::names`] has
//! the probe) or by `syscall`, for which the C library has no other name.
//!
//! `syscall` is the program's way to the C library's, with a few comparisons in between: what takes
//! memory away by it is told to [`super::mappings`]. It leaves no frame behind: what some calls do
//! to the stack (a child of `vfork`, or one with a stack of its own) they do as they would.
#![allow(unsafe_code)]
#![cfg_attr(test, expect(dead_code, reason = "tests keep the C library's own"))]

use super::mappings;
use crate::{bpf, sandbox};
use core::arch::naked_asm;
use libc::{c_long, sock_fprog};
use std::sync::atomic::{AtomicUsize, Ordering};

/// The C library's function.
static REAL: AtomicUsize = AtomicUsize::new(0);

/// Looks it up.
pub(super) fn prepare() {
    // SAFETY: a name that lives through the call.
    let real = unsafe { libc::dlsym(libc::RTLD_NEXT, c"syscall".as_ptr()) };
    REAL.store(real.expose_provenance(), Ordering::Release);
}

/// `syscall(2)`.
///
/// # Safety
/// As there.
#[cfg_attr(not(test), unsafe(no_mangle))]
#[unsafe(naked)]
unsafe extern "C" fn syscall() {
    naked_asm!(
        ".cfi_startproc",
        ".irp number, {seccomp}, {mmap}, {munmap}, {mremap}, {mprotect}, {pkey_mprotect}",
        "cmp rdi, \\number",
        "je 2f",
        ".endr",
        "3:",
        "mov rax, qword ptr [rip + {real}]",
        "test rax, rax",
        "jz 4f",
        "jmp rax",
        "2:",
        // An odd number of them: the stack is aligned then.
        ".irp register, rdi, rsi, rdx, rcx, r8, r9, r9",
        "push \\register",
        ".cfi_adjust_cfa_offset 8",
        ".endr",
        // The number and the first five arguments are where a function expects six.
        "call {seen}",
        ".irp register, r9, r9, r8, rcx, rdx, rsi, rdi",
        "pop \\register",
        ".cfi_adjust_cfa_offset -8",
        ".endr",
        "jmp 3b",
        // Before the constructor: as the C library does it, but for `errno`.
        "4:",
        "mov rax, rdi",
        "mov rdi, rsi",
        "mov rsi, rdx",
        "mov rdx, rcx",
        "mov r10, r8",
        "mov r8, r9",
        "mov r9, qword ptr [rsp + 8]",
        "syscall",
        "cmp rax, -4095",
        "jb 5f",
        "or rax, -1",
        "5:",
        "ret",
        ".cfi_endproc",
        seccomp = const libc::SYS_seccomp,
        mmap = const libc::SYS_mmap,
        munmap = const libc::SYS_munmap,
        mremap = const libc::SYS_mremap,
        mprotect = const libc::SYS_mprotect,
        pkey_mprotect = const libc::SYS_pkey_mprotect,
        real = sym REAL,
        seen = sym seen,
    )
}

/// One of these system calls is about to be made.
extern "C" fn seen(number: c_long, a: usize, b: usize, c: usize, d: usize, e: usize) {
    if number == libc::SYS_seccomp {
        // The operation, flags, and the filter.
        match a as libc::c_uint {
            libc::SECCOMP_SET_MODE_STRICT => sandbox::enter(None),
            libc::SECCOMP_SET_MODE_FILTER => filtered(std::ptr::with_exposed_provenance(c)),
            _ => {}
        }
    } else {
        mappings::about_to(number, [a, b, c, d, e, 0]);
    }
}

/// `prctl(2)` is about to be called with `PR_SET_SECCOMP` and these arguments.
pub(super) fn by_prctl(mode: u64, filter: u64) {
    match mode as libc::c_uint {
        libc::SECCOMP_MODE_STRICT => sandbox::enter(None),
        libc::SECCOMP_MODE_FILTER => {
            filtered(std::ptr::with_exposed_provenance(filter as usize));
        }
        _ => {}
    }
}

fn filtered(filter: *const sock_fprog) {
    // Programs ask so whether the kernel knows filters: it looks at the place, and fails.
    if uprobe::readable(filter.addr() as u64) {
        // SAFETY: readable, and the kernel reads it next.
        let instructions = unsafe { bpf::instructions(filter) };
        if !instructions.is_empty() {
            sandbox::enter(Some(instructions));
        }
    }
}
