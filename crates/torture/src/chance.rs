//! Cheap pseudo-random numbers, one generator per thread (Marsaglia's xorshift64*).

/// A generator.
#[derive(Clone, Debug)]
pub(crate) struct Chance(u64);

/// A seed that was not used before.
pub(crate) fn seed() -> u64 {
    use std::hash::{BuildHasher, RandomState};
    // Short enough to be typed.
    RandomState::new().hash_one(std::process::id()) % 1_000_000_000
}

impl Chance {
    /// The choices of one of the threads that share a seed.
    pub(crate) fn new(seed: u64, thread: u64) -> Self {
        let mixed =
            seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ thread.wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mut it = Self(mixed | 1);
        // Seeds that are alike begin alike: not what is used.
        for _ in 0..8 {
            it.next();
        }
        it
    }

    fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    /// True once in `n` times.
    #[inline]
    pub(crate) fn once_in(&mut self, n: u64) -> bool {
        self.below(n) == 0
    }

    /// A number below `n`.
    #[inline]
    pub(crate) fn below(&mut self, n: u64) -> u64 {
        (self.next() >> 33) % n
    }
}

#[cfg(test)]
mod tests {
    use super::Chance;

    fn first(seed: u64, thread: u64) -> [u64; 8] {
        let mut chance = Chance::new(seed, thread);
        std::array::from_fn(|_| chance.below(1024))
    }

    #[test]
    fn a_seed_gives_each_thread_the_same_choices_again() {
        assert_eq!(first(7, 3), first(7, 3));
        assert_ne!(first(7, 3), first(7, 4));
        assert_ne!(first(7, 3), first(8, 3));
    }
}
