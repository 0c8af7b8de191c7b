//! The probed functions: the kernel's trigger benchmark's (nop, push, ret, nop5) and an ordinary
//! one, each alone on its page, and a loop for each that calls it.
//!
//! | name | first instruction | how the kernel goes on from its breakpoint |
//! |---|---|---|
//! | `nop` | one-byte nop | emulated |
//! | `push` | `push rbp`, as most functions of a program built with frame pointers | emulated |
//! | `ret` | the whole function is one byte | single step |
//! | `nop5` | the five-byte nop, which Linux 6.18 replaces by a call | no trap after the first hit |
//! | `ordinary` | `mov rax, rdi` | single step |
//!
//! The loops are assembly, so that bare and probed calls are made by the same bytes. Each function
//! has its own: in one loop with an indirect call, what a call costs depends on how many functions
//! the processor has seen it call, and changes in the middle of a run.
#![allow(unsafe_code)]

use std::arch::global_asm;

/// A function to be probed.
#[derive(Debug)]
pub struct Function {
    /// What the tables call it.
    pub name: &'static str,
    /// Its symbol.
    pub symbol: &'static str,
    /// Bytes of the function.
    pub size: usize,
    /// Bytes of its first instruction.
    pub first: usize,
    /// Whether the kernel single-steps that instruction.
    pub single_stepped: bool,
    start: unsafe extern "C" fn(),
    calls: unsafe extern "C" fn(u64),
}

impl Function {
    /// Where it is in this process.
    pub fn address(&self) -> u64 {
        self.start as *const () as u64
    }

    /// Its bytes.
    pub(super) fn code(&self) -> &'static [u8] {
        let start = self.address() as usize as *const u8;
        // SAFETY: the function's page is readable code for the life of the process, and nobody
        // writes into it while a slice is alive but the kernel, which shows the original.
        unsafe { std::slice::from_raw_parts(start, self.size) }
    }

    /// Calls it `n` times.
    #[inline]
    pub fn call(&self, n: u64) {
        // SAFETY: the loop keeps to the C convention, and the functions of the table take any
        // argument.
        unsafe { (self.calls)(n) };
    }

    /// The loop's bytes: position-independent but for the call at [`CALL`].
    pub(super) fn calls(&self) -> &'static [u8; LOOP] {
        let start = self.calls as *const () as usize as *const [u8; LOOP];
        // SAFETY: code of that length, which nobody writes into.
        unsafe { &*start }
    }

    /// Calls it `n` times, with an `rdtsc` before and after each call.
    pub(super) fn call_clocked(&self, n: u64) {
        // SAFETY: the loop keeps to the C convention, and the functions of the table take any
        // argument.
        unsafe { trapline_bench_loop_clocked(n, self.address() as usize) };
    }
}

/// Bytes of a loop.
pub(super) const LOOP: usize = 47;
/// Where in the loop its five-byte call is.
pub(super) const CALL: usize = 35;

/// One function on a page of its own in front of 0xcc, with which linkers pad, and its loop. The
/// argument is the number of calls left: the bodies compute something with it and give it back in
/// rax.
macro_rules! function {
    ($name:literal, $($body:literal),+) => {
        global_asm!(
            ".pushsection .text.trapline_bench_probe,\"ax\",@progbits",
            ".p2align 12, 0xcc",
            concat!(".globl trapline_bench_", $name),
            concat!(".type trapline_bench_", $name, ",@function"),
            concat!("trapline_bench_", $name, ":"),
            ".cfi_startproc",
            $($body,)+
            ".cfi_endproc",
            concat!(".size trapline_bench_", $name, ", .-trapline_bench_", $name),
            ".p2align 12, 0xcc",
            ".popsection",
            ".pushsection .text.trapline_bench_loops,\"ax\",@progbits",
            ".p2align 6",
            concat!(".globl trapline_bench_loop_", $name),
            concat!(".hidden trapline_bench_loop_", $name),
            concat!(".type trapline_bench_loop_", $name, ",@function"),
            concat!("trapline_bench_loop_", $name, ":"),
            ".cfi_startproc",
            "push rbx",
            ".cfi_adjust_cfa_offset 8",
            ".cfi_offset rbx, -16",
            "mov rbx, rdi",
            ".p2align 5",
            "2:",
            "mov rdi, rbx",
            concat!("call trapline_bench_", $name),
            "dec rbx",
            "jnz 2b",
            "pop rbx",
            ".cfi_adjust_cfa_offset -8",
            ".cfi_restore rbx",
            "ret",
            ".cfi_endproc",
            concat!(".size trapline_bench_loop_", $name, ", .-trapline_bench_loop_", $name),
            ".popsection",
        );
    };
}

function!("nop", "nop", "lea rax, [rdi + 7]", "ret");
function!("push", "push rbp", "mov rbp, rsp", "lea rax, [rdi + 7]", "pop rbp", "ret");
function!("ret", "ret");
function!("nop5", ".byte 0x0f, 0x1f, 0x44, 0x00, 0x00", "lea rax, [rdi + 7]", "ret");
function!("ordinary", "mov rax, rdi", "shl rax, 2", "lea rax, [rax + rdi + 7]", "ret");
function!("int3", "int3", "lea rax, [rdi + 7]", "ret");

// Floor of a detour: the push-first function with the jump, an `inc` below the stack pointer and
// the jump back assembled in.
function!(
    "detoured",
    "jmp 3f",
    ".skip 3, 0xcc",
    "4:",
    "pop rbp",
    "ret",
    ".p2align 12, 0xcc",
    "3:",
    "inc qword ptr [rsp - 64]",
    "push rbp",
    "mov rbp, rsp",
    "lea rax, [rdi + 7]",
    "jmp 4b"
);

// Floor of a latency probe: the loop with an rdtsc before and after an indirect call (rsi), which
// costs what a direct one does.
global_asm!(
    ".pushsection .text.trapline_bench_loops,\"ax\",@progbits",
    ".p2align 6",
    ".globl trapline_bench_loop_clocked",
    ".hidden trapline_bench_loop_clocked",
    ".type trapline_bench_loop_clocked,@function",
    "trapline_bench_loop_clocked:",
    ".cfi_startproc",
    "push rbx",
    ".cfi_adjust_cfa_offset 8",
    ".cfi_offset rbx, -16",
    "push r12",
    ".cfi_adjust_cfa_offset 8",
    ".cfi_offset r12, -24",
    "sub rsp, 8",
    ".cfi_adjust_cfa_offset 8",
    "mov rbx, rdi",
    "mov r12, rsi",
    ".p2align 5",
    "2:",
    "rdtsc",
    "mov rdi, rbx",
    "call r12",
    "rdtsc",
    "dec rbx",
    "jnz 2b",
    "add rsp, 8",
    ".cfi_adjust_cfa_offset -8",
    "pop r12",
    ".cfi_adjust_cfa_offset -8",
    ".cfi_restore r12",
    "pop rbx",
    ".cfi_adjust_cfa_offset -8",
    ".cfi_restore rbx",
    "ret",
    ".cfi_endproc",
    ".popsection",
);

unsafe extern "C" {
    fn trapline_bench_loop_clocked(calls: u64, function: usize);
    fn trapline_bench_nop();
    fn trapline_bench_push();
    fn trapline_bench_ret();
    fn trapline_bench_nop5();
    fn trapline_bench_ordinary();
    fn trapline_bench_loop_nop(calls: u64);
    fn trapline_bench_loop_push(calls: u64);
    fn trapline_bench_loop_ret(calls: u64);
    fn trapline_bench_loop_nop5(calls: u64);
    fn trapline_bench_loop_ordinary(calls: u64);
    fn trapline_bench_loop_int3(calls: u64);
    fn trapline_bench_loop_detoured(calls: u64);
}

/// All targets, in the order of the tables.
pub static FUNCTIONS: [Function; 5] = [
    Function {
        name: "nop",
        symbol: "trapline_bench_nop",
        size: 6,
        first: 1,
        single_stepped: false,
        start: trapline_bench_nop,
        calls: trapline_bench_loop_nop,
    },
    Function {
        name: "push",
        symbol: "trapline_bench_push",
        size: 10,
        first: 1,
        single_stepped: false,
        start: trapline_bench_push,
        calls: trapline_bench_loop_push,
    },
    Function {
        name: "ret",
        symbol: "trapline_bench_ret",
        size: 1,
        first: 1,
        single_stepped: true,
        start: trapline_bench_ret,
        calls: trapline_bench_loop_ret,
    },
    Function {
        name: "nop5",
        symbol: "trapline_bench_nop5",
        size: 10,
        first: 5,
        single_stepped: false,
        start: trapline_bench_nop5,
        calls: trapline_bench_loop_nop5,
    },
    Function {
        name: "ordinary",
        symbol: "trapline_bench_ordinary",
        size: 13,
        first: 3,
        single_stepped: true,
        start: trapline_bench_ordinary,
        calls: trapline_bench_loop_ordinary,
    },
];

/// The target that the goals of the benchmark are stated for.
pub(super) const PUSH: usize = 1;

/// Calls the function `n` times that was assembled with a detour.
pub(super) fn call_detoured(n: u64) {
    // SAFETY: a function and a loop like the others.
    unsafe { trapline_bench_loop_detoured(n) };
}

/// Calls a function `n` times that begins with a breakpoint of its own.
///
/// # Safety
/// SIGTRAP must have a handler that returns.
pub(super) unsafe fn call_into_int3(n: u64) {
    // SAFETY: the caller has a handler for the breakpoint; the function behind it computes a sum.
    unsafe { trapline_bench_loop_int3(n) };
}

#[cfg(test)]
mod tests {
    use super::{CALL, FUNCTIONS};

    #[test]
    fn the_table_describes_the_assembly() {
        for f in &FUNCTIONS {
            assert!(f.address().is_multiple_of(4096), "{}", f.name);
            assert_eq!(f.code().last(), Some(&0xc3), "{} ends with ret", f.name);
            assert_eq!(
                (f.calls()[CALL], f.calls().last()),
                (0xe8, Some(&0xc3)),
                "the loop of {}",
                f.name
            );
            f.call(3);
        }
    }
}
