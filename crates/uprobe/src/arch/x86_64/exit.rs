//! Where a stub goes when the function has returned: takes the instance off the lists, counts, and
//! returns to the caller.
//!
//! It comes in with rsp = slot - 8, the program's rax at \[rsp\], rax = the record; all else as the
//! function left it.
//!
//! ```text
//! return(n):
//!     [clock] ticks = time stamp - n.start
//!     state = thread's; none, or critical: slow_return
//!     state.critical = 1
//!     state.top is not n: slow_return
//!     [clock] n.before: an instance of the same function that is alive? else, if it is not 0:
//!             slow_return
//!     state.top = n.parent; n.next_free = state.free; state.free = n; read what is needed of n
//!     [slot] = n.orig_ra; parent.child += ticks or child; cell.returns += 1
//!     state.critical = 0; thread's = state
//!     [clock] cell.active = n.before; if that is 0, cell.total += ticks
//!             cell.self += max(ticks - child, 0); cell.max = max(cell.max, ticks)
//!             cell.buckets[bucket(ticks)] += 1
//!     restore; return
//! ```
//!
//! The slot keeps the stub's address until `n` is off the lists, for an instance whose slot holds
//! something else counts as dead.
#![allow(unsafe_code)]

use super::measured::{count_in_bucket, raise_maximum};
use super::tls::{self, load_place, load_state, state};
use crate::instance::{Header, Record};
use crate::thread_state::State;
use core::arch::global_asm;
use core::mem::offset_of;
use wire::cell;

unsafe extern "C" {
    #[link_name = "__trapline_uprobe_return_time_v0"]
    static RETURN_TIME: u8;
    #[link_name = "__trapline_uprobe_return_pair_v0"]
    static RETURN_PAIR: u8;
    #[link_name = "__trapline_uprobe_return_call_v0"]
    static RETURN_CALL: u8;
}

/// What a stub jumps to after its function.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Return {
    /// Counts and measures.
    Time,
    /// Counts.
    Pair,
    /// Calls a consumer.
    Call,
}

impl Return {
    /// For [`Record::on_return`].
    pub(crate) fn routine(self) -> u64 {
        let address = match self {
            Self::Time => &raw const RETURN_TIME,
            Self::Pair => &raw const RETURN_PAIR,
            Self::Call => &raw const RETURN_CALL,
        };
        address.addr() as u64
    }
}

global_asm!(
    ".macro __trapline_push register",
    "push \\register",
    ".cfi_adjust_cfa_offset 8",
    ".endm",
    ".macro __trapline_pop register",
    "pop \\register",
    ".cfi_adjust_cfa_offset -8",
    ".endm",
    "",
    ".macro __trapline_return_restore clock",
    "__trapline_pop rax",
    "add al, 0x7f",
    "sahf",
    ".if \\clock",
    "__trapline_pop r9",
    "__trapline_pop r8",
    ".endif",
    "__trapline_pop rdi",
    "__trapline_pop rsi",
    "__trapline_pop rdx",
    "__trapline_pop rcx",
    ".endm",
    "",
    ".macro __trapline_return name, clock, slow",
    ".balign 64",
    ".globl \\name",
    ".hidden \\name",
    ".type \\name,@function",
    "\\name:",
    ".cfi_startproc",
    ".cfi_def_cfa_offset 16",
    "__trapline_push rcx",
    "__trapline_push rdx",
    "__trapline_push rsi",
    "__trapline_push rdi",
    ".if \\clock",
    "__trapline_push r8",
    "__trapline_push r9",
    ".endif",
    "mov rcx, rax",
    "lahf",
    "seto al",
    "__trapline_push rax",
    ".set .Lslot\\@, 48 + 16 * \\clock",
    ".if \\clock",
    "rdtsc",
    "shl rdx, 32",
    "or rax, rdx",
    "sub rax, qword ptr [rcx + {r_start}]",
    "mov r9, rax",
    ".endif",
    load_state!("rdx", "9f"),
    "cmp dword ptr [rdx + {t_critical}], 0",
    "jne 9f",
    "mov dword ptr [rdx + {t_critical}], 1",
    "lea rsi, [rip + __trapline_uprobe_records_v0]",
    "mov edi, dword ptr [rdx + {t_top}]",
    "lea rax, [rsi + rdi]",
    "cmp rax, rcx",
    "jne 8f",
    ".if \\clock",
    "mov r8d, dword ptr [rcx + {r_next_free}]",
    "test r8d, r8d",
    "jnz 20f",
    "21:",
    // Names the one before, or nobody.
    "mov eax, dword ptr [rcx + {r_cell}]",
    "add rax, qword ptr [rdx + {t_block}]",
    "mov dword ptr [rax + {c_active}], r8d",
    ".endif",
    "mov eax, dword ptr [rdx + {t_free}]",
    "mov dword ptr [rdx + {t_free}], edi",
    "mov dword ptr [rcx + {r_next_free}], eax",
    "mov edi, dword ptr [rcx + {r_parent}]",
    "and edi, 0xffffff",
    "mov dword ptr [rdx + {t_top}], edi",
    "mov rax, qword ptr [rcx + {r_orig_ra}]",
    "mov qword ptr [rsp + .Lslot\\@], rax",
    ".if \\clock",
    "mov r8d, dword ptr [rcx + {r_cell}]",
    "add r8, qword ptr [rdx + {t_block}]",
    "add qword ptr [rsi + rdi + {r_child}], r9",
    // self: ticks - child, not below 0 (stacks that are switched may give more child time than
    // there was).
    "xor edi, edi",
    "mov rsi, r9",
    "sub rsi, qword ptr [rcx + {r_child}]",
    "cmovb rsi, rdi",
    ".else",
    "mov eax, dword ptr [rcx + {r_cell}]",
    "add rax, qword ptr [rdx + {t_block}]",
    "inc qword ptr [rax + {c_returns}]",
    "mov rax, qword ptr [rcx + {r_child}]",
    "add qword ptr [rsi + rdi + {r_child}], rax",
    ".endif",
    load_place!("rcx"),
    "mov dword ptr [rdx + {t_critical}], 0",
    concat!("cmp ", state!("rcx"), ", rdx"),
    "jne 3f",
    "4:",
    ".if \\clock",
    "inc qword ptr [r8 + {c_returns}]",
    "cmp dword ptr [r8 + {c_active}], 0",
    "jne 22f",
    "add qword ptr [r8 + {c_total}], r9",
    "22:",
    "add qword ptr [r8 + {c_self}], rsi",
    "cmp r9, qword ptr [r8 + {c_max}]",
    "ja 6f",
    "5:",
    count_in_bucket!("r9", "r8"),
    ".endif",
    ".cfi_remember_state",
    "__trapline_return_restore \\clock",
    "__trapline_pop rax",
    "ret",
    ".cfi_restore_state",
    // As in `slow_path`: LLVM's assembler keeps counting from the offset of the path above.
    ".cfi_def_cfa_offset 56 + 16 * \\clock",
    "",
    // A handler went on with another state meanwhile.
    "3:",
    concat!("mov ", state!("rcx"), ", rdx"),
    "jmp 4b",
    "",
    ".if \\clock",
    // Part of an outer call of the same function, if that is alive.
    "20:",
    "and r8d, 0xffffc0",
    "jz 8f",
    "mov eax, dword ptr [rcx + {r_cell}]",
    "cmp eax, dword ptr [rsi + r8 + {r_cell}]",
    "jne 8f",
    "mov eax, r8d",
    "and eax, -4096",
    "cmp qword ptr [rsi + rax + {h_owner}], rdx",
    "jne 8f",
    // On the thread's own stack everything up to its end can be read. (A free one's slot is 0.)
    "cmp rsp, qword ptr [rdx + {t_stack_low}]",
    "jb 23f",
    "cmp rsp, qword ptr [rdx + {t_stack_end}]",
    "jae 23f",
    "mov rax, qword ptr [rsi + r8 + {r_slot}]",
    "cmp rax, qword ptr [rdx + {t_stack_end}]",
    "jae 8f",
    "sub rax, .Lslot\\@",
    "cmp rax, rsp",
    "jle 8f",
    "mov rax, qword ptr [rax + .Lslot\\@]",
    "sub rax, rsi",
    "sub rax, r8",
    "cmp rax, 6 - 0x1000000",
    "je 21b",
    "jmp 8f",
    // On another, each call counts for itself.
    "23:",
    "xor r8d, r8d",
    "jmp 21b",
    "",
    "6:",
    raise_maximum!("r9", "r8", "5b"),
    ".endif",
    "",
    "8:",
    load_place!("rsi"),
    "mov dword ptr [rdx + {t_critical}], 0",
    concat!("mov ", state!("rsi"), ", rdx"),
    "9:",
    // The stub's own state again, and on to the slow path.
    "mov rsi, rcx",
    "mov rax, qword ptr [rsp]",
    "add al, 0x7f",
    "sahf",
    "mov rax, rsi",
    "lea rsp, [rsp + 8]",
    ".cfi_adjust_cfa_offset -8",
    ".if \\clock",
    "__trapline_pop r9",
    "__trapline_pop r8",
    ".endif",
    "__trapline_pop rdi",
    "__trapline_pop rsi",
    "__trapline_pop rdx",
    "__trapline_pop rcx",
    "jmp \\slow",
    ".cfi_endproc",
    ".size \\name, . - \\name",
    ".endm",
    "",
    ".pushsection .text.__trapline_uprobe_return,\"ax\",@progbits",
    "__trapline_return __trapline_uprobe_return_time_v0, 1, __trapline_uprobe_slow_return_v0",
    "__trapline_return __trapline_uprobe_return_pair_v0, 0, __trapline_uprobe_slow_return_v0",
    ".popsection",
    ".purgem __trapline_return",
    ".purgem __trapline_return_restore",
    ".purgem __trapline_push",
    ".purgem __trapline_pop",
    tls_state = const tls::STATE,
    t_critical = const offset_of!(State, critical),
    t_free = const offset_of!(State, free),
    t_top = const offset_of!(State, top),
    t_block = const offset_of!(State, block),
    t_stack_low = const offset_of!(State, stack_low),
    t_stack_end = const offset_of!(State, stack_end),
    h_owner = const offset_of!(Header, owner),
    r_slot = const offset_of!(Record, slot),
    r_orig_ra = const offset_of!(Record, orig_ra),
    r_start = const offset_of!(Record, start),
    r_child = const offset_of!(Record, child),
    r_cell = const offset_of!(Record, cell),
    r_parent = const offset_of!(Record, parent),
    r_next_free = const offset_of!(Record, next_free),
    c_active = const cell::ACTIVE,
    c_returns = const cell::RETURNS,
    c_total = const cell::TOTAL,
    c_self = const cell::SELF,
    c_max = const cell::MAX,
    c_buckets = const cell::BUCKETS,
    last_bucket = const cell::BUCKET_COUNT - 1,
);
