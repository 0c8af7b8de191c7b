//! The probed functions: the kernel's trigger benchmark's (nop, push, ret, nop5) and an ordinary one, each alone on its page, and the loop that calls them.
//!
//! | name | first instruction | how the kernel goes on from its breakpoint |
//! |---|---|---|
//! | `nop` | one-byte nop | emulated |
//! | `push` | `push rbp`, as most functions of a program built with frame pointers | emulated |
//! | `ret` | the whole function is one byte | single step |
//! | `nop5` | the five-byte nop, which Linux 6.18 replaces by a call | no trap after the first hit |
//! | `ordinary` | `mov rax, rdi` | single step |
//!
//! The loop is assembly, so that bare and probed calls are made by the same bytes at the same place.
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
}

impl Function {
    /// Where it is in this process.
    pub fn address(&self) -> u64 {
        self.start as *const () as u64
    }

    /// Its bytes.
    pub(super) fn code(&self) -> &'static [u8] {
        let start = self.address() as usize as *const u8;
        // SAFETY: the function's page is readable code for the life of the process, and nobody writes into it while a slice is alive but the kernel, which shows the original.
        unsafe { std::slice::from_raw_parts(start, self.size) }
    }

    /// Calls it `n` times.
    #[inline]
    pub fn call(&self, n: u64) {
        // SAFETY: it is one of the functions of this table.
        unsafe { call(n, self.address()) };
    }

    /// Calls it `n` times, with an `rdtsc` before and after each call.
    pub(super) fn call_clocked(&self, n: u64) {
        // SAFETY: the loop keeps to the C convention, and the functions of the table take any argument.
        unsafe { trapline_bench_loop_clocked(n, self.address() as usize) };
    }
}

/// Calls the function at `address` `n` times, always by the same instructions at the same place.
///
/// # Safety
/// There must be a function of the C convention that takes any integer.
#[inline]
pub(super) unsafe fn call(n: u64, address: u64) {
    // SAFETY: the loop keeps to the C convention, and the caller vouches for the function.
    unsafe { trapline_bench_loop(n, address as usize) };
}

/// One function on a page of its own in front of 0xcc, with which linkers pad. The argument is the number of calls left: the bodies compute something with it and give it back in rax.
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
        );
    };
}

function!("nop", "nop", "lea rax, [rdi + 7]", "ret");
function!("push", "push rbp", "mov rbp, rsp", "lea rax, [rdi + 7]", "pop rbp", "ret");
function!("ret", "ret");
function!("nop5", ".byte 0x0f, 0x1f, 0x44, 0x00, 0x00", "lea rax, [rdi + 7]", "ret");
function!("ordinary", "mov rax, rdi", "shl rax, 2", "lea rax, [rax + rdi + 7]", "ret");
function!("int3", "int3", "lea rax, [rdi + 7]", "ret");

// Floor of a detour: the push-first function with the jump, an `inc` below the stack pointer and the jump back assembled in.
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

// Floor of a latency probe: the loop with an rdtsc before and after an indirect call (rsi), which costs what a direct one does.
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

// The same without a clock. rdi: calls, rsi: the function.
global_asm!(
    ".pushsection .text.trapline_bench_loops,\"ax\",@progbits",
    ".p2align 6",
    ".globl trapline_bench_loop",
    ".hidden trapline_bench_loop",
    ".type trapline_bench_loop,@function",
    "trapline_bench_loop:",
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
    "mov rdi, rbx",
    "call r12",
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
    fn trapline_bench_loop(calls: u64, function: usize);
    fn trapline_bench_loop_clocked(calls: u64, function: usize);
    fn trapline_bench_nop();
    fn trapline_bench_push();
    fn trapline_bench_ret();
    fn trapline_bench_nop5();
    fn trapline_bench_ordinary();
    fn trapline_bench_int3();
    fn trapline_bench_detoured();
}

/// All targets, in the order of the tables.
pub static FUNCTIONS: [Function; 5] = [
    Function { name: "nop", symbol: "trapline_bench_nop", size: 6, first: 1, single_stepped: false, start: trapline_bench_nop },
    Function { name: "push", symbol: "trapline_bench_push", size: 10, first: 1, single_stepped: false, start: trapline_bench_push },
    Function { name: "ret", symbol: "trapline_bench_ret", size: 1, first: 1, single_stepped: true, start: trapline_bench_ret },
    Function { name: "nop5", symbol: "trapline_bench_nop5", size: 10, first: 5, single_stepped: false, start: trapline_bench_nop5 },
    Function {
        name: "ordinary",
        symbol: "trapline_bench_ordinary",
        size: 13,
        first: 3,
        single_stepped: true,
        start: trapline_bench_ordinary,
    },
];

/// The target that the goals of the benchmark are stated for.
pub(super) const PUSH: usize = 1;

/// Calls the function `n` times that was assembled with a detour.
pub(super) fn call_detoured(n: u64) {
    // SAFETY: a function like the others.
    unsafe { call(n, trapline_bench_detoured as *const () as u64) };
}

/// Calls a function `n` times that begins with a breakpoint of its own.
///
/// # Safety
/// SIGTRAP must have a handler that returns.
pub(super) unsafe fn call_into_int3(n: u64) {
    // SAFETY: the caller has a handler for the breakpoint; the function behind it computes a sum.
    unsafe { call(n, trapline_bench_int3 as *const () as u64) };
}

#[cfg(test)]
mod tests {
    use super::FUNCTIONS;

    #[test]
    fn the_table_describes_the_assembly() {
        for f in &FUNCTIONS {
            assert!(f.address().is_multiple_of(4096), "{}", f.name);
            assert_eq!(f.code().last(), Some(&0xc3), "{} ends with ret", f.name);
            f.call(3);
        }
    }
}
