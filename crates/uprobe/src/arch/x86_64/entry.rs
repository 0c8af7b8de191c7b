//! The code behind a stub's prologue that makes a return instance.
//!
//! It comes in with the site's number pushed (careful variants: rsp was moved below the red zone
//! first, and the flags are kept), every register as the program has it:
//!
//! ```text
//! entry(site):
//!     state = thread's; none, or critical: slow_entry
//!     state.critical = 1
//!     [careful] the slot holds a stub of this very site, whose function branches back to its
//!               first byte: resume
//!     n = state.free; t = state.top; none free: slow_entry
//!     t.slot > slot: parent = t          the usual nesting; a chunk's header has the highest slot
//!     t.slot = slot, [slot] = t's stub:    a tail call: parent = t, one longer chain
//!     else: slow_entry
//!     state.free = n.next_free; state.top = n
//!     n = {target, orig_ra: [slot], on_return, slot, parent, child: 0, cell, site}
//!     [slot] = n's stub + 6
//!     cell.calls += 1
//!     [clock] n.before = cell.active; cell.active = n       (in the place of n.next_free)
//!     state.critical = 0; thread's = state
//!     [clock] n.start = time stamp
//!     restore; rsp = slot + 8; jump to n's stub
//! ```
//!
//! A handler that interrupts it while `critical` is set finds that in its first hit, and goes on
//! with another state of the thread ([`crate::thread_state`]).
#![allow(unsafe_code)]

use super::tls::{self, load_place, load_state, state};
use crate::instance::Record;
use crate::site_table::{LOOPS, SITES, Site};
use crate::thread_state::State;
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

/// Address of the variant: with a clock or without, careful (keeps flags and red zone, knows
/// branches back to byte 0) or plain.
pub(crate) fn routine(clock: bool, careful: bool) -> u64 {
    let address = match (clock, careful) {
        (true, false) => &raw const ENTRY_TIME,
        (true, true) => &raw const ENTRY_TIME_CAREFUL,
        (false, false) => &raw const ENTRY_PAIR,
        (false, true) => &raw const ENTRY_PAIR_CAREFUL,
    };
    address.addr() as u64
}

global_asm!(
    // Puts the registers back. Leaves rsp at the site's number.
    ".macro __trapline_entry_restore careful",
    ".if \\careful",
    "pop rax",
    ".cfi_adjust_cfa_offset -8",
    "add al, 0x7f",
    "sahf",
    ".endif",
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
    ".macro __trapline_entry name, clock, careful, slow, returns",
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
    ".if \\careful",
    "lahf",
    "seto al",
    "push rax",
    ".cfi_adjust_cfa_offset 8",
    ".endif",
    ".set .Lnumber\\@, 40 + 8 * \\careful",
    ".set .Lslot\\@, 48 + 136 * \\careful",
    load_state!("rcx", "9f"),
    "cmp dword ptr [rcx + {t_critical}], 0",
    "jne 9f",
    "mov dword ptr [rcx + {t_critical}], 1",
    "lea rdi, [rip + __trapline_uprobe_records_v0]",
    ".if \\careful",
    // A stub's address in the slot, and its site is this one?
    "mov rsi, qword ptr [rsp + .Lslot\\@]",
    "lea rax, [rdi - 0x1000000]",
    "sub rsi, rax",
    "cmp rsi, 0x1000000",
    "jae 2f",
    "and rsi, -64",
    "mov eax, dword ptr [rsp + .Lnumber\\@]",
    "cmp eax, dword ptr [rdi + rsi + {r_site}]",
    "je 7f",
    ".endif",
    "2:",
    "mov edx, dword ptr [rcx + {t_free}]",
    "test edx, edx",
    "jz 8f",
    "mov esi, dword ptr [rcx + {t_top}]",
    "lea rax, [rsp + .Lslot\\@]",
    "cmp qword ptr [rdi + rsi + {r_slot}], rax",
    "jbe 6f",
    "3:",
    "mov dword ptr [rdi + rdx + {r_parent}], esi",
    "mov qword ptr [rdi + rdx + {r_slot}], rax",
    "mov esi, dword ptr [rdi + rdx + {r_next_free}]",
    "mov dword ptr [rcx + {t_free}], esi",
    "mov dword ptr [rcx + {t_top}], edx",
    "mov rsi, qword ptr [rax]",
    "mov qword ptr [rdi + rdx + {r_orig_ra}], rsi",
    "lea rax, [rip + \\returns]",
    "mov qword ptr [rdi + rdx + {r_on_return}], rax",
    "mov esi, dword ptr [rsp + .Lnumber\\@]",
    "shl rsi, 6",
    "add rsi, qword ptr [rip + {sites}]",
    "mov rax, qword ptr [rsi + {s_body}]",
    "mov qword ptr [rdi + rdx + {r_target}], rax",
    "mov rax, qword ptr [rsi + {s_cell}]",
    "mov qword ptr [rdi + rdx + {r_cell}], rax",
    "mov qword ptr [rdi + rdx + {r_child}], 0",
    // The stub's address where the last instruction will find it: below the slot, within what
    // signals leave alone.
    "lea rsi, [rdi + rdx - 0x1000000]",
    "mov qword ptr [rsp + .Lslot\\@ - 8], rsi",
    "add rsi, 6",
    "mov qword ptr [rsp + .Lslot\\@], rsi",
    "mov eax, eax",
    "add rax, qword ptr [rcx + {t_block}]",
    "inc qword ptr [rax + {c_calls}]",
    // The newest of its function, and which was before.
    ".if \\clock",
    "mov esi, dword ptr [rax + {c_active}]",
    "mov dword ptr [rax + {c_active}], edx",
    "mov dword ptr [rdi + rdx + {r_next_free}], esi",
    ".endif",
    load_place!("rsi"),
    "mov dword ptr [rcx + {t_critical}], 0",
    concat!("cmp ", state!("rsi"), ", rcx"),
    "jne 5f",
    "4:",
    ".if \\clock",
    "lea rdi, [rdi + rdx]",
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
    // As in `slow_path`: LLVM's assembler keeps counting from the offset of the path above.
    ".cfi_def_cfa_offset 56 + 136 * \\careful",
    "",
    // A handler went on with another state meanwhile.
    "5:",
    ".cfi_remember_state",
    concat!("mov ", state!("rsi"), ", rcx"),
    "jmp 4b",
    "",
    // The newest instance is not below: a tail call?
    "6:",
    "jne 8f",
    "lea rax, [rdi + rsi - 0x1000000 + 6]",
    "cmp rax, qword ptr [rsp + .Lslot\\@]",
    "jne 8f",
    "mov eax, dword ptr [rdi + rsi + {r_parent}]",
    "shr eax, 24",
    "inc eax",
    "cmp eax, {max_chain}",
    "jae 8f",
    "shl eax, 24",
    "or esi, eax",
    "lea rax, [rsp + .Lslot\\@]",
    "jmp 3b",
    "",
    ".if \\careful",
    // The same call: on with it.
    "7:",
    "shl rax, 6",
    "add rax, qword ptr [rip + {sites}]",
    "test dword ptr [rax + {s_flags}], {loops}",
    "jz 2b",
    "mov rax, qword ptr [rax + {s_resume}]",
    "mov qword ptr [rsp + .Lnumber\\@], rax",
    load_place!("rsi"),
    "mov dword ptr [rcx + {t_critical}], 0",
    concat!("mov ", state!("rsi"), ", rcx"),
    "__trapline_entry_restore 1",
    "lea rsp, [rsp + 8]",
    ".cfi_adjust_cfa_offset -8",
    "jmp qword ptr [rsp - 8]",
    ".cfi_restore_state",
    ".cfi_def_cfa_offset 56 + 136 * \\careful",
    ".cfi_remember_state",
    ".endif",
    "",
    "8:",
    load_place!("rsi"),
    "mov dword ptr [rcx + {t_critical}], 0",
    concat!("mov ", state!("rsi"), ", rcx"),
    "9:",
    "__trapline_entry_restore \\careful",
    "jmp \\slow",
    ".cfi_restore_state",
    ".cfi_endproc",
    ".size \\name, . - \\name",
    ".endm",
    "",
    ".pushsection .text.__trapline_uprobe_entry,\"ax\",@progbits",
    "__trapline_entry __trapline_uprobe_entry_time_v0, 1, 0, __trapline_uprobe_slow_entry_v0, \
        __trapline_uprobe_return_time_v0",
    "__trapline_entry __trapline_uprobe_entry_time_careful_v0, 1, 1, \
        __trapline_uprobe_slow_entry_careful_v0, __trapline_uprobe_return_time_v0",
    "__trapline_entry __trapline_uprobe_entry_pair_v0, 0, 0, __trapline_uprobe_slow_entry_v0, \
        __trapline_uprobe_return_pair_v0",
    "__trapline_entry __trapline_uprobe_entry_pair_careful_v0, 0, 1, \
        __trapline_uprobe_slow_entry_careful_v0, __trapline_uprobe_return_pair_v0",
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
    t_critical = const offset_of!(State, critical),
    t_free = const offset_of!(State, free),
    t_top = const offset_of!(State, top),
    t_block = const offset_of!(State, block),
    c_calls = const wire::cell::CALLS,
    c_active = const wire::cell::ACTIVE,
    s_flags = const offset_of!(Site, flags),
    loops = const LOOPS,
    max_chain = const crate::instance::MAX_CHAIN,
    sites = sym SITES,
);
