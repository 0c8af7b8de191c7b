//! The code behind a stub's prologue for timed functions whose exits are hit: makes an entry of a
//! shadow stack ([`crate::shadow`]), and takes it off.
//!
//! Both are called, with the site's number pushed before the return address (careful variants: rsp
//! was moved below the red zone first, and the flags are kept), every register as the program has
//! it; they return behind the call.
//!
//! ```text
//! enter(site):
//!     state = thread's; none: slow_entry
//!     s = state.shadow; the slot is not on the stack that it is beside, or s.top.slot is not above
//!             the slot, or there is no room: slow_entry
//!     before = cell.active; not 0, and not a pending call of the same function on this stack:
//!             slow_entry
//!     s.top = e = the next entry                    its slot is 0: in progress
//!     e = {before, cell, site, child: 0, caller: [slot]}; e.slot = slot
//!     cell.active = e; cell.calls += 1; e.start = time stamp
//!
//! leave(site):
//!     end = time stamp
//!     state = thread's; none: slow_entry
//!     e = state.shadow.top; e.slot is not the slot, or e is another function's, or was made before
//!             the last probe was taken away: slow_entry
//!     ticks = end - e.start; the entry below: child += ticks; e.slot = 0
//!     cell.active = e.before, if it is e
//!     state.shadow.top = the entry below
//!     cell.returns += 1; cell.total += ticks, if it is part of no other call of the function
//!     cell.self += max(ticks - e.child, 0); cell.max = max(cell.max, ticks)
//!     cell.buckets[bucket(ticks)] += 1
//! ```
//!
//! A handler may come in between any two instructions: it finds an entry in progress, at worst, and
//! takes the slow path. What `cell.active` names may have been written by others: it is looked at
//! only inside this shadow stack, and the slot that it is said to have only on the program's.
#![allow(unsafe_code)]

use super::measured::{count_in_bucket, raise_maximum};
use super::tls::{self, load_state};
use crate::shadow::{ENTRY, Entry, Stack};
use crate::site_table::{DISARMED, SITES, Site};
use crate::thread_state::State;
use core::arch::global_asm;
use core::mem::offset_of;
use wire::cell;

unsafe extern "C" {
    #[link_name = "__trapline_uprobe_enter_v0"]
    static ENTER: u8;
    #[link_name = "__trapline_uprobe_enter_careful_v0"]
    static ENTER_CAREFUL: u8;
    #[link_name = "__trapline_uprobe_leave_v0"]
    static LEAVE: u8;
    #[link_name = "__trapline_uprobe_leave_careful_v0"]
    static LEAVE_CAREFUL: u8;
}

/// Address of the routine for entries.
pub(crate) fn enter(careful: bool) -> u64 {
    let address = if careful { &raw const ENTER_CAREFUL } else { &raw const ENTER };
    address.addr() as u64
}

/// Address of the routine for exits.
pub(crate) fn leave(careful: bool) -> u64 {
    let address = if careful { &raw const LEAVE_CAREFUL } else { &raw const LEAVE };
    address.addr() as u64
}

global_asm!(
    ".macro __trapline_shadow_push register",
    "push \\register",
    ".cfi_adjust_cfa_offset 8",
    ".endm",
    ".macro __trapline_shadow_pop register",
    "pop \\register",
    ".cfi_adjust_cfa_offset -8",
    ".endm",
    "",
    // Registers, and the flags if need be.
    ".macro __trapline_shadow_begin name, careful, leaves",
    ".balign 64",
    ".globl \\name",
    ".hidden \\name",
    ".type \\name,@function",
    "\\name:",
    ".cfi_startproc",
    ".cfi_def_cfa_offset 24 + 128 * \\careful",
    ".irp register, rax, rcx, rdx, rsi, rdi",
    "__trapline_shadow_push \\register",
    ".endr",
    ".if \\leaves",
    "__trapline_shadow_push r8",
    "__trapline_shadow_push r9",
    ".endif",
    ".if \\careful",
    "lahf",
    "seto al",
    "__trapline_shadow_push rax",
    ".endif",
    ".set .Lnumber\\name, 48 + 8 * \\careful + 16 * \\leaves",
    ".set .Lslot\\name, 56 + 136 * \\careful + 16 * \\leaves",
    ".endm",
    "",
    ".macro __trapline_shadow_restore careful, leaves",
    ".if \\careful",
    "__trapline_shadow_pop rax",
    "add al, 0x7f",
    "sahf",
    ".endif",
    ".if \\leaves",
    "__trapline_shadow_pop r9",
    "__trapline_shadow_pop r8",
    ".endif",
    ".irp register, rdi, rsi, rdx, rcx, rax",
    "__trapline_shadow_pop \\register",
    ".endr",
    ".endm",
    "",
    // The site's cell and number to a register.
    ".macro __trapline_shadow_site name, low, register",
    "mov \\low, dword ptr [rsp + .Lnumber\\name]",
    "shl \\register, 6",
    "add \\register, qword ptr [rip + {sites}]",
    "mov \\register, qword ptr [\\register + {s_cell}]",
    ".endm",
    "",
    ".macro __trapline_shadow_end name, careful, leaves, slow",
    ".cfi_remember_state",
    "__trapline_shadow_restore \\careful, \\leaves",
    "ret",
    ".cfi_restore_state",
    // As in `slow_path`: LLVM's assembler keeps counting from the offset of the path above.
    ".cfi_def_cfa_offset 64 + 136 * \\careful + 16 * \\leaves",
    ".endm",
    "",
    ".macro __trapline_shadow_slow name, careful, leaves, slow",
    "9:",
    "__trapline_shadow_restore \\careful, \\leaves",
    "lea rsp, [rsp + 8]",
    ".cfi_adjust_cfa_offset -8",
    "jmp \\slow",
    ".cfi_endproc",
    ".size \\name, . - \\name",
    ".endm",
    "",
    ".macro __trapline_enter name, careful, slow",
    "__trapline_shadow_begin \\name, \\careful, 0",
    load_state!("rcx", "9f"),
    "mov rdx, qword ptr [rcx + {t_shadow}]",
    "lea rax, [rsp + .Lslot\\name]",
    "mov rsi, rax",
    "sub rsi, qword ptr [rdx + {k_low}]",
    "cmp rsi, qword ptr [rdx + {k_size}]",
    "jae 9f",
    "mov rsi, qword ptr [rdx + {k_top}]",
    "cmp qword ptr [rsi + {e_slot}], rax",
    "jbe 9f",
    "add rsi, {entry}",
    "cmp rsi, qword ptr [rdx + {k_end}]",
    "jae 9f",
    "mov rcx, qword ptr [rcx + {t_block}]",
    "__trapline_shadow_site \\name, edi, rdi",
    "mov eax, edi",
    "add rcx, rax",
    "mov rax, qword ptr [rcx + {c_active}]",
    "test rax, rax",
    "jnz 6f",
    "5:",
    "mov qword ptr [rdx + {k_top}], rsi",
    "mov qword ptr [rsi + {e_before}], rax",
    "mov qword ptr [rsi + {e_cell}], rdi",
    "mov qword ptr [rsi + {e_child}], 0",
    "mov rax, qword ptr [rsp + .Lslot\\name]",
    "mov qword ptr [rsi + {e_caller}], rax",
    "lea rax, [rsp + .Lslot\\name]",
    "mov qword ptr [rsi + {e_slot}], rax",
    "mov qword ptr [rcx + {c_active}], rsi",
    "inc qword ptr [rcx + {c_calls}]",
    "rdtsc",
    "shl rdx, 32",
    "or rax, rdx",
    "mov qword ptr [rsi + {e_start}], rax",
    "__trapline_shadow_end \\name, \\careful, 0, \\slow",
    "",
    // Part of another call: on this stack, of the same function, and its frame is still there?
    "6:",
    "cmp rax, rdx",
    "jbe 9f",
    "cmp rax, rsi",
    "jae 9f",
    "cmp dword ptr [rax + {e_cell}], edi",
    "jne 9f",
    "mov rdi, qword ptr [rax + {e_slot}]",
    "sub rdi, qword ptr [rdx + {k_low}]",
    "cmp rdi, qword ptr [rdx + {k_size}]",
    "jae 9f",
    "add rdi, qword ptr [rdx + {k_low}]",
    "cmp rdi, rsp",
    "jbe 9f",
    "mov rdi, qword ptr [rdi]",
    "cmp rdi, qword ptr [rax + {e_caller}]",
    "jne 9f",
    "or rax, {nested}",
    "__trapline_shadow_site \\name, edi, rdi",
    "jmp 5b",
    "__trapline_shadow_slow \\name, \\careful, 0, \\slow",
    ".endm",
    "",
    ".macro __trapline_leave name, careful, slow",
    "__trapline_shadow_begin \\name, \\careful, 1",
    "rdtsc",
    "shl rdx, 32",
    "or rax, rdx",
    "mov rdi, rax",
    load_state!("rcx", "9f"),
    "mov rdx, qword ptr [rcx + {t_shadow}]",
    "mov rsi, qword ptr [rdx + {k_top}]",
    "lea rax, [rsp + .Lslot\\name]",
    "cmp qword ptr [rsi + {e_slot}], rax",
    "jne 9f",
    "__trapline_shadow_site \\name, eax, rax",
    "cmp qword ptr [rsi + {e_cell}], rax",
    "jne 9f",
    "mov rcx, qword ptr [rcx + {t_block}]",
    "mov eax, eax",
    "add rcx, rax",
    "mov r9, qword ptr [rsi + {e_start}]",
    "cmp r9, qword ptr [rip + {disarmed}]",
    "jb 9f",
    "sub rdi, r9",
    "mov r8, qword ptr [rsi + {e_child}]",
    "mov r9, qword ptr [rsi + {e_before}]",
    "add qword ptr [rsi - {entry} + {e_child}], rdi",
    "mov qword ptr [rsi + {e_slot}], 0",
    "cmp qword ptr [rcx + {c_active}], rsi",
    "jne 2f",
    "mov rax, r9",
    "and rax, -2",
    "mov qword ptr [rcx + {c_active}], rax",
    "2:",
    "lea rax, [rsi - {entry}]",
    "mov qword ptr [rdx + {k_top}], rax",
    "inc qword ptr [rcx + {c_returns}]",
    "test r9b, {nested}",
    "jnz 3f",
    "add qword ptr [rcx + {c_total}], rdi",
    "3:",
    // self: ticks - child, not below 0 (stacks that are switched may give more child time than
    // there was).
    "xor edx, edx",
    "mov rax, rdi",
    "sub rax, r8",
    "cmovb rax, rdx",
    "add qword ptr [rcx + {c_self}], rax",
    "cmp rdi, qword ptr [rcx + {c_max}]",
    "ja 6f",
    "5:",
    "mov r8, rcx",
    count_in_bucket!("rdi", "r8"),
    "__trapline_shadow_end \\name, \\careful, 1, \\slow",
    "",
    "6:",
    raise_maximum!("rdi", "rcx", "5b"),
    "__trapline_shadow_slow \\name, \\careful, 1, \\slow",
    ".endm",
    "",
    ".pushsection .text.__trapline_uprobe_shadow,\"ax\",@progbits",
    "__trapline_enter __trapline_uprobe_enter_v0, 0, __trapline_uprobe_slow_entry_v0",
    "__trapline_enter __trapline_uprobe_enter_careful_v0, 1, \
        __trapline_uprobe_slow_entry_careful_v0",
    "__trapline_leave __trapline_uprobe_leave_v0, 0, __trapline_uprobe_slow_entry_v0",
    "__trapline_leave __trapline_uprobe_leave_careful_v0, 1, \
        __trapline_uprobe_slow_entry_careful_v0",
    ".popsection",
    ".purgem __trapline_enter",
    ".purgem __trapline_leave",
    ".purgem __trapline_shadow_begin",
    ".purgem __trapline_shadow_restore",
    ".purgem __trapline_shadow_site",
    ".purgem __trapline_shadow_end",
    ".purgem __trapline_shadow_slow",
    ".purgem __trapline_shadow_push",
    ".purgem __trapline_shadow_pop",
    tls_state = const tls::STATE,
    sites = sym SITES,
    entry = const ENTRY,
    nested = const crate::shadow::NESTED,
    disarmed = sym DISARMED,
    t_shadow = const offset_of!(State, shadow),
    t_block = const offset_of!(State, block),
    s_cell = const offset_of!(Site, cell),
    k_low = const offset_of!(Stack, low),
    k_size = const offset_of!(Stack, size),
    k_top = const offset_of!(Stack, top),
    k_end = const offset_of!(Stack, end),
    e_slot = const offset_of!(Entry, slot),
    e_start = const offset_of!(Entry, start),
    e_child = const offset_of!(Entry, child),
    e_caller = const offset_of!(Entry, caller),
    e_cell = const offset_of!(Entry, cell),
    e_before = const offset_of!(Entry, before),
    c_calls = const cell::CALLS,
    c_active = const cell::ACTIVE,
    c_returns = const cell::RETURNS,
    c_total = const cell::TOTAL,
    c_self = const cell::SELF,
    c_max = const cell::MAX,
    c_buckets = const cell::BUCKETS,
    last_bucket = const cell::BUCKET_COUNT - 1,
);
