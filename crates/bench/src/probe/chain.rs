//! Sixteen functions that call each other, the last of which is probed: with and without frame
//! pointers, on as many distinct stacks as wanted.
//!
//! Each level has two calls of the next, chosen by a bit of the argument, so that the bits of the
//! argument are the stack. The bare chain and the probed one have the same bytes.
#![allow(unsafe_code)]

use std::arch::global_asm;
use std::sync::atomic::{AtomicUsize, Ordering};

/// Frames of a stack that is measured: the probed function and fifteen callers.
pub(super) const FRAMES: usize = 16;

/// Levels 0 to 14 and the leaf, 15. `fp`: with frame pointers. The leaf is 9 bytes and calls
/// nobody, or it is a call of the function in `trapline_bench_chain_hook`.
macro_rules! chain {
    ($name:literal, $fp:literal, $hook:literal) => {
        global_asm!(
            concat!(".pushsection .text.trapline_bench_chain_", $name, ",\"ax\",@progbits"),
            ".altmacro",
            ".macro __trapline_level n, next",
            ".p2align 5",
            concat!("trapline_bench_chain_", $name, "_\\n:"),
            ".cfi_startproc",
            concat!(".if ", $fp),
            "push rbp",
            ".cfi_def_cfa_offset 16",
            ".cfi_offset rbp, -16",
            "mov rbp, rsp",
            ".cfi_def_cfa_register rbp",
            "sub rsp, 16",
            ".else",
            "sub rsp, 24 + 16 * (\\n & 3)",
            ".cfi_def_cfa_offset 32 + 16 * (\\n & 3)",
            ".endif",
            "test edi, 1 << \\n",
            "jz 1f",
            concat!("call trapline_bench_chain_", $name, "_\\next"),
            "jmp 2f",
            "1:",
            concat!("call trapline_bench_chain_", $name, "_\\next"),
            "2:",
            concat!(".if ", $fp),
            "leave",
            ".cfi_def_cfa rsp, 8",
            ".else",
            "add rsp, 24 + 16 * (\\n & 3)",
            ".cfi_def_cfa_offset 8",
            ".endif",
            "ret",
            ".cfi_endproc",
            ".endm",
            "__trapline_level 0, 1",
            "__trapline_level 1, 2",
            "__trapline_level 2, 3",
            "__trapline_level 3, 4",
            "__trapline_level 4, 5",
            "__trapline_level 5, 6",
            "__trapline_level 6, 7",
            "__trapline_level 7, 8",
            "__trapline_level 8, 9",
            "__trapline_level 9, 10",
            "__trapline_level 10, 11",
            "__trapline_level 11, 12",
            "__trapline_level 12, 13",
            "__trapline_level 13, 14",
            "__trapline_level 14, 15",
            ".purgem __trapline_level",
            ".noaltmacro",
            ".p2align 5, 0xcc",
            concat!(".globl trapline_bench_leaf_", $name),
            concat!(".type trapline_bench_leaf_", $name, ",@function"),
            concat!("trapline_bench_leaf_", $name, ":"),
            concat!("trapline_bench_chain_", $name, "_15:"),
            ".cfi_startproc",
            "push rbp",
            ".cfi_def_cfa_offset 16",
            ".cfi_offset rbp, -16",
            "mov rbp, rsp",
            ".cfi_def_cfa_register rbp",
            concat!(".if ", $hook),
            "call qword ptr [rip + {hook}]",
            ".else",
            "lea rax, [rdi + 7]",
            ".endif",
            "pop rbp",
            ".cfi_def_cfa rsp, 8",
            "ret",
            ".cfi_endproc",
            concat!(".size trapline_bench_leaf_", $name, ", .-trapline_bench_leaf_", $name),
            ".p2align 5, 0xcc",
            concat!(".globl trapline_bench_chain_", $name),
            concat!(".set trapline_bench_chain_", $name, ", trapline_bench_chain_", $name, "_0"),
            ".popsection",
            hook = sym HOOK,
        );
    };
}

chain!("bare", "0", "0");
chain!("tables", "0", "0");
chain!("hooked", "0", "1");
chain!("bare_fp", "1", "0");
chain!("pointers", "1", "0");
chain!("kernel_fp", "1", "0");

/// Address of what the leaf of the hooked chain calls.
static HOOK: AtomicUsize = AtomicUsize::new(0);

/// Makes the leaf of [`HOOKED`] call `f`. Not while a thread is in the chain.
pub(super) fn set_hook(f: extern "C" fn()) {
    // Relaxed: the threads that go there are started afterwards.
    HOOK.store(f as usize, Ordering::Relaxed);
}

/// A chain.
#[derive(Clone, Copy, Debug)]
pub(super) struct Chain {
    enter: unsafe extern "C" fn(u64),
    leaf: unsafe extern "C" fn(),
    /// Symbol of the leaf.
    pub(super) symbol: &'static str,
}

impl Chain {
    /// Address of the leaf.
    pub(super) fn leaf(&self) -> u64 {
        self.leaf as *const () as u64
    }

    /// Walks down it `n` times, on `stacks` stacks in turn, a power of two.
    #[inline]
    pub(super) fn call(&self, n: u64, stacks: u64) {
        for i in 0..n {
            // The stacks in an order that no predictor of returns or branches learns by heart.
            // SAFETY: keeps to the C convention.
            unsafe { (self.enter)(i.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 40 & (stacks - 1)) };
        }
    }
}

/// Bytes of a leaf that is probed.
pub(super) const LEAF_BYTES: u32 = 10;

unsafe extern "C" {
    fn trapline_bench_chain_bare(bits: u64);
    fn trapline_bench_chain_tables(bits: u64);
    fn trapline_bench_chain_hooked(bits: u64);
    fn trapline_bench_chain_bare_fp(bits: u64);
    fn trapline_bench_chain_pointers(bits: u64);
    fn trapline_bench_chain_kernel_fp(bits: u64);
    fn trapline_bench_leaf_bare();
    fn trapline_bench_leaf_tables();
    fn trapline_bench_leaf_hooked();
    fn trapline_bench_leaf_bare_fp();
    fn trapline_bench_leaf_pointers();
    fn trapline_bench_leaf_kernel_fp();
}

/// Not probed, without frame pointers.
pub(super) static BARE: Chain = Chain {
    enter: trapline_bench_chain_bare,
    leaf: trapline_bench_leaf_bare,
    symbol: "trapline_bench_leaf_bare",
};
/// Without frame pointers, probed by us.
pub(super) static TABLES: Chain = Chain {
    enter: trapline_bench_chain_tables,
    leaf: trapline_bench_leaf_tables,
    symbol: "trapline_bench_leaf_tables",
};
/// Without frame pointers; its leaf calls something.
pub(super) static HOOKED: Chain = Chain {
    enter: trapline_bench_chain_hooked,
    leaf: trapline_bench_leaf_hooked,
    symbol: "trapline_bench_leaf_hooked",
};
/// Not probed, with frame pointers.
pub(super) static BARE_FP: Chain = Chain {
    enter: trapline_bench_chain_bare_fp,
    leaf: trapline_bench_leaf_bare_fp,
    symbol: "trapline_bench_leaf_bare_fp",
};
/// With frame pointers, probed by us.
pub(super) static POINTERS: Chain = Chain {
    enter: trapline_bench_chain_pointers,
    leaf: trapline_bench_leaf_pointers,
    symbol: "trapline_bench_leaf_pointers",
};
/// With frame pointers, probed by the kernel.
pub(super) static KERNEL_FP: Chain = Chain {
    enter: trapline_bench_chain_kernel_fp,
    leaf: trapline_bench_leaf_kernel_fp,
    symbol: "trapline_bench_leaf_kernel_fp",
};
