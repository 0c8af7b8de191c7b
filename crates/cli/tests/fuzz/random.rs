//! Pseudo-random numbers and damage that repeat with their seed.

/// Numbers at the edges of what fields can hold.
const EDGES: [u64; 16] = [
    0,
    1,
    2,
    3,
    4,
    24,
    64,
    128,
    0x1000,
    0x7fff_ffff,
    0x8000_0000,
    0xffff_ffff,
    1 << 40,
    1 << 47,
    1 << 63,
    u64::MAX,
];

/// xorshift64 (Marsaglia, "Xorshift RNGs").
pub(crate) struct Random(u64);

impl Random {
    /// The same numbers for the same seed.
    pub(crate) fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
    }

    pub(crate) fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    /// A number below `end`, which is not 0.
    pub(crate) fn below(&mut self, end: usize) -> usize {
        (self.next() % end as u64) as usize
    }

    /// One of them.
    pub(crate) fn of<'a, T>(&mut self, all: &'a [T]) -> &'a T {
        &all[self.below(all.len())]
    }

    /// Whether something happens that happens `n` times in 100.
    pub(crate) fn percent(&mut self, n: u64) -> bool {
        self.next() % 100 < n
    }

    /// What becomes of the eight bytes of a word.
    pub(crate) fn damaged(&mut self, word: u64) -> u64 {
        let shift = 8 * (self.next() % 8);
        match self.next() % 5 {
            0 => word & !(0xff << shift) | (self.next() & 0xff) << shift,
            1 => word ^ 1 << (self.next() % 64),
            2 => *self.of(&EDGES),
            3 => word & !0xffff_ffff | self.of(&EDGES) & 0xffff_ffff,
            _ => word.wrapping_add(*self.of(&EDGES)),
        }
    }
}
