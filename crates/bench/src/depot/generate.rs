//! Stacks from numbers.

/// Where the frames point: a plausible place for a program's code.
const TEXT: u64 = 0x5555_5555_0000;

/// The stack with this number. Different numbers below 2^40 give different stacks: the innermost
/// frame carries the number.
#[inline(always)]
pub(super) fn stack<const DEPTH: usize>(number: u64) -> [u64; DEPTH] {
    let seed = number.wrapping_mul(0x9e37_79b9_7f4a_7c15);
    let mut frames = [0; DEPTH];
    for (k, frame) in frames.iter_mut().enumerate() {
        *frame = TEXT + (seed.rotate_left(k as u32 * 5) & 0xfff_ffff);
    }
    frames[0] = TEXT + (number << 4);
    frames
}

/// Numbers to look up: uniform below `distinct`, by a linear congruential generator (Knuth's MMIX)
/// and a multiply-shift.
pub(super) struct Picks {
    state: u64,
    distinct: u64,
}

impl Picks {
    pub(super) fn new(seed: u64, distinct: u64) -> Self {
        Self { state: seed.wrapping_mul(0xd134_2543_de82_ef95).wrapping_add(1), distinct }
    }

    #[inline(always)]
    pub(super) fn next(&mut self) -> u64 {
        self.state = self
            .state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        ((self.state >> 32) * self.distinct) >> 32
    }
}

#[cfg(test)]
mod tests {
    use super::{Picks, stack};
    use std::collections::HashSet;

    #[test]
    fn stacks_differ_and_picks_stay_in_range() {
        let distinct: HashSet<[u64; 16]> = (0..20_000).map(stack::<16>).collect();
        assert_eq!(distinct.len(), 20_000);
        let mut picks = Picks::new(3, 1_000);
        let seen: HashSet<u64> = (0..20_000).map(|_| picks.next()).collect();
        assert_eq!((seen.len(), seen.iter().max()), (1_000, Some(&999)));
    }
}
