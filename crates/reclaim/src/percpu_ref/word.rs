//! The shared word: `[count: 63 | dead: 1]`. Pure arithmetic.
//!
//! In per-CPU mode, and while a switch is under way, the count contains [`BIAS`], half of its
//! range, and only part of the references: the rest is in the cells. The part may be negative
//! (taken on a CPU, put into the word). Without the bias it is the number of references.
//!
//! Both are kept below [`MOST`], a quarter of the range: [`plus`](Word::plus) and
//! [`minus`](Word::minus) refuse what would go beyond. So the count cannot become zero while it
//! contains the bias, and cannot wrap. The cells are not looked at; they take small steps only
//! ([`SMALL`]), of which it would take 2^56, some years of nothing else, to come to as much.

/// A reference count's shared state at one moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Word(pub(super) u64);

/// Killed: no new references for those who ask for a live object.
pub(super) const DEAD: u64 = 1;

/// One reference.
pub(super) const ONE: u64 = 2;

/// What keeps the count from becoming zero while it is not the whole sum.
pub(super) const BIAS: u64 = 1 << 63;

/// References, in the word or besides the bias, stay below this.
pub(super) const MOST: u64 = 1 << 61;

/// The most references that a cell takes or gives at once.
pub(super) const SMALL: u32 = 32;

impl Word {
    pub(super) const fn is_dead(self) -> bool {
        self.0 & DEAD != 0
    }

    pub(super) const fn is_zero(self) -> bool {
        self.0 & !DEAD == 0
    }

    /// More references, of which `n` is below [`MOST`]. `None`: that would be too many.
    pub(super) const fn plus(self, n: u64) -> Option<Self> {
        if self.references() + n as i64 >= MOST as i64 {
            return None;
        }
        Some(Self(self.0.wrapping_add(n.wrapping_mul(ONE))))
    }

    /// Fewer references, of which `n` is below [`MOST`]. `None`: more than there are, or than the
    /// word can owe to the cells.
    pub(super) const fn minus(self, n: u64) -> Option<Self> {
        let least = if self.is_biased() { 1 - MOST as i64 } else { 0 };
        if self.references() - (n as i64) < least {
            return None;
        }
        Some(Self(self.0.wrapping_sub(n.wrapping_mul(ONE))))
    }

    /// Whether it contains the bias: it is near the middle of the range, and not near its ends.
    const fn is_biased(self) -> bool {
        (self.0 >> 1).wrapping_sub((BIAS >> 1) - MOST) <= 2 * MOST
    }

    /// The references in the word; with the bias, how many more or fewer than it.
    const fn references(self) -> i64 {
        let bias = if self.is_biased() { BIAS >> 1 } else { 0 };
        (self.0 >> 1).wrapping_sub(bias) as i64
    }

    /// Without the bias, and with what the cells hold. `None`: that leaves no reference, or a
    /// negative number of them, or more than there can be.
    pub(super) const fn folded(self, cells: u64) -> Option<Self> {
        let word = Self(self.0.wrapping_sub(BIAS).wrapping_add(cells.wrapping_mul(ONE)));
        if word.0 >> 1 > 0 && word.0 >> 1 < MOST { Some(word) } else { None }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plus(word: u64, n: u64) -> Option<u64> {
        Word(word).plus(n).map(|w| w.0)
    }

    #[test]
    fn counting() {
        assert_eq!(plus(ONE, 2), Some(3 * ONE));
        assert_eq!(Word(3 * ONE).minus(3), Some(Word(0)));
        assert_eq!(Word(ONE).minus(2), None);
        assert_eq!(Word(DEAD).minus(1), None);
        assert!(Word(DEAD).is_zero());
        assert_eq!(Word(ONE | DEAD).minus(1), Some(Word(DEAD)));
        assert_eq!(plus(ONE | DEAD, 1), Some((2 * ONE) | DEAD));
    }

    #[test]
    fn folding() {
        let biased = Word(ONE | BIAS);
        assert!(!biased.is_zero());
        assert_eq!(biased.folded(0), Some(Word(ONE)));
        assert_eq!(biased.folded(5), Some(Word(6 * ONE)));
        // Five were put into the word that are still counted in the cells.
        let owing = biased.minus(5).expect("within the bounds");
        assert_eq!(owing.folded(5), Some(Word(ONE)));
        // The dead bit is no reference.
        assert_eq!(Word(ONE | BIAS | DEAD).folded(0), Some(Word(ONE | DEAD)));
    }

    #[test]
    fn folding_finds_what_was_put_too_often() {
        assert_eq!(Word(ONE | BIAS).folded(1_u64.wrapping_neg()), None);
        assert_eq!(Word(ONE | BIAS).folded(2_u64.wrapping_neg()), None);
    }

    #[test]
    fn nothing_goes_beyond_the_bounds() {
        let step = u64::from(u32::MAX);
        for start in [ONE, ONE | DEAD, BIAS | ONE, BIAS | ONE | DEAD, BIAS] {
            let bias = start & BIAS;
            // Up to the bound, in the largest steps first.
            let near = Word(start.wrapping_add((MOST - 2 * step) * ONE));
            let nearer = near.plus(step).expect("below the bound");
            assert_eq!(nearer.plus(step), None);
            let room = MOST as i64 - 1 - nearer.references();
            let full = nearer.plus(room as u64).expect("exactly the bound");
            assert_eq!((full.plus(1), full.0 & BIAS), (None, bias | full.0 & BIAS));
            assert!(!full.is_zero());
            assert!(full.minus(step).is_some());
        }
        // Down, with the bias; without it at zero.
        let low = Word(BIAS.wrapping_sub((MOST - step) * ONE));
        assert!(low.minus(step - 1).is_some() && low.minus(step).is_none());
        assert!(!low.minus(step - 1).expect("within").is_zero());
    }
}
