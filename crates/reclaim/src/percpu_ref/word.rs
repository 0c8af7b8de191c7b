//! The shared word: `[count: 63 | dead: 1]`. Pure arithmetic.
//!
//! The count is a sum modulo 2^63. In per-CPU mode, and while a switch is under way, it contains [`BIAS`], the half of the range, and only part of the references: the rest is in
//! the cells. The part may be negative (taken on a CPU, put into the word), but it stays less than 2^62 away from the bias, so that the count cannot become zero.
//! Without the bias it is the number of references.

/// A reference count's shared state at one moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Word(pub(super) u64);

/// Killed: no new references for those who ask for a live object.
pub(super) const DEAD: u64 = 1;

/// One reference.
pub(super) const ONE: u64 = 2;

/// What keeps the count from becoming zero while it is not the whole sum.
pub(super) const BIAS: u64 = 1 << 63;

impl Word {
    pub(super) const fn is_dead(self) -> bool {
        self.0 & DEAD != 0
    }

    pub(super) const fn is_zero(self) -> bool {
        self.0 & !DEAD == 0
    }

    /// More references; wraps.
    pub(super) const fn plus(self, n: u64) -> Self {
        Self(self.0.wrapping_add(n.wrapping_mul(ONE)))
    }

    /// Fewer references. `None`: more than there are. With the bias in it the count is never small.
    pub(super) const fn minus(self, n: u64) -> Option<Self> {
        match (self.0 & !DEAD).checked_sub(n.wrapping_mul(ONE)) {
            Some(count) => Some(Self(count | self.0 & DEAD)),
            None => None,
        }
    }

    /// Without the bias, and with what the cells hold. `None`: that leaves no reference, or a negative number of them.
    pub(super) const fn folded(self, cells: u64) -> Option<Self> {
        let word = Self(self.0.wrapping_sub(BIAS)).plus(cells);
        if (word.0 & !DEAD) as i64 > 0 { Some(word) } else { None }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counting() {
        let one = Word(ONE);
        assert_eq!(one.plus(2).minus(3), Some(Word(0)));
        assert_eq!(one.minus(2), None);
        assert_eq!(Word(DEAD).minus(1), None);
        assert!(Word(DEAD).is_zero());
        assert_eq!(Word(ONE | DEAD).minus(1), Some(Word(DEAD)));
    }

    #[test]
    fn folding() {
        let biased = Word(ONE | BIAS);
        assert!(!biased.is_zero());
        assert_eq!(biased.folded(0), Some(Word(ONE)));
        assert_eq!(biased.folded(5), Some(Word(6 * ONE)));
        // Five were put into the word that are still counted in the cells.
        assert_eq!(biased.plus(5_u64.wrapping_neg()).folded(5), Some(Word(ONE)));
        // The dead bit is no reference.
        assert_eq!(Word(ONE | BIAS | DEAD).folded(0), Some(Word(ONE | DEAD)));
    }

    #[test]
    fn folding_finds_what_was_put_too_often() {
        assert_eq!(Word(ONE | BIAS).folded(1_u64.wrapping_neg()), None);
        assert_eq!(Word(ONE | BIAS).folded(2_u64.wrapping_neg()), None);
    }

    #[test]
    fn the_biased_count_stays_away_from_zero() {
        let far = (1_u64 << 61).wrapping_neg();
        let word = Word(ONE | BIAS).plus(far);
        assert!(!word.is_zero());
        assert_eq!(word.folded(1 << 61), Some(Word(ONE)));
    }
}
