//! Hash of a stack: 64 bits over whole words.
//!
//! The folded multiply (both halves of a 64 x 64 -> 128 bit product, xored) is that of wyhash and
//! its descendants. Two changes for this use: words instead of bytes, since a stack has no odd
//! lengths and tails; and four words to a multiplication. Measured on whole hits: with two words to
//! a multiplication 16 frames took 1 ns more; a multilinear hash, one 64-bit multiplication for
//! each word, took 35 ns instead of 28 for 40 frames.
//!
//! Not keyed: an attacker who chooses return addresses can make stacks that share a bucket, which
//! costs time in proportion and nothing else: equality is decided by the frames.

#[cfg(not(loom))]
pub(crate) use real::{hash, hash_shared};

/// Models want every stack to collide with every other.
#[cfg(loom)]
mod weak {
    use percpu::sync::atomic::AtomicU64;

    pub(crate) fn hash(_frames: &[u64]) -> u64 {
        0
    }

    pub(crate) fn hash_shared(_frames: &[AtomicU64]) -> u64 {
        0
    }
}
#[cfg(loom)]
pub(crate) use weak::{hash, hash_shared};

#[cfg(not(loom))]
mod real {
    use percpu::sync::atomic::{AtomicU64, Ordering};

    /// Odd constants without structure: SHA-256 of "stackdepot lane N", first 8 bytes, lowest bit
    /// set.
    const K: [u64; 8] = [
        0x8bc4_cb40_b230_dcb1,
        0x06c1_3d8f_1fd1_9853,
        0xfe28_1ee1_40dc_e9e5,
        0x8700_abc8_9d93_e38b,
        0x07a0_f854_9ea1_b7d5,
        0x19e2_72ca_1146_573f,
        0xc726_a81b_0d94_b637,
        0x3a64_e1cf_89b2_11b7,
    ];

    /// A word that can be read: the caller's own, or one in shared memory.
    trait Word {
        fn get(&self) -> u64;
    }

    impl Word for u64 {
        #[inline(always)]
        fn get(&self) -> u64 {
            *self
        }
    }

    impl Word for AtomicU64 {
        #[inline(always)]
        fn get(&self) -> u64 {
            // Relaxed: the record belongs to the caller, or the caller validates what it read.
            self.load(Ordering::Relaxed)
        }
    }

    #[inline(always)]
    fn fold(a: u64, b: u64) -> u64 {
        let product = u128::from(a) * u128::from(b);
        (product as u64) ^ ((product >> 64) as u64)
    }

    /// Two words in one: 32 bits apart, so that addresses of one module, or of any two that are not
    /// a multiple of 4 GiB apart, do not cancel each other's differences.
    #[inline(always)]
    fn pair<W: Word>(a: &W, b: &W) -> u64 {
        a.get().wrapping_add(b.get().rotate_left(32))
    }

    #[inline(always)]
    fn mix<W: Word>(frames: &[W]) -> u64 {
        let mut lane = [K[0] ^ frames.len() as u64, K[1]];
        let (blocks, rest) = frames.as_chunks::<8>();
        for b in blocks {
            lane[0] = fold(pair(&b[0], &b[1]) ^ lane[0], pair(&b[2], &b[3]) ^ K[2]);
            lane[1] = fold(pair(&b[4], &b[5]) ^ lane[1], pair(&b[6], &b[7]) ^ K[3]);
        }
        let (pairs, last) = rest.as_chunks::<2>();
        for p in pairs {
            lane[0] = fold(p[0].get() ^ lane[0], p[1].get() ^ K[4]);
        }
        if let [w] = last {
            lane[1] = fold(w.get() ^ lane[1], K[5]);
        }
        fold(lane[0] ^ K[6], lane[1] ^ K[7])
    }

    /// Hash of the caller's frames.
    #[inline(always)]
    pub(crate) fn hash(frames: &[u64]) -> u64 {
        mix(frames)
    }

    /// The same hash of the same frames, read from a record.
    pub(crate) fn hash_shared(frames: &[AtomicU64]) -> u64 {
        mix(frames)
    }

    #[cfg(test)]
    mod tests {
        use super::*;
        use std::collections::HashSet;
        use std::vec::Vec;

        /// A small generator (splitmix64) so that the tests are the same every time.
        struct Rng(u64);

        impl Rng {
            fn next(&mut self) -> u64 {
                self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
                let mut z = self.0;
                z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
                z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
                z ^ (z >> 31)
            }
        }

        #[test]
        fn shared_words_hash_like_plain_ones() {
            let mut rng = Rng(1);
            for n in 1..80 {
                let plain: Vec<u64> = (0..n).map(|_| rng.next()).collect();
                let shared: Vec<AtomicU64> = plain.iter().map(|w| AtomicU64::new(*w)).collect();
                assert_eq!(hash(&plain), hash_shared(&shared));
            }
        }

        #[test]
        fn one_input_bit_flips_half_of_the_output() {
            let mut rng = Rng(2);
            for n in [1usize, 2, 3, 7, 8, 9, 16, 17, 40, 64] {
                let mut flips = [0u32; 64];
                let mut trials = 0;
                for _ in 0..40 {
                    // Addresses as programs have them: a few bits vary.
                    let frames: Vec<u64> =
                        (0..n).map(|_| 0x7f12_3400_0000 + (rng.next() & 0xf_ffff)).collect();
                    let base = hash(&frames);
                    for bit in 0..64 {
                        let mut other = frames.clone();
                        other[(rng.next() as usize) % n] ^= 1 << bit;
                        let changed = base ^ hash(&other);
                        trials += 1;
                        for (out, f) in flips.iter_mut().enumerate() {
                            *f += (changed >> out & 1) as u32;
                        }
                    }
                }
                for (out, f) in flips.iter().enumerate() {
                    let share = f64::from(*f) / f64::from(trials);
                    assert!(
                        (0.44..0.56).contains(&share),
                        "{n} words: output bit {out} flips in {share} of the trials"
                    );
                }
            }
        }

        fn distinct_and_spread(name: &str, stacks: impl Iterator<Item = Vec<u64>>) {
            let mut seen = HashSet::new();
            let mut top = std::vec![0u32; 1 << 10];
            let mut low = std::vec![0u32; 1 << 10];
            let mut n = 0u32;
            for s in stacks {
                let h = hash(&s);
                n += 1;
                assert!(seen.insert(h), "{name}: two stacks share a 64-bit hash");
                top[(h >> 54) as usize] += 1;
                low[(h & 1023) as usize] += 1;
            }
            // Mean of 1024 cells with mean m: chi-square / cells is near 1 for a good hash.
            let mean = f64::from(n) / 1024.0;
            for (which, cells) in [("top", &top), ("low", &low)] {
                let chi = cells.iter().map(|c| (f64::from(*c) - mean).powi(2) / mean).sum::<f64>()
                    / 1024.0;
                assert!(
                    (0.75..1.25).contains(&chi),
                    "{name}: {which} bits are spread unevenly ({chi})"
                );
            }
        }

        #[test]
        fn address_like_stacks_are_spread() {
            distinct_and_spread(
                "last frame varies by 4",
                (0..50_000u64).map(|i| std::vec![0x40_1000, 0x40_2000, 0x40_3000 + 4 * i]),
            );
            distinct_and_spread(
                "first frame varies by 1",
                (0..50_000u64).map(|i| std::vec![0x40_1000 + i, 0x40_2000, 0x40_3000, 1]),
            );
            distinct_and_spread("one word", (0..50_000u64).map(|i| std::vec![i]));
            distinct_and_spread(
                "two frames trade places",
                (0..50_000u64).map(|i| std::vec![0x1000 + i, 0x10_0000 - i, 5, 6, 7, 8, 9, 10]),
            );
            distinct_and_spread(
                "sixteen frames, each of two addresses",
                (0..1u64 << 16)
                    .map(|i| (0..16).map(|b| 0x7f00_0000_1000 + 0x40 * (i >> b & 1)).collect()),
            );
        }

        #[test]
        fn order_length_and_repetition_matter() {
            let mut seen = HashSet::new();
            for n in 1..=255usize {
                assert!(seen.insert(hash(&std::vec![0; n])), "zeros of length {n}");
                assert!(
                    seen.insert(hash(&std::vec![0x40_1000; n])),
                    "one address {n} times (recursion)"
                );
            }
            assert_ne!(hash(&[1, 2]), hash(&[2, 1]));
            for n in [8usize, 16, 24] {
                for i in 0..n {
                    for j in 0..i {
                        let mut a: Vec<u64> = (0..n as u64).map(|k| 0x1000 * (k + 1)).collect();
                        a.swap(i, j);
                        assert!(seen.insert(hash(&a)), "swap {i} {j} of {n}");
                    }
                }
            }
        }
    }
}
