//! The comparisons in portable Rust.

use percpu::sync::atomic::{AtomicU64, Ordering};

/// Whether two stacks of the same depth differ. Of different ones the shorter depth is compared.
#[inline(always)]
pub(crate) fn differs(theirs: &[AtomicU64], ours: &[u64]) -> bool {
    let (their_blocks, their_rest) = theirs.as_chunks::<4>();
    let (our_blocks, our_rest) = ours.as_chunks::<4>();
    // Equal stacks are the common case: four chains without a branch beat leaving early.
    let mut acc = [0u64; 4];
    for (t, o) in their_blocks.iter().zip(our_blocks) {
        // Relaxed, here and below: see `Record::is`.
        acc[0] |= t[0].load(Ordering::Relaxed) ^ o[0];
        acc[1] |= t[1].load(Ordering::Relaxed) ^ o[1];
        acc[2] |= t[2].load(Ordering::Relaxed) ^ o[2];
        acc[3] |= t[3].load(Ordering::Relaxed) ^ o[3];
    }
    for (t, o) in their_rest.iter().zip(our_rest) {
        acc[0] |= t.load(Ordering::Relaxed) ^ o;
    }
    acc[0] | acc[1] | acc[2] | acc[3] != 0
}

/// A bit for each of sixteen bytes in the first two words that equals `tag`. May have wrong ones
/// above a right one, never misses one.
#[inline(always)]
pub(crate) fn bytes_equal(words: &[AtomicU64; 8], tag: u8) -> u32 {
    const EVERY_BYTE: u64 = 0x0101_0101_0101_0101;
    let half = |w: &AtomicU64| {
        // Relaxed: tags are hints.
        let x = w.load(Ordering::Relaxed) ^ (u64::from(tag) * EVERY_BYTE);
        let zeros = (x.wrapping_sub(EVERY_BYTE) & !x) >> 7 & EVERY_BYTE;
        // One bit per byte, gathered into the top byte by a product without carries.
        (zeros.wrapping_mul(0x0102_0408_1020_4080) >> 56) as u32
    };
    half(&words[0]) | half(&words[1]) << 8
}
