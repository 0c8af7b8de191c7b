//! The way from the hit path to [`crate::cold`] and back: saves every general register and the low halves of the vector registers. Their upper parts are left alone by code for plain x86-64, which
//! this crate's is; what calls others' code saves them ([`with_all_vectors`](super::consumer::with_all_vectors)). Needs less than 1 KiB of stack but for that, for handlers run on small ones.
//!
//! `cold_entry(site)` comes in as the [entry routines](super::entry) do: the site's number pushed, and in the careful variant rsp moved below the red zone before. It leaves for the new
//! instance's stub with rsp = slot + 8, or for the site's `resume` with the number popped. `cold_return` comes in as the [return routines](super::exit) do and returns to the caller.
#![allow(unsafe_code)]

use crate::cold;
use core::arch::global_asm;

unsafe extern "C" {
    #[link_name = "__trapline_uprobe_cold_entry_v0"]
    static COLD_ENTRY: u8;
    #[link_name = "__trapline_uprobe_cold_entry_careful_v0"]
    static COLD_ENTRY_CAREFUL: u8;
}

/// Address of the routine for stubs' cold tails.
pub(crate) fn routine(skips_red_zone: bool) -> u64 {
    let address = if skips_red_zone { &raw const COLD_ENTRY_CAREFUL } else { &raw const COLD_ENTRY };
    address.addr() as u64
}

global_asm!(
    ".macro __trapline_cold_push register",
    "push \\register",
    ".cfi_adjust_cfa_offset 8",
    ".cfi_rel_offset \\register, 0",
    ".endm",
    ".macro __trapline_cold_pop register",
    "pop \\register",
    ".cfi_adjust_cfa_offset -8",
    ".cfi_restore \\register",
    ".endm",
    "",
    // Saves all, calls, restores the vector registers; if the result is true, goes to `branch`.
    ".macro __trapline_cold_call function, branch",
    "pushfq",
    ".cfi_adjust_cfa_offset 8",
    "cld",
    ".irp register, r15, r14, r13, r12, r11, r10, r9, r8, rdi, rsi, rbp, rbx, rdx, rcx, rax",
    "__trapline_cold_push \\register",
    ".endr",
    "mov rbx, rsp",
    ".cfi_def_cfa_register rbx",
    "sub rsp, 256",
    "and rsp, -16",
    ".irp n, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15",
    "movaps xmmword ptr [rsp + 16 * \\n], xmm\\n",
    ".endr",
    "mov rdi, rbx",
    "call \\function",
    "movzx r12d, al",
    ".irp n, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15",
    "movaps xmm\\n, xmmword ptr [rsp + 16 * \\n]",
    ".endr",
    "mov rsp, rbx",
    ".cfi_def_cfa_register rsp",
    ".ifnb \\branch",
    "test r12d, r12d",
    "jnz \\branch",
    ".endif",
    ".endm",
    "",
    ".macro __trapline_cold_restore",
    ".irp register, rax, rcx, rdx, rbx, rbp, rsi, rdi, r8, r9, r10, r11, r12, r13, r14, r15",
    "__trapline_cold_pop \\register",
    ".endr",
    "popfq",
    ".cfi_adjust_cfa_offset -8",
    ".endm",
    "",
    ".macro __trapline_cold_entry name, skip",
    ".balign 16",
    ".globl \\name",
    ".hidden \\name",
    ".type \\name,@function",
    "\\name:",
    ".cfi_startproc",
    ".cfi_def_cfa_offset 16 + \\skip",
    "__trapline_cold_call {entry}, 9f",
    ".cfi_remember_state",
    "__trapline_cold_restore",
    "lea rsp, [rsp + 8]",
    ".cfi_adjust_cfa_offset -8",
    "jmp qword ptr [rsp - 8]",
    ".cfi_restore_state",
    "9:",
    "__trapline_cold_restore",
    "lea rsp, [rsp + 16 + \\skip]",
    ".cfi_adjust_cfa_offset -(16 + \\skip)",
    "jmp qword ptr [rsp - 16]",
    ".cfi_endproc",
    ".size \\name, . - \\name",
    ".endm",
    "",
    ".pushsection .text.__trapline_uprobe_cold,\"ax\",@progbits",
    "__trapline_cold_entry __trapline_uprobe_cold_entry_v0, 0",
    "__trapline_cold_entry __trapline_uprobe_cold_entry_careful_v0, 128",
    ".balign 16",
    ".globl __trapline_uprobe_cold_return_v0",
    ".hidden __trapline_uprobe_cold_return_v0",
    ".type __trapline_uprobe_cold_return_v0,@function",
    "__trapline_uprobe_cold_return_v0:",
    ".cfi_startproc",
    ".cfi_def_cfa_offset 16",
    "__trapline_cold_call {exit}",
    "__trapline_cold_restore",
    "pop rax",
    ".cfi_adjust_cfa_offset -8",
    "ret",
    ".cfi_endproc",
    ".size __trapline_uprobe_cold_return_v0, . - __trapline_uprobe_cold_return_v0",
    ".popsection",
    ".purgem __trapline_cold_entry",
    ".purgem __trapline_cold_restore",
    ".purgem __trapline_cold_call",
    ".purgem __trapline_cold_pop",
    ".purgem __trapline_cold_push",
    entry = sym cold::entry,
    exit = sym cold::exit,
);
