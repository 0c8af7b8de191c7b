//! Saves the whole of the vector registers around Rust code that may use them: that of consumers
//! which do not promise otherwise, and that of the C library in slow paths.
#![allow(unsafe_code)]

use super::vector::MASK;
use crate::kernel;
use crate::sealed;
use crate::signals::stack;
use core::arch::global_asm;
use core::cell::UnsafeCell;
use core::ptr;
use core::sync::atomic::{AtomicU32, Ordering};

unsafe extern "C" {
    #[link_name = "__trapline_uprobe_with_all_vectors_v0"]
    fn all_vectors(f: extern "C" fn(*mut ()), argument: *mut (), area: *mut Area, stack: *mut u8);
}

/// Calls `f` with all vector registers saved around it, mask registers included: 2 KiB of stack.
/// (By reference: moving a closure may be a call of `memcpy`.)
#[inline]
pub(crate) fn with_all_vectors(f: &mut impl FnMut()) {
    call(f, ptr::null_mut(), ptr::null_mut());
}

/// The same, saved elsewhere if a place is free: for slow paths, which may run on a signal stack of
/// a few KiB.
pub(crate) fn with_all_vectors_elsewhere(f: &mut impl FnMut()) {
    match Area::take() {
        None => with_all_vectors(f),
        Some(area) => {
            call(f, ptr::from_ref(area).cast_mut(), ptr::null_mut());
            area.give_back();
        }
    }
}

/// The same, and `f` runs on a stack of its own, if a place is free: for what needs more than a
/// signal stack or a coroutine's has. Signals are blocked, but for those that breakpoints send.
pub(crate) fn with_all_vectors_and_stack_elsewhere(f: &mut impl FnMut()) {
    if stack::in_use() && sealed::is_sealed() {
        // The signal stack cannot be taken away.
        return with_all_vectors_elsewhere(f);
    }
    match Area::take() {
        None => with_all_vectors(f),
        Some(area) => {
            let top = area.stack.get().wrapping_add(1).cast::<u8>();
            let on_signal_stack = stack::in_use();
            let mut f = || {
                // The kernel tells by the stack pointer whether the signal stack is in use: a
                // breakpoint's handler would overwrite it.
                let kept = on_signal_stack.then(kernel::take_signal_stack);
                f();
                if let Some(kept) = kept {
                    kernel::put_signal_stack(&kept);
                }
            };
            call(&mut f, ptr::from_ref(area).cast_mut(), top);
            area.give_back();
        }
    }
}

/// Bytes of a stack for a slow path: reading an unwind table takes 6 KiB of it, and several times
/// as much without optimisation. What is never touched is no memory.
const STACK: usize = 64 << 10;

/// Where vector registers are saved, and a slow path has its stack.
#[repr(C, align(64))]
struct Area {
    registers: UnsafeCell<[u8; 2112]>,
    stack: UnsafeCell<[u8; STACK]>,
    taken: AtomicU32,
}

// SAFETY: all bytes are accessed by the assembly, and by what it calls, on behalf of whoever has
// set `taken`.
unsafe impl Sync for Area {}

impl Area {
    fn take() -> Option<&'static Self> {
        // Acquire pairs with the Release below; contents do not matter, but two owners would.
        AREAS.iter().find(|area| {
            area.taken.compare_exchange(0, 1, Ordering::Acquire, Ordering::Relaxed).is_ok()
        })
    }

    fn give_back(&self) {
        self.taken.store(0, Ordering::Release);
    }
}

/// As many as there can be threads in such a slow path at once, or nearly.
static AREAS: [Area; 32] = [const {
    Area {
        registers: UnsafeCell::new([0; 2112]),
        stack: UnsafeCell::new([0; STACK]),
        taken: AtomicU32::new(0),
    }
}; 32];

#[inline]
fn call<F: FnMut()>(f: &mut F, area: *mut Area, stack: *mut u8) {
    extern "C" fn run<F: FnMut()>(f: *mut ()) {
        // SAFETY: `call` passes its closure, which nobody else uses meanwhile.
        let f = unsafe { &mut *f.cast::<F>() };
        f();
    }
    // SAFETY: the routine calls the function with the argument, once, and preserves what a function
    // has to; area and stack are null or the caller's.
    unsafe { all_vectors(run::<F>, ptr::from_mut(f).cast(), area, stack) };
}

global_asm!(
    ".pushsection .text.__trapline_uprobe_consumer,\"ax\",@progbits",
    // with_all_vectors(function, argument, area, stack): area 0: on the stack; stack 0: this one.
    ".balign 16",
    ".globl __trapline_uprobe_with_all_vectors_v0",
    ".hidden __trapline_uprobe_with_all_vectors_v0",
    ".type __trapline_uprobe_with_all_vectors_v0,@function",
    "__trapline_uprobe_with_all_vectors_v0:",
    ".cfi_startproc",
    "push rbx",
    ".cfi_adjust_cfa_offset 8",
    ".cfi_rel_offset rbx, 0",
    "push r12",
    ".cfi_adjust_cfa_offset 8",
    ".cfi_rel_offset r12, 0",
    "mov rbx, rsp",
    ".cfi_def_cfa_register rbx",
    "mov eax, dword ptr [rip + {mask}]",
    "mov r8, rdi",
    "mov rdi, rsi",
    "mov r12, rdx",
    "test rdx, rdx",
    "jnz 1f",
    "sub rsp, 2112",
    "and rsp, -64",
    "mov r12, rsp",
    "1:",
    "test rcx, rcx",
    "jz 5f",
    "mov rsp, rcx",
    "5:",
    "and rsp, -16",
    "test al, 0x80",
    "jnz 3f",
    "test al, 4",
    "jnz 2f",
    // The low halves of 0 to 15 are saved already.
    "call r8",
    "jmp 4f",
    "2:",
    ".irp n, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15",
    "vmovaps ymmword ptr [r12 + 32 * \\n], ymm\\n",
    ".endr",
    "call r8",
    ".irp n, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15",
    "vmovaps ymm\\n, ymmword ptr [r12 + 32 * \\n]",
    ".endr",
    "jmp 4f",
    "3:",
    ".irp n, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17, 18, 19, 20, 21, 22, \
        23, 24, 25, 26, 27, 28, 29, 30, 31",
    "vmovaps zmmword ptr [r12 + 64 * \\n], zmm\\n",
    ".endr",
    ".irp n, 0, 1, 2, 3, 4, 5, 6, 7",
    "kmovq qword ptr [r12 + 2048 + 8 * \\n], k\\n",
    ".endr",
    "call r8",
    ".irp n, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17, 18, 19, 20, 21, 22, \
        23, 24, 25, 26, 27, 28, 29, 30, 31",
    "vmovaps zmm\\n, zmmword ptr [r12 + 64 * \\n]",
    ".endr",
    ".irp n, 0, 1, 2, 3, 4, 5, 6, 7",
    "kmovq k\\n, qword ptr [r12 + 2048 + 8 * \\n]",
    ".endr",
    "4:",
    "mov rsp, rbx",
    ".cfi_def_cfa_register rsp",
    "pop r12",
    ".cfi_adjust_cfa_offset -8",
    ".cfi_restore r12",
    "pop rbx",
    ".cfi_adjust_cfa_offset -8",
    ".cfi_restore rbx",
    "ret",
    ".cfi_endproc",
    ".size __trapline_uprobe_with_all_vectors_v0, . - __trapline_uprobe_with_all_vectors_v0",
    ".popsection",
    mask = sym MASK,
);
