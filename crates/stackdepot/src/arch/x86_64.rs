//! The comparisons with SSE2, which every x86-64 has.
//!
//! The loads are assembly because shared words may change meanwhile. To Rust the assembly is
//! relaxed atomic loads of the words in some order, which is what the processor does: it may split
//! a 16-byte load, but none of the aligned words in it. Wider vectors would be faster still; but
//! the trampoline of a probe may save only what code compiled for any x86-64 touches, and that is
//! the xmm registers.
#![allow(unsafe_code)]

use core::arch::asm;
use percpu::sync::atomic::{AtomicU64, Ordering};

/// Whether two stacks of the same depth differ. Of different ones the shorter depth is compared.
#[inline(always)]
pub(crate) fn differs(theirs: &[AtomicU64], ours: &[u64]) -> bool {
    let (their_blocks, their_rest) = theirs.as_chunks::<8>();
    let (our_blocks, our_rest) = ours.as_chunks::<8>();
    let mut rest = 0;
    for (t, o) in their_rest.iter().zip(our_rest) {
        // Relaxed: see `Record::is`.
        rest |= t.load(Ordering::Relaxed) ^ o;
    }
    rest != 0 || blocks_differ(their_blocks, our_blocks)
}

#[inline(always)]
fn blocks_differ(theirs: &[[AtomicU64; 8]], ours: &[[u64; 8]]) -> bool {
    let n = theirs.len().min(ours.len());
    if n == 0 {
        return false;
    }
    let equal: u32;
    // SAFETY: reads n blocks of 64 bytes from each of two slices that have at least n, n being at
    // least 1, and writes registers only.
    unsafe {
        asm!(
            "pxor {a}, {a}",
            "pxor {b}, {b}",
            "2:",
            "movdqu {x}, [{t} + {i}]",
            "movdqu {y}, [{o} + {i}]",
            "pxor {x}, {y}",
            "por {a}, {x}",
            "movdqu {z}, [{t} + {i} + 16]",
            "movdqu {w}, [{o} + {i} + 16]",
            "pxor {z}, {w}",
            "por {b}, {z}",
            "movdqu {x}, [{t} + {i} + 32]",
            "movdqu {y}, [{o} + {i} + 32]",
            "pxor {x}, {y}",
            "por {a}, {x}",
            "movdqu {z}, [{t} + {i} + 48]",
            "movdqu {w}, [{o} + {i} + 48]",
            "pxor {z}, {w}",
            "por {b}, {z}",
            "add {i}, 64",
            "jnz 2b",
            "por {a}, {b}",
            "pxor {b}, {b}",
            "pcmpeqb {a}, {b}",
            "pmovmskb {equal:e}, {a}",
            t = in(reg) theirs.as_ptr().wrapping_add(n),
            o = in(reg) ours.as_ptr().wrapping_add(n),
            i = inout(reg) (n * 64).wrapping_neg() => _,
            equal = lateout(reg) equal,
            a = out(xmm_reg) _,
            b = out(xmm_reg) _,
            x = out(xmm_reg) _,
            y = out(xmm_reg) _,
            z = out(xmm_reg) _,
            w = out(xmm_reg) _,
            options(readonly, nostack),
        );
    }
    equal != 0xffff
}

/// A bit for each of sixteen bytes in the first two words that equals `tag`.
#[inline(always)]
pub(crate) fn bytes_equal(words: &[AtomicU64; 8], tag: u8) -> u32 {
    let equal: u32;
    // SAFETY: reads the first 16 of the 64 bytes behind a reference and writes registers only. As
    // relaxed loads: tags are hints.
    unsafe {
        asm!(
            "movd {y}, {tags:e}",
            "pshufd {y}, {y}, 0",
            "movdqu {x}, [{p}]",
            "pcmpeqb {x}, {y}",
            "pmovmskb {equal:e}, {x}",
            p = in(reg) words,
            tags = in(reg) u32::from(tag) * 0x0101_0101,
            equal = lateout(reg) equal,
            x = out(xmm_reg) _,
            y = out(xmm_reg) _,
            options(readonly, nostack, preserves_flags),
        );
    }
    equal
}
