//! In thread-local storage, at a constant distance from fs:0 (the initial-exec model, as in
//! `percpu`).
#![allow(unsafe_code)]

use core::arch::{asm, global_asm};

global_asm!(
    ".pushsection .tbss.__trapline_uprobe_tls_v0,\"awT\",@nobits",
    ".globl __trapline_uprobe_tls_v0",
    ".hidden __trapline_uprobe_tls_v0",
    ".type __trapline_uprobe_tls_v0,@tls_object",
    ".size __trapline_uprobe_tls_v0,64",
    ".balign 64",
    "__trapline_uprobe_tls_v0:",
    ".zero 64",
    ".popsection",
);

/// Offset of the first word, which is `STATE`, from what is loaded.
pub(super) const FIRST: usize = 0;
const BYTES: usize = 64;

macro_rules! load_place {
    ($register:literal) => {
        concat!("mov ", $register, ", qword ptr [rip + __trapline_uprobe_tls_v0@GOTTPOFF]")
    };
}
macro_rules! state {
    ($register:literal) => {
        concat!("qword ptr fs:[", $register, " + {tls_state}]")
    };
}
macro_rules! load_state {
    ($register:literal, $otherwise:literal) => {
        concat!(
            "mov ",
            $register,
            ", qword ptr [rip + __trapline_uprobe_tls_v0@GOTTPOFF]\n",
            "mov ",
            $register,
            ", qword ptr fs:[",
            $register,
            " + {tls_state}]\n",
            "test ",
            $register,
            ", ",
            $register,
            "\n",
            "jz ",
            $otherwise,
        )
    };
}
pub(crate) use {load_place, load_state, state};

/// Whether the calling thread has words now: there always are.
#[inline(always)]
pub(crate) fn prepare() -> bool {
    true
}

/// For a counting stub: `put`s the instructions that load `STATE` into a register and set the zero
/// flag if there is none.
pub(crate) fn stub_load(register: u8, mut put: impl FnMut(&[u8])) {
    let (low, high) = (register & 7, register >> 3);
    let [d0, d1, d2, d3] = ((distance() + FIRST as i64) as i32).to_le_bytes();
    put(&[0x64, 0x48 | high << 2, 0x8b, 0x04 | low << 3, 0x25, d0, d1, d2, d3]);
    put(&[0x48 | high << 2 | high, 0x85, 0xc0 | low << 3 | low]);
}

/// Distance of the words from fs:0.
fn distance() -> i64 {
    let distance: i64;
    // SAFETY: a load from the global offset table (or a constant, if the linker knows it).
    unsafe {
        asm!(
            "mov {}, qword ptr [rip + __trapline_uprobe_tls_v0@GOTTPOFF]",
            out(reg) distance,
            options(nostack, preserves_flags, readonly),
        );
    }
    distance
}

/// Reads a word.
#[inline(always)]
pub(crate) fn get<const WORD: usize>() -> usize {
    const { assert!(WORD < BYTES) };
    let value: usize;
    // SAFETY: a load of one of the thread's own words.
    unsafe {
        asm!(
            "mov {v}, qword ptr [rip + __trapline_uprobe_tls_v0@GOTTPOFF]",
            "mov {v}, qword ptr fs:[{v} + {w}]",
            v = out(reg) value,
            w = const WORD,
            options(nostack, preserves_flags, readonly),
        );
    }
    value
}

/// Writes a word.
#[inline(always)]
pub(crate) fn set<const WORD: usize>(value: usize) {
    const { assert!(WORD < BYTES) };
    // SAFETY: a store to one of the thread's own words. Memory is not declared untouched: signal
    // handlers read what was written before.
    unsafe {
        asm!(
            "mov {t}, qword ptr [rip + __trapline_uprobe_tls_v0@GOTTPOFF]",
            "mov qword ptr fs:[{t} + {w}], {v}",
            t = out(reg) _,
            v = in(reg) value,
            w = const WORD,
            options(nostack, preserves_flags),
        );
    }
}

#[cfg(test)]
mod tests {
    use super::{distance, stub_load};
    use alloc::vec::Vec;

    /// Two instructions, and no more: each hit pays for them.
    #[test]
    fn what_a_stub_loads() {
        let of = |register: u8| {
            let mut code: Vec<Vec<u8>> = Vec::new();
            stub_load(register, |instruction| code.push(instruction.to_vec()));
            code
        };
        let place = (distance() as i32).to_le_bytes();
        let load = |code: [u8; 5]| [&code[..], &place].concat();
        // rcx, r11
        assert_eq!(of(1), [load([0x64, 0x48, 0x8b, 0x0c, 0x25]), [0x48, 0x85, 0xc9].to_vec()]);
        assert_eq!(of(11), [load([0x64, 0x4c, 0x8b, 0x1c, 0x25]), [0x4d, 0x85, 0xdb].to_vec()]);
    }
}
