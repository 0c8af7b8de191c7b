//! Comparing many words at once: a record's frames with the caller's, a bucket's tags with one tag. The former is half of the cost of a hit.
//!
//! The words are shared, so plain loads (and `memcmp`) are out of bounds for Rust, and its compiler does not combine atomic ones. Hence one file per architecture that can do
//! better, and a portable form.

#[cfg(not(all(target_arch = "x86_64", not(loom), not(miri))))]
#[path = "arch/portable.rs"]
mod arch;
#[cfg(all(target_arch = "x86_64", not(loom), not(miri)))]
#[path = "arch/x86_64.rs"]
mod arch;

pub(crate) use arch::{bytes_equal, differs};

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;
    use percpu::sync::atomic::{AtomicU64, Ordering};
    use std::vec::Vec;

    #[test]
    fn every_bit_of_every_word_counts() {
        for n in 0..70usize {
            let ours: Vec<u64> = (0..n as u64).map(|i| i.wrapping_mul(0x9e37_79b9_7f4a_7c15)).collect();
            let theirs: Vec<AtomicU64> = ours.iter().map(|w| AtomicU64::new(*w)).collect();
            assert!(!differs(&theirs, &ours), "{n} equal words");
            for (i, word) in theirs.iter().enumerate() {
                for bit in [0, 1, 31, 32, 63] {
                    word.fetch_xor(1 << bit, Ordering::Relaxed);
                    assert!(differs(&theirs, &ours), "bit {bit} of word {i} of {n}");
                    word.fetch_xor(1 << bit, Ordering::Relaxed);
                }
            }
        }
    }

    #[test]
    fn equal_bytes_are_found() {
        for tag in [0u8, 1, 0x7f, 0x80, 0xfe, 0xff] {
            for other in [tag ^ 1, tag ^ 0x55, tag ^ 0xff] {
                for at in 0..16 {
                    let mut bytes = [other; 16];
                    bytes[at] = tag;
                    let half = |i: usize| AtomicU64::new(u64::from_le_bytes(bytes[i..i + 8].try_into().unwrap()));
                    let mut words: [AtomicU64; 8] = Default::default();
                    (words[0], words[1]) = (half(0), half(8));
                    let found = bytes_equal(&words, tag);
                    assert_eq!(found.trailing_zeros() as usize, at, "tag {tag:#x} at {at} among {other:#x}");
                    assert_eq!(bytes_equal(&words, tag ^ 0x22), 0);
                }
            }
        }
    }

    #[test]
    fn words_behind_the_end_do_not_count() {
        let theirs: Vec<AtomicU64> = (0..20).map(AtomicU64::new).collect();
        let ours: Vec<u64> = (0..20).map(|i| if i < 11 { i } else { 99 }).collect();
        assert!(!differs(&theirs[..11], &ours[..11]));
    }
}
