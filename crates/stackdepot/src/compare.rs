//! Comparing many words at once: a record's frames with the caller's, a bucket's tags with one tag.
//! The former is half of the cost of a hit.
//!
//! The words are shared, so plain loads (and `memcmp`) are out of bounds for Rust, and its compiler
//! does not combine atomic ones. Hence one file per architecture that can do better, and a portable
//! form.

#[cfg(any(
    test,
    not(all(target_arch = "x86_64", not(loom), not(miri), not(percpu_no_asm), not(simulated)))
))]
#[path = "arch/portable.rs"]
mod portable;
#[cfg(all(target_arch = "x86_64", not(loom), not(miri), not(percpu_no_asm), not(simulated)))]
#[path = "arch/x86_64.rs"]
mod x86_64;

#[cfg(not(all(
    target_arch = "x86_64",
    not(loom),
    not(miri),
    not(percpu_no_asm),
    not(simulated)
)))]
pub(crate) use portable::{bytes_equal, differs};
#[cfg(all(target_arch = "x86_64", not(loom), not(miri), not(percpu_no_asm), not(simulated)))]
pub(crate) use x86_64::{bytes_equal, differs};

#[cfg(all(test, not(loom)))]
mod tests {
    use super::portable;
    use percpu::sync::atomic::{AtomicU64, Ordering};
    use std::vec::Vec;

    type Differs = fn(&[AtomicU64], &[u64]) -> bool;
    type BytesEqual = fn(&[AtomicU64; 8], u8) -> u32;

    /// The portable form is tested everywhere.
    const DIFFERS: [Differs; 2] = [super::differs, portable::differs];
    const BYTES_EQUAL: [BytesEqual; 2] = [super::bytes_equal, portable::bytes_equal];

    #[test]
    fn every_bit_of_every_word_counts() {
        for (differs, n) in DIFFERS.into_iter().flat_map(|f| (0..70usize).map(move |n| (f, n))) {
            let ours: Vec<u64> =
                (0..n as u64).map(|i| i.wrapping_mul(0x9e37_79b9_7f4a_7c15)).collect();
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
    fn words_behind_the_end_do_not_count() {
        let theirs: Vec<AtomicU64> = (0..20).map(AtomicU64::new).collect();
        let ours: Vec<u64> = (0..20).map(|i| if i < 11 { i } else { 99 }).collect();
        assert!(DIFFERS.iter().all(|differs| !differs(&theirs[..11], &ours[..11])));
    }

    #[test]
    fn equal_bytes_are_found() {
        for tag in [0u8, 1, 0x7f, 0x80, 0xfe, 0xff] {
            for other in [tag ^ 1, tag ^ 0x55, tag ^ 0xff] {
                for at in 0..16 {
                    let mut bytes = [other; 16];
                    bytes[at] = tag;
                    let half = |i: usize| {
                        AtomicU64::new(u64::from_le_bytes(bytes[i..i + 8].try_into().unwrap()))
                    };
                    let mut words: [AtomicU64; 8] = Default::default();
                    (words[0], words[1]) = (half(0), half(8));
                    for bytes_equal in BYTES_EQUAL {
                        let found = bytes_equal(&words, tag);
                        assert_eq!(
                            found.trailing_zeros() as usize,
                            at,
                            "tag {tag:#x} at {at} among {other:#x}"
                        );
                        assert_eq!(bytes_equal(&words, tag ^ 0x22), 0);
                    }
                }
            }
        }
    }
}
