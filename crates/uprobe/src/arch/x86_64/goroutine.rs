//! The code behind a stub's prologue for timed functions of Go's compiler: makes an entry of the
//! goroutine's shadow stack ([`crate::goroutines`]), and takes it off.
//!
//! Both come in by a jump, with the site's number in r12 and the goroutine's descriptor in r14, and
//! leave for the site's `resume`. r12, r13 and the flags are free there, and nothing may be pushed:
//! other registers are kept beside the shadow stack meanwhile, which nobody but the thread that
//! runs the goroutine touches. While a thread is in here, the runtime's handlers take it for one
//! that cannot be preempted.
//!
//! ```text
//! enter(site):
//!     goroutine = its place in the table, or one of the next; not there: switching_entry
//!     state = thread's; none: switching_entry
//!     slot = rsp - g.stack.hi; s.top.slot is not above it, or there is no room: switching_entry
//!     s.top = e = the next entry
//!     e = {slot, caller: [rsp], child: 0, cell, site}; cell.calls += 1
//!     bit = that of the function
//!     nested = bit in (e - 1).before, and one of the youngest entries is the same function's, and
//!             its slot is as it was
//!     e.before = (e - 1).before | bit, and nested
//!     e.start = time stamp
//!
//! leave(site):
//!     end = time stamp
//!     goroutine, state: as above
//!     e = s.top; e.slot is not the slot, or e is another function's, or was made before the last
//!             probe was taken away: switching_entry
//!     ticks = max(end - e.start, 0)               another processor's clock may be behind
//!     s.top = e - 1; (e - 1).child += ticks; e.slot = 0
//!     cell.returns += 1; cell.total += ticks, if it is not nested
//!     cell.self += max(ticks - e.child, 0); cell.max = max(cell.max, ticks)
//!     cell.buckets[bucket(ticks)] += 1
//! ```
//!
//! The thread at the exit may be another one than at the entry, and counts in its own block.
#![allow(unsafe_code)]

use super::measured::count_in_bucket;
use super::tls::{self, load_state};
use crate::goroutine_calls::LOOKED_THROUGH;
use crate::goroutines::{Goroutine, MULTIPLIER, PLACES, SHIFT, STACK_END, TABLE};
use crate::shadow::{ENTRY, Entry, NESTED, Stack};
use crate::site_table::{DISARMED, SITES, Site};
use crate::thread_state::State;
use core::arch::global_asm;
use core::mem::offset_of;
use wire::cell;

const _: () = assert!(size_of::<Site>() == 64 && NESTED == 1);

global_asm!(
    // r13: what is known of the goroutine.
    ".macro __trapline_go_find",
    ".irp n, 0, 8, 16, 24",
    "imul r13, r14, {multiplier}",
    "shr r13, {shift}",
    ".if \\n",
    "lea r13d, [r13 + \\n / 8]",
    ".endif",
    "and r13d, {last}",
    "shl r13d, 3",
    "add r13, qword ptr [rip + {table}]",
    "mov r13, qword ptr [r13]",
    "test r13, r13",
    "jz 9f",
    "cmp qword ptr [r13 + {o_g}], r14",
    "je 1f",
    ".endr",
    "jmp 9f",
    "1:",
    "mov qword ptr [r13 + {o_saved}], rax",
    "mov qword ptr [r13 + {o_saved} + 8], rcx",
    "mov qword ptr [r13 + {o_saved} + 16], rdx",
    "mov qword ptr [r13 + {o_saved} + 24], r12",
    ".endm",
    "",
    ".macro __trapline_go_restore",
    "mov rax, qword ptr [r13 + {o_saved}]",
    "mov rcx, qword ptr [r13 + {o_saved} + 8]",
    "mov rdx, qword ptr [r13 + {o_saved} + 16]",
    "mov r12, qword ptr [r13 + {o_saved} + 24]",
    ".endm",
    "",
    // r12: the site with that number.
    ".macro __trapline_go_site",
    "shl r12, 6",
    "add r12, qword ptr [rip + {sites}]",
    ".endm",
    "",
    ".macro __trapline_go_end name",
    "__trapline_go_restore",
    "__trapline_go_site",
    "jmp qword ptr [r12 + {s_resume}]",
    "7:",
    "__trapline_go_restore",
    "9:",
    "jmp __trapline_uprobe_switching_entry_v0",
    ".size \\name, . - \\name",
    ".endm",
    "",
    ".macro __trapline_go_begin name",
    ".balign 64",
    ".globl \\name",
    ".hidden \\name",
    ".type \\name,@function",
    "\\name:",
    "__trapline_go_find",
    ".endm",
    "",
    ".pushsection .text.__trapline_uprobe_goroutine,\"ax\",@progbits",
    "__trapline_go_begin __trapline_uprobe_goroutine_enter_v0",
    load_state!("rcx", "7f"),
    "mov rcx, qword ptr [rcx + {t_block}]",
    "mov rax, qword ptr [r13 + {o_stack}]",
    "mov rdx, qword ptr [rax + {k_top}]",
    "mov r12, rsp",
    "sub r12, qword ptr [r14 + {g_end}]",
    "cmp qword ptr [rdx + {e_slot}], r12",
    "jbe 7f",
    "add rdx, {entry}",
    "cmp rdx, qword ptr [rax + {k_end}]",
    "jae 7f",
    "mov qword ptr [rax + {k_top}], rdx",
    "mov qword ptr [rdx + {e_slot}], r12",
    "mov rax, qword ptr [rsp]",
    "mov qword ptr [rdx + {e_caller}], rax",
    "mov qword ptr [rdx + {e_child}], 0",
    "mov r12, qword ptr [r13 + {o_saved} + 24]",
    "__trapline_go_site",
    "mov rax, qword ptr [r12 + {s_cell}]",
    "mov qword ptr [rdx + {e_cell}], rax",
    "mov eax, eax",
    "inc qword ptr [rcx + rax + {c_calls}]",
    // The function's bit: of its number modulo 64, but not the lowest.
    "mov r12d, dword ptr [rdx + {e_site}]",
    "mov ecx, r12d",
    "and ecx, 63",
    "cmp ecx, 1",
    "adc ecx, 0",
    "xor eax, eax",
    "bts rax, rcx",
    "mov rcx, qword ptr [rdx - {entry} + {e_before}]",
    "and rcx, -2",
    "test rcx, rax",
    "jnz 5f",
    "or rcx, rax",
    "4:",
    "mov qword ptr [rdx + {e_before}], rcx",
    "mov rcx, rdx",
    "rdtsc",
    "shl rdx, 32",
    "or rax, rdx",
    "mov qword ptr [rcx + {e_start}], rax",
    "jmp 8f",
    // Entries below, as long as their words have the bit, and not more than so many: rcx is the one
    // that is looked at, r12 the function's number, or something of an entry's.
    "5:",
    "mov rcx, rdx",
    "6:",
    "sub rcx, {entry}",
    "test qword ptr [rcx + {e_before}], rax",
    "jz 63f",
    "cmp dword ptr [rcx + {e_site}], r12d",
    "je 62f",
    "61:",
    "lea r12, [rdx - {looked_through} * {entry}]",
    "cmp rcx, r12",
    "jbe 63f",
    "mov r12d, dword ptr [rdx + {e_site}]",
    "jmp 6b",
    "62:",
    "mov r12, qword ptr [rcx + {e_slot}]",
    "add r12, qword ptr [r14 + {g_end}]",
    "mov r12, qword ptr [r12]",
    "cmp r12, qword ptr [rcx + {e_caller}]",
    "jne 61b",
    "or rax, {nested}",
    "63:",
    "mov rcx, qword ptr [rdx - {entry} + {e_before}]",
    "and rcx, -2",
    "or rcx, rax",
    "jmp 4b",
    "8:",
    "__trapline_go_end __trapline_uprobe_goroutine_enter_v0",
    "",
    "__trapline_go_begin __trapline_uprobe_goroutine_leave_v0",
    "rdtsc",
    "shl rdx, 32",
    "or rax, rdx",
    load_state!("rcx", "7f"),
    "mov rcx, qword ptr [rcx + {t_block}]",
    "mov rdx, qword ptr [r13 + {o_stack}]",
    "mov rdx, qword ptr [rdx + {k_top}]",
    "mov r12, rsp",
    "sub r12, qword ptr [r14 + {g_end}]",
    "cmp qword ptr [rdx + {e_slot}], r12",
    "jne 7f",
    "mov r12, qword ptr [r13 + {o_saved} + 24]",
    "__trapline_go_site",
    "mov r12, qword ptr [r12 + {s_cell}]",
    "cmp qword ptr [rdx + {e_cell}], r12",
    "jne 7f",
    "mov r12, qword ptr [rdx + {e_start}]",
    "cmp r12, qword ptr [rip + {disarmed}]",
    "jb 7f",
    "sub rax, r12",
    "jnc 2f",
    "xor eax, eax",
    "2:",
    "mov r12, qword ptr [r13 + {o_stack}]",
    "sub qword ptr [r12 + {k_top}], {entry}",
    "add qword ptr [rdx - {entry} + {e_child}], rax",
    "mov qword ptr [rdx + {e_slot}], 0",
    "mov r12d, dword ptr [rdx + {e_cell}]",
    "add rcx, r12",
    "inc qword ptr [rcx + {c_returns}]",
    "test byte ptr [rdx + {e_before}], {nested}",
    "jnz 3f",
    "add qword ptr [rcx + {c_total}], rax",
    "3:",
    "mov r12, rax",
    "sub r12, qword ptr [rdx + {e_child}]",
    "jnc 4f",
    "xor r12d, r12d",
    "4:",
    "add qword ptr [rcx + {c_self}], r12",
    "cmp rax, qword ptr [rcx + {c_max}]",
    "jbe 5f",
    "mov qword ptr [rcx + {c_max}], rax",
    "5:",
    "mov rdx, rcx",
    "mov r12, rax",
    count_in_bucket!("r12", "rdx"),
    "__trapline_go_end __trapline_uprobe_goroutine_leave_v0",
    ".popsection",
    ".purgem __trapline_go_begin",
    ".purgem __trapline_go_end",
    ".purgem __trapline_go_find",
    ".purgem __trapline_go_restore",
    ".purgem __trapline_go_site",
    tls_state = const tls::STATE,
    sites = sym SITES,
    disarmed = sym DISARMED,
    table = sym TABLE,
    multiplier = const MULTIPLIER,
    shift = const SHIFT,
    last = const PLACES - 1,
    looked_through = const LOOKED_THROUGH,
    entry = const ENTRY,
    nested = const NESTED,
    g_end = const STACK_END,
    o_g = const offset_of!(Goroutine, g),
    o_stack = const offset_of!(Goroutine, stack),
    o_saved = const offset_of!(Goroutine, saved),
    t_block = const offset_of!(State, block),
    s_cell = const offset_of!(Site, cell),
    s_resume = const offset_of!(Site, resume),
    k_top = const offset_of!(Stack, top),
    k_end = const offset_of!(Stack, end),
    e_slot = const offset_of!(Entry, slot),
    e_start = const offset_of!(Entry, start),
    e_child = const offset_of!(Entry, child),
    e_caller = const offset_of!(Entry, caller),
    e_cell = const offset_of!(Entry, cell),
    e_site = const offset_of!(Entry, site),
    e_before = const offset_of!(Entry, before),
    c_calls = const cell::CALLS,
    c_returns = const cell::RETURNS,
    c_total = const cell::TOTAL,
    c_self = const cell::SELF,
    c_max = const cell::MAX,
    c_buckets = const cell::BUCKETS,
    last_bucket = const cell::BUCKET_COUNT - 1,
);
