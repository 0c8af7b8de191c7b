//! Functions to probe. Each takes a number and gives it back plus one.
#![allow(unsafe_code)]

use core::arch::global_asm;

global_asm!(
    ".macro probed name",
    ".balign 64, 0xcc",
    ".type \\name, @function",
    "\\name:",
    ".cfi_startproc",
    ".endm",
    ".macro end name",
    ".cfi_endproc",
    ".size \\name, . - \\name",
    ".endm",
    ".pushsection .text.probed,\"ax\",@progbits",
    "probed probe_counted",
    "push rbx",
    ".cfi_def_cfa_offset 16",
    "lea rbx, [rdi + 1]",
    "mov rax, rbx",
    "pop rbx",
    ".cfi_def_cfa_offset 8",
    "ret",
    "end probe_counted",
    // Its first instruction counts from where it is.
    "probed probe_stacked",
    "mov rax, qword ptr [rip + 1f]",
    "add rax, rdi",
    "ret",
    "end probe_stacked",
    ".balign 8",
    "1: .quad 1",
    // Branches back to its first byte, which is no call.
    "probed probe_looping",
    "cmp rdi, rax",
    "lea rax, [rax + 1]",
    "nop dword ptr [rax + rax]",
    "ja probe_looping",
    "ret",
    "end probe_looping",
    // Branches into its first bytes: it is moved as a whole.
    "probed probe_whole",
    "xor eax, eax",
    "2: inc rax",
    "cmp rax, rdi",
    "jbe 2b",
    "ret",
    "end probe_whole",
    // All that a stub could do without is needed: registers and the carry flag.
    "probed probe_crammed",
    "lea rdi, [rdi + rax]",
    "lea rdi, [rdi + rcx]",
    "lea rdi, [rdi + rdx]",
    "lea rdi, [rdi + r8]",
    "lea rdi, [rdi + r9]",
    "lea rdi, [rdi + r10]",
    "lea rdi, [rdi + r11]",
    "adc rdi, 0",
    "mov rax, rdi",
    "ret",
    "end probe_crammed",
    // No room for a jump.
    "probed probe_crowded",
    "lea eax, [rdi + 1]",
    "ret",
    "end probe_crowded",
    ".type probe_crowd, @function",
    "probe_crowd: ret",
    ".size probe_crowd, 1",
    // In its file it looks otherwise, by what is said of it.
    "probed probe_other",
    "lea rax, [rdi + 1]",
    "nop dword ptr [rax + rax + 7]",
    "ret",
    "end probe_other",
    // Nothing is said of it.
    "probed probe_unknown",
    "lea rax, [rdi + 1]",
    "nop dword ptr [rax + rax]",
    "ret",
    "end probe_unknown",
    ".balign 64, 0xcc",
    ".popsection",
    ".purgem probed",
    ".purgem end",
);

unsafe extern "C" {
    safe fn probe_counted(n: u64) -> u64;
    safe fn probe_stacked(n: u64) -> u64;
    fn probe_looping(n: u64) -> u64;
    safe fn probe_whole(n: u64) -> u64;
    fn probe_crammed(n: u64) -> u64;
    safe fn probe_crowded(n: u64) -> u64;
    safe fn probe_other(n: u64) -> u64;
    safe fn probe_unknown(n: u64) -> u64;
}

/// `probe_looping` counts from what is in a register that holds no argument.
extern "C" fn looping(n: u64) -> u64 {
    let result;
    // SAFETY: the function keeps to the C calling convention, and looks at rax.
    unsafe {
        core::arch::asm!(
            "call {}",
            sym probe_looping,
            in("rdi") n,
            inout("rax") 0_u64 => result,
            clobber_abi("C"),
        );
    }
    result
}

/// `probe_crammed` adds registers and the carry flag.
extern "C" fn crammed(n: u64) -> u64 {
    let result;
    // SAFETY: the function changes only rdi and rax.
    unsafe {
        core::arch::asm!(
            "stc",
            "call {}",
            sym probe_crammed,
            inout("rdi") n => _,
            inout("rax") 0_u64 => result,
            in("rcx") 0,
            in("rdx") 0,
            in("r8") 0,
            in("r9") 0,
            in("r10") 0,
            in("r11") 0,
        );
    }
    result
}

/// A function: what is called, and what is probed.
pub(crate) struct Probed {
    pub(crate) call: extern "C" fn(u64) -> u64,
    pub(crate) address: u64,
}

/// Those that can be probed, in this order: counted, by its stack, with a loop, moved as a whole,
/// without a free register. Then those that cannot: no room, other bytes, nothing decided.
pub(crate) fn all() -> [Probed; 8] {
    let of = |call: extern "C" fn(u64) -> u64| Probed { call, address: call as usize as u64 };
    [
        of(probe_counted),
        of(probe_stacked),
        Probed { call: looping, address: probe_looping as *const () as u64 },
        of(probe_whole),
        Probed { call: crammed, address: probe_crammed as *const () as u64 },
        of(probe_crowded),
        of(probe_other),
        of(probe_unknown),
    ]
}

/// How many of them can be probed.
pub(crate) const PROBED: usize = 5;
