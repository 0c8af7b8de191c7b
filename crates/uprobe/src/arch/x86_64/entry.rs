//! The code behind a stub's prologue that makes a return instance.
//!
//! It comes in with the site's number pushed (careful variants: rsp was moved below the red zone first, and the flags are kept), every register as the program has it:
//!
//! ```text
//! entry(site):
//!     state = thread's; none (or the engine is at work): cold_entry
//!     [careful] the slot holds a stub of this very site, whose function branches back to its first byte: resume
//!   again:
//!     word = state.word; n = word.free; t = word.top; none free: cold_entry
//!     t.slot > slot: parent = t            the usual nesting; a chunk's header has the highest slot
//!     t.slot = slot, [slot] = t's stub:    a tail call: parent = t, one longer chain
//!     else: cold_entry
//!     n = {target, orig_ra: [slot], on_return, slot | TRANSIT, parent, child: 0, cell, site}
//!     compare-and-swap word: (top: n, free: n.next_free), or again
//!     [slot] = n's stub + 6; n.slot = slot
//!     cell.calls += 1; [clock] n.start = time stamp
//!     restore; rsp = slot + 8; jump to n's stub
//! ```
//!
//! A handler that interrupts it anywhere finds the lists whole: until the compare-and-swap `n` is free and may be used by the handler, after which that fails; afterwards `n` is in
//! transit, which nobody collects, and then active.
#![allow(unsafe_code)]

use super::tls;
use crate::instance::{Record, TRANSIT};
use crate::site_table::{LOOPS, SITES, Site};
use crate::thread::State;
use core::arch::global_asm;
use core::mem::offset_of;

unsafe extern "C" {
    #[link_name = "__trapline_uprobe_entry_time_v0"]
    static ENTRY_TIME: u8;
    #[link_name = "__trapline_uprobe_entry_time_careful_v0"]
    static ENTRY_TIME_CAREFUL: u8;
    #[link_name = "__trapline_uprobe_entry_pair_v0"]
    static ENTRY_PAIR: u8;
    #[link_name = "__trapline_uprobe_entry_pair_careful_v0"]
    static ENTRY_PAIR_CAREFUL: u8;
}

/// Address of the variant: with a clock or without, careful (keeps flags and red zone, knows branches back to byte 0) or plain.
pub(crate) fn routine(clock: bool, careful: bool) -> u64 {
    let address = match (clock, careful) {
        (true, false) => &raw const ENTRY_TIME,
        (true, true) => &raw const ENTRY_TIME_CAREFUL,
        (false, false) => &raw const ENTRY_PAIR,
        (false, true) => &raw const ENTRY_PAIR_CAREFUL,
    };
    address.addr() as u64
}

const _: () = assert!(TRANSIT == 1, "the assembly adds it with lea");
const _: () = assert!(offset_of!(State, word) == 0, "the assembly reads the word at the state's address");

global_asm!(
    // Puts the registers back. Leaves rsp at the site's number.
    ".macro __trapline_entry_restore careful",
    ".if \\careful",
    "pop rax",
    ".cfi_adjust_cfa_offset -8",
    "add al, 0x7f",
    "sahf",
    ".endif",
    "pop r8",
    ".cfi_adjust_cfa_offset -8",
    "pop rdi",
    ".cfi_adjust_cfa_offset -8",
    "pop rsi",
    ".cfi_adjust_cfa_offset -8",
    "pop rdx",
    ".cfi_adjust_cfa_offset -8",
    "pop rcx",
    ".cfi_adjust_cfa_offset -8",
    "pop rax",
    ".cfi_adjust_cfa_offset -8",
    ".endm",
    "",
    ".macro __trapline_entry name, clock, careful, cold, returns",
    ".balign 64",
    ".globl \\name",
    ".hidden \\name",
    ".type \\name,@function",
    "\\name:",
    ".cfi_startproc",
    ".cfi_def_cfa_offset 16 + 128 * \\careful",
    "push rax",
    ".cfi_adjust_cfa_offset 8",
    "push rcx",
    ".cfi_adjust_cfa_offset 8",
    "push rdx",
    ".cfi_adjust_cfa_offset 8",
    "push rsi",
    ".cfi_adjust_cfa_offset 8",
    "push rdi",
    ".cfi_adjust_cfa_offset 8",
    "push r8",
    ".cfi_adjust_cfa_offset 8",
    ".if \\careful",
    "lahf",
    "seto al",
    "push rax",
    ".cfi_adjust_cfa_offset 8",
    ".endif",
    ".set .Lnumber\\@, 48 + 8 * \\careful",
    ".set .Lslot\\@, 56 + 136 * \\careful",
    "mov rcx, qword ptr [rip + __trapline_uprobe_tls_v0@GOTTPOFF]",
    "mov rcx, qword ptr fs:[rcx + {tls_state}]",
    "test rcx, rcx",
    "jz 8f",
    ".if \\careful",
    // A stub's address in the slot, and its site is this one?
    "mov rsi, qword ptr [rsp + .Lslot\\@]",
    "lea rdi, [rip + __trapline_uprobe_code_v0]",
    "sub rsi, rdi",
    "cmp rsi, 0x1000000",
    "jae 2f",
    "and rsi, -64",
    "lea rdi, [rip + __trapline_uprobe_records_v0]",
    "mov eax, dword ptr [rsp + .Lnumber\\@]",
    "cmp eax, dword ptr [rdi + rsi + {r_site}]",
    "je 7f",
    ".endif",
    "2:",
    "mov rax, qword ptr [rcx]",
    "lea rdi, [rip + __trapline_uprobe_records_v0]",
    "mov edx, eax",
    "and edx, 0xffffff",
    "jz 8f",
    "mov rsi, rax",
    "shr rsi, 24",
    "and esi, 0xffffff",
    "lea r8, [rsp + .Lslot\\@]",
    "cmp qword ptr [rdi + rsi + {r_slot}], r8",
    "jbe 6f",
    "3:",
    "add rdx, rdi",
    "mov dword ptr [rdx + {r_parent}], esi",
    "lea r8, [rsp + .Lslot\\@ + 1]",
    "mov qword ptr [rdx + {r_slot}], r8",
    "mov rsi, qword ptr [rsp + .Lslot\\@]",
    "mov qword ptr [rdx + {r_orig_ra}], rsi",
    "mov esi, dword ptr [rsp + .Lnumber\\@]",
    "shl rsi, 6",
    "add rsi, qword ptr [rip + {sites}]",
    "mov r8, qword ptr [rsi + {s_body}]",
    "mov qword ptr [rdx + {r_target}], r8",
    "mov r8, qword ptr [rsi + {s_cell}]",
    "mov qword ptr [rdx + {r_cell}], r8",
    "lea r8, [rip + \\returns]",
    "mov qword ptr [rdx + {r_on_return}], r8",
    "mov qword ptr [rdx + {r_child}], 0",
    "mov r8, rdx",
    "sub r8, rdi",
    "mov rsi, rax",
    "shr rsi, 48",
    "inc esi",
    "shl rsi, 24",
    "or rsi, r8",
    "shl rsi, 24",
    "mov r8d, dword ptr [rdx + {r_next_free}]",
    "or rsi, r8",
    "cmpxchg qword ptr [rcx], rsi",
    "jnz 2b",
    "lea rsi, [rdx - 0x1000000]",
    "lea rdi, [rsi + 6]",
    "mov qword ptr [rsp + .Lslot\\@], rdi",
    "lea r8, [rsp + .Lslot\\@]",
    "mov qword ptr [rdx + {r_slot}], r8",
    // Where the last instruction will find it: below the slot, within what signals leave alone.
    "mov qword ptr [rsp + .Lslot\\@ - 8], rsi",
    "mov esi, dword ptr [rdx + {r_cell}]",
    "add rsi, qword ptr [rcx + {t_block}]",
    "inc qword ptr [rsi + {c_calls}]",
    ".if \\clock",
    "mov rdi, rdx",
    "rdtsc",
    "shl rdx, 32",
    "or rax, rdx",
    "mov qword ptr [rdi + {r_start}], rax",
    ".endif",
    ".cfi_remember_state",
    "__trapline_entry_restore \\careful",
    "lea rsp, [rsp + 16 + 128 * \\careful]",
    ".cfi_adjust_cfa_offset -(16 + 128 * \\careful)",
    "jmp qword ptr [rsp - 16]",
    ".cfi_restore_state",
    "",
    // The newest instance is not below: a tail call?
    "6:",
    ".cfi_remember_state",
    "jne 8f",
    "lea r8, [rdi + rsi - 0x1000000 + 6]",
    "cmp r8, qword ptr [rsp + .Lslot\\@]",
    "jne 8f",
    "mov r8d, dword ptr [rdi + rsi + {r_parent}]",
    "shr r8d, 24",
    "inc r8d",
    "cmp r8d, {max_chain}",
    "jae 8f",
    "shl r8d, 24",
    "or esi, r8d",
    "jmp 3b",
    "",
    ".if \\careful",
    // The same call: on with it.
    "7:",
    "mov eax, dword ptr [rsp + .Lnumber\\@]",
    "shl rax, 6",
    "add rax, qword ptr [rip + {sites}]",
    "test dword ptr [rax + {s_flags}], {loops}",
    "jz 2b",
    "mov rax, qword ptr [rax + {s_resume}]",
    "mov qword ptr [rsp + .Lnumber\\@], rax",
    "__trapline_entry_restore 1",
    "lea rsp, [rsp + 8]",
    ".cfi_adjust_cfa_offset -8",
    "jmp qword ptr [rsp - 8]",
    ".cfi_restore_state",
    ".cfi_remember_state",
    ".endif",
    "",
    "8:",
    "__trapline_entry_restore \\careful",
    "jmp \\cold",
    ".cfi_restore_state",
    ".cfi_endproc",
    ".size \\name, . - \\name",
    ".endm",
    "",
    ".pushsection .text.__trapline_uprobe_entry,\"ax\",@progbits",
    "__trapline_entry __trapline_uprobe_entry_time_v0, 1, 0, __trapline_uprobe_cold_entry_v0, __trapline_uprobe_return_time_v0",
    "__trapline_entry __trapline_uprobe_entry_time_careful_v0, 1, 1, __trapline_uprobe_cold_entry_careful_v0, __trapline_uprobe_return_time_v0",
    "__trapline_entry __trapline_uprobe_entry_pair_v0, 0, 0, __trapline_uprobe_cold_entry_v0, __trapline_uprobe_return_pair_v0",
    "__trapline_entry __trapline_uprobe_entry_pair_careful_v0, 0, 1, __trapline_uprobe_cold_entry_careful_v0, __trapline_uprobe_return_pair_v0",
    ".popsection",
    ".purgem __trapline_entry",
    ".purgem __trapline_entry_restore",
    tls_state = const tls::STATE,
    r_target = const offset_of!(Record, target),
    r_orig_ra = const offset_of!(Record, orig_ra),
    r_on_return = const offset_of!(Record, on_return),
    r_slot = const offset_of!(Record, slot),
    r_start = const offset_of!(Record, start),
    r_child = const offset_of!(Record, child),
    r_cell = const offset_of!(Record, cell),
    r_site = const offset_of!(Record, site),
    r_parent = const offset_of!(Record, parent),
    r_next_free = const offset_of!(Record, next_free),
    s_body = const offset_of!(Site, body),
    s_cell = const offset_of!(Site, cell),
    s_resume = const offset_of!(Site, resume),
    t_block = const offset_of!(State, block),
    c_calls = const wire::cell::CALLS,
    s_flags = const offset_of!(Site, flags),
    loops = const LOOPS,
    max_chain = const crate::instance::MAX_CHAIN,
    sites = sym SITES,
);
