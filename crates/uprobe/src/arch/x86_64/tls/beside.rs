//! Behind the primitives' words of a thread (`percpu::host`), whose address is in 32 bits beside
//! the thread pointer: 0 in a thread that has had no hit. The distance is the process's.
#![allow(unsafe_code)]

use core::arch::global_asm;
use core::sync::atomic::{AtomicI64, AtomicUsize, Ordering};
use percpu::host::{self, Words};

global_asm!(
    ".pushsection .bss.__trapline_uprobe_distance_v0,\"aw\",@nobits",
    ".globl __trapline_uprobe_distance_v0",
    ".hidden __trapline_uprobe_distance_v0",
    ".type __trapline_uprobe_distance_v0,@object",
    ".size __trapline_uprobe_distance_v0,8",
    ".balign 8",
    "__trapline_uprobe_distance_v0:",
    ".zero 8",
    ".popsection",
);

unsafe extern "C" {
    #[link_name = "__trapline_uprobe_distance_v0"]
    static DISTANCE: AtomicI64;
}

/// Offset of the first word, which is `STATE`, from what is loaded.
pub(super) const FIRST: usize = Words::MORE;

macro_rules! low_half {
    ("rcx") => {
        "ecx"
    };
    ("rdx") => {
        "edx"
    };
    ("rsi") => {
        "esi"
    };
}
macro_rules! load_place {
    ($register:tt) => {
        concat!(
            "mov ",
            $register,
            ", qword ptr [rip + __trapline_uprobe_distance_v0]\n",
            "mov ",
            $crate::arch::x86_64::tls::low_half!($register),
            ", dword ptr fs:[",
            $register,
            "]",
        )
    };
}
macro_rules! load_state {
    ($register:tt, $otherwise:literal) => {
        concat!(
            $crate::arch::x86_64::tls::load_place!($register),
            "\n",
            "test ",
            $register,
            ", ",
            $register,
            "\n",
            "jz 31f\n",
            "mov ",
            $register,
            ", qword ptr [",
            $register,
            " + {tls_state}]\n",
            "test ",
            $register,
            ", ",
            $register,
            "\n",
            "31: jz ",
            $otherwise,
        )
    };
}
pub(crate) use {load_place, load_state, low_half};

/// For a counting stub: `put`s the instructions that load `STATE` into a register and set the zero
/// flag if there is none.
pub(crate) fn stub_load(register: u8, mut put: impl FnMut(&[u8])) {
    let (low, high) = (register & 7, register >> 3);
    // Before the stub runs, `prepare` was called.
    let [d0, d1, d2, d3] = (host::distance().unwrap_or(0)).to_le_bytes();
    let word = [0x44, 0x8b, 0x04 | low << 3, 0x25, d0, d1, d2, d3];
    let test = [0x45, 0x85, 0xc0 | low << 3 | low];
    let prefix = usize::from(high == 0);
    let mut load = [0x64; 9];
    load[1..][..word.len() - prefix].copy_from_slice(&word[prefix..]);
    put(&load[..9 - prefix]);
    put(&test[prefix..]);
    // Over the next two, with the zero flag set.
    put(&[0x74, 7]);
    const { assert!(FIRST < 0x80) };
    put(&[0x48 | high << 2 | high, 0x8b, 0x40 | low << 3 | low, FIRST as u8]);
    put(&[0x48 | high << 2 | high, 0x85, 0xc0 | low << 3 | low]);
}

/// Whether the calling thread has words now. False: there are too many threads.
///
/// # Context
/// Signal-safe; no system call. From the slow path, before anything is written.
pub(crate) fn prepare() -> bool {
    let Some(distance) = host::distance() else { return host::own_words().is_some() };
    // SAFETY: 8 bytes, aligned. Everybody writes the same.
    unsafe { &DISTANCE }.store(distance.into(), Ordering::Relaxed);
    host::own_words().is_some()
}

pub(super) const fn index(word: usize) -> usize {
    (word - FIRST) / size_of::<AtomicUsize>()
}

/// Reads a word; 0 in a thread that has none.
#[inline(always)]
pub(crate) fn get<const WORD: usize>() -> usize {
    const { assert!(index(WORD) < 8) };
    // Relaxed: the thread's own.
    host::known_words().map_or(0, |words| words.more[index(WORD)].load(Ordering::Relaxed))
}

/// Writes a word; nothing in a thread that can have none.
#[inline(always)]
pub(crate) fn set<const WORD: usize>(value: usize) {
    const { assert!(index(WORD) < 8) };
    if let Some(words) = host::own_words() {
        words.more[index(WORD)].store(value, Ordering::Relaxed);
    }
}
