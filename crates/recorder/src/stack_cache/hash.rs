//! A hash that tells stacks apart without keeping them: NH, from UMAC (Black, Halevi, Krawczyk,
//! Krovetz and Rogaway, "UMAC: Fast and Secure Message Authentication", CRYPTO 1999), on words of
//! 64 bits. Of keys that nobody knows, at most one in 2^64 gives two different messages the same
//! hash, whatever the messages are.

use crate::random;
use alloc::boxed::Box;
use alloc::vec;

/// Keys: a pair for the shape, and one for each two words.
#[derive(Debug)]
pub(crate) struct Keys {
    shape: [u64; 2],
    words: Box<[[u64; 2]]>,
}

impl Keys {
    /// Random ones, for messages of so many pairs of words.
    pub(crate) fn random(pairs: usize) -> Self {
        let (mut shape, mut words) = ([0; 2], vec![[0; 2]; pairs].into_boxed_slice());
        random::fill(&mut shape);
        random::fill(words.as_flattened_mut());
        Self { shape, words }
    }

    /// The hash of a message, which is a number for its shape and, for each shape, always the same
    /// count of words.
    #[inline(always)]
    pub(crate) fn hash(&self, shape: u32, words: impl Iterator<Item = [u64; 2]>) -> u128 {
        let shape = product([u64::from(shape), 0], &self.shape);
        words
            .zip(&self.words)
            .fold(shape, |sum, (words, keys)| sum.wrapping_add(product(words, keys)))
    }
}

#[inline(always)]
fn product([a, b]: [u64; 2], [k, l]: &[u64; 2]) -> u128 {
    u128::from(a.wrapping_add(*k)) * u128::from(b.wrapping_add(*l))
}

#[cfg(test)]
mod tests {
    use super::Keys;
    use std::collections::HashSet;

    #[test]
    fn messages_that_differ_in_a_bit_or_in_their_order_have_hashes_of_their_own() {
        let keys = Keys::random(8);
        let hash = |shape, words: &[[u64; 2]]| keys.hash(shape, words.iter().copied());
        let words = [[7, 7]; 8];
        let mut seen =
            HashSet::from([hash(1, &words), hash(2, &words), hash(1, &words[..7]), hash(1, &[])]);
        for bit in 0..64 {
            for place in 0..16 {
                let mut other = words;
                other[place / 2][place % 2] ^= 1 << bit;
                seen.insert(hash(1, &other));
            }
        }
        assert_eq!(seen.len(), 4 + 64 * 16);
        let (mut order, mut swapped) = (words, words);
        (order[0], order[3], swapped[3], swapped[0]) = ([1, 2], [3, 4], [1, 2], [3, 4]);
        assert_ne!(hash(1, &order), hash(1, &swapped));
        assert_eq!(hash(1, &order), hash(1, &order));
    }

    #[test]
    fn keys_differ() {
        let hash = || Keys::random(1).hash(0, [[1, 2]].into_iter());
        assert_ne!(hash(), hash());
    }
}
