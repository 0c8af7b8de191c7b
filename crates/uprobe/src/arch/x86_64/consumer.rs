//! The way to consumers and back: every general register, the flags and the low halves of the vector registers by plain stores into a [`Context`].
//!
//! The upper parts of the vector registers need no saving for code that uses SSE only, which leaves them alone; consumers that cannot promise that are called through
//! [`with_all_vectors`], which saves the whole of them. (Asking the processor what is in use costs 13 ns, more than the stores it would save on most machines; `xsave` costs 115.)
//!
//! `call_entry(site)` comes in and leaves as the [cold entry](super::cold) does, `return_call` as the [return routines](super::exit).
#![allow(unsafe_code)]

use super::vector::MASK;
use crate::{consumer, kernel, signals};
use core::arch::global_asm;
use core::cell::UnsafeCell;
use core::ptr;
use core::sync::atomic::{AtomicU32, Ordering};

unsafe extern "C" {
    #[link_name = "__trapline_uprobe_call_entry_v0"]
    static CALL_ENTRY: u8;
    #[link_name = "__trapline_uprobe_call_entry_careful_v0"]
    static CALL_ENTRY_CAREFUL: u8;
    #[link_name = "__trapline_uprobe_with_all_vectors_v0"]
    fn all_vectors(f: extern "C" fn(*mut ()), argument: *mut (), area: *mut Area, stack: *mut u8);
}

/// Address of the routine for the stubs of sites with consumers.
pub(crate) fn routine(skips_red_zone: bool) -> u64 {
    let address = if skips_red_zone { &raw const CALL_ENTRY_CAREFUL } else { &raw const CALL_ENTRY };
    address.addr() as u64
}

/// Calls `f` with all vector registers saved around it, mask registers included: 2 KiB of stack. (By reference: moving a closure may be a call of `memcpy`.)
#[inline]
pub(crate) fn with_all_vectors(f: &mut impl FnMut()) {
    call(f, ptr::null_mut(), ptr::null_mut());
}

/// The same, saved elsewhere if a place is free: for cold paths, which may run on a signal stack of a few KiB.
pub(crate) fn with_all_vectors_elsewhere(f: &mut impl FnMut()) {
    match Area::take() {
        None => with_all_vectors(f),
        Some(area) => {
            call(f, ptr::from_ref(area).cast_mut(), ptr::null_mut());
            area.give_back();
        }
    }
}

/// The same, and `f` runs on a stack of its own, if a place is free: for what needs more than a signal stack or a coroutine's has. Signals are blocked, but for those that breakpoints send.
pub(crate) fn with_all_vectors_and_stack_elsewhere(f: &mut impl FnMut()) {
    match Area::take() {
        None => with_all_vectors(f),
        Some(area) => {
            let top = area.stack.get().wrapping_add(1).cast::<u8>();
            let on_signal_stack = signals::stack::in_use();
            let mut f = || {
                // The kernel tells by the stack pointer whether the signal stack is in use: a breakpoint's handler would overwrite it.
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

/// Bytes of a stack for a cold path: reading an unwind table takes 6 KiB of it, and several times as much without optimisation. What is never touched is no memory.
const STACK: usize = 64 << 10;

/// Where vector registers are saved, and a cold path has its stack.
#[repr(C, align(64))]
struct Area {
    registers: UnsafeCell<[u8; 2112]>,
    stack: UnsafeCell<[u8; STACK]>,
    taken: AtomicU32,
}

// SAFETY: all bytes are accessed by the assembly, and by what it calls, on behalf of whoever has set `taken`.
unsafe impl Sync for Area {}

impl Area {
    fn take() -> Option<&'static Self> {
        // Acquire pairs with the Release below; contents do not matter, but two owners would.
        AREAS.iter().find(|area| area.taken.compare_exchange(0, 1, Ordering::Acquire, Ordering::Relaxed).is_ok())
    }

    fn give_back(&self) {
        self.taken.store(0, Ordering::Release);
    }
}

/// As many as there can be threads in such a cold path at once, or nearly.
static AREAS: [Area; 32] =
    [const { Area { registers: UnsafeCell::new([0; 2112]), stack: UnsafeCell::new([0; STACK]), taken: AtomicU32::new(0) } }; 32];

#[inline]
fn call<F: FnMut()>(f: &mut F, area: *mut Area, stack: *mut u8) {
    extern "C" fn run<F: FnMut()>(f: *mut ()) {
        // SAFETY: `call` passes its closure, which nobody else uses meanwhile.
        let f = unsafe { &mut *f.cast::<F>() };
        f();
    }
    // SAFETY: the routine calls the function with the argument, once, and preserves what a function has to; area and stack are null or the caller's.
    unsafe { all_vectors(run::<F>, ptr::from_mut(f).cast(), area, stack) };
}

global_asm!(
    // Makes room for the context below the word at rsp, which is at [rbx + 416] afterwards, and fills it. `sp`: distance of the program's rsp from that word.
    ".macro __trapline_context_save sp",
    "lea rsp, [rsp - 272]",
    ".cfi_adjust_cfa_offset 272",
    "pushfq",
    ".cfi_adjust_cfa_offset 8",
    "lea rsp, [rsp - 136]",
    ".cfi_adjust_cfa_offset 136",
    "mov qword ptr [rsp + 24], rbx",
    ".cfi_rel_offset rbx, 24",
    "mov rbx, rsp",
    ".cfi_def_cfa_register rbx",
    "mov qword ptr [rbx], rax",
    "mov qword ptr [rbx + 8], rcx",
    "mov qword ptr [rbx + 16], rdx",
    "lea rax, [rbx + 416 + \\sp]",
    "mov qword ptr [rbx + 32], rax",
    "mov qword ptr [rbx + 40], rbp",
    "mov qword ptr [rbx + 48], rsi",
    "mov qword ptr [rbx + 56], rdi",
    "mov qword ptr [rbx + 64], r8",
    "mov qword ptr [rbx + 72], r9",
    "mov qword ptr [rbx + 80], r10",
    "mov qword ptr [rbx + 88], r11",
    "mov qword ptr [rbx + 96], r12",
    "mov qword ptr [rbx + 104], r13",
    "mov qword ptr [rbx + 112], r14",
    "mov qword ptr [rbx + 120], r15",
    ".irp n, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15",
    "movups xmmword ptr [rbx + 160 + 16 * \\n], xmm\\n",
    ".endr",
    "and rsp, -16",
    "cld",
    "mov rdi, rbx",
    ".endm",
    "",
    // Puts everything back but rsp, which is left at the context.
    ".macro __trapline_context_load",
    ".irp n, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15",
    "movups xmm\\n, xmmword ptr [rbx + 160 + 16 * \\n]",
    ".endr",
    "mov rsp, rbx",
    ".cfi_def_cfa_register rsp",
    // The direction flag, which was cleared for the consumer.
    "test dword ptr [rsp + 136], 0x400",
    "jz 77f",
    "std",
    "77:",
    "mov ecx, dword ptr [rsp + 136]",
    "mov eax, ecx",
    "shl eax, 8",
    "shr ecx, 11",
    "and ecx, 1",
    "mov al, cl",
    "mov rcx, qword ptr [rsp + 8]",
    "mov rdx, qword ptr [rsp + 16]",
    "mov rbx, qword ptr [rsp + 24]",
    ".cfi_restore rbx",
    "mov rbp, qword ptr [rsp + 40]",
    "mov rsi, qword ptr [rsp + 48]",
    "mov rdi, qword ptr [rsp + 56]",
    "mov r8, qword ptr [rsp + 64]",
    "mov r9, qword ptr [rsp + 72]",
    "mov r10, qword ptr [rsp + 80]",
    "mov r11, qword ptr [rsp + 88]",
    "mov r12, qword ptr [rsp + 96]",
    "mov r13, qword ptr [rsp + 104]",
    "mov r14, qword ptr [rsp + 112]",
    "mov r15, qword ptr [rsp + 120]",
    "add al, 0x7f",
    "sahf",
    "mov rax, qword ptr [rsp]",
    ".endm",
    "",
    ".macro __trapline_call_entry name, skip",
    ".balign 64",
    ".globl \\name",
    ".hidden \\name",
    ".type \\name,@function",
    "\\name:",
    ".cfi_startproc",
    ".cfi_def_cfa_offset 16 + \\skip",
    "__trapline_context_save 8 + \\skip",
    "mov esi, dword ptr [rbx + 416]",
    "call {entry}",
    "test dl, dl",
    ".cfi_remember_state",
    "jnz 9f",
    "mov qword ptr [rbx + 416], rax",
    "__trapline_context_load",
    "lea rsp, [rsp + 416 + 8]",
    ".cfi_adjust_cfa_offset -(416 + 8)",
    "jmp qword ptr [rsp - 8]",
    ".cfi_restore_state",
    "9:",
    // The address of the stub, below the slot.
    "mov qword ptr [rbx + 416 + \\skip], rax",
    "__trapline_context_load",
    "lea rsp, [rsp + 416 + 16 + \\skip]",
    ".cfi_adjust_cfa_offset -(416 + 16 + \\skip)",
    "jmp qword ptr [rsp - 16]",
    ".cfi_endproc",
    ".size \\name, . - \\name",
    ".endm",
    "",
    ".pushsection .text.__trapline_uprobe_consumer,\"ax\",@progbits",
    "__trapline_call_entry __trapline_uprobe_call_entry_v0, 0",
    "__trapline_call_entry __trapline_uprobe_call_entry_careful_v0, 128",
    "",
    ".balign 64",
    ".globl __trapline_uprobe_return_call_v0",
    ".hidden __trapline_uprobe_return_call_v0",
    ".type __trapline_uprobe_return_call_v0,@function",
    "__trapline_uprobe_return_call_v0:",
    ".cfi_startproc",
    ".cfi_def_cfa_offset 16",
    "__trapline_context_save 16",
    // rax is what the stub pushed; the record is what came in rax.
    "mov rsi, qword ptr [rbx]",
    "mov rax, qword ptr [rbx + 416]",
    "mov qword ptr [rbx], rax",
    "call {exit}",
    "__trapline_context_load",
    "lea rsp, [rsp + 416 + 8]",
    ".cfi_adjust_cfa_offset -(416 + 8)",
    "ret",
    ".cfi_endproc",
    ".size __trapline_uprobe_return_call_v0, . - __trapline_uprobe_return_call_v0",
    "",
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
    ".irp n, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17, 18, 19, 20, 21, 22, 23, 24, 25, 26, 27, 28, 29, 30, 31",
    "vmovaps zmmword ptr [r12 + 64 * \\n], zmm\\n",
    ".endr",
    ".irp n, 0, 1, 2, 3, 4, 5, 6, 7",
    "kmovq qword ptr [r12 + 2048 + 8 * \\n], k\\n",
    ".endr",
    "call r8",
    ".irp n, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17, 18, 19, 20, 21, 22, 23, 24, 25, 26, 27, 28, 29, 30, 31",
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
    ".purgem __trapline_call_entry",
    ".purgem __trapline_context_load",
    ".purgem __trapline_context_save",
    entry = sym consumer::entered,
    exit = sym consumer::returned,
    mask = sym MASK,
);
