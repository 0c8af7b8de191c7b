//! Minimum, median and maximum of repeats, and ratios repeat by repeat.

use serde::Serialize;

/// What a run reports of its repeats. The median is the verdict; the extremes say how much to trust
/// it.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Summary {
    /// Smallest value.
    pub min: f64,
    /// Middle value (mean of the middle two).
    pub median: f64,
    /// Largest value.
    pub max: f64,
    /// How many values.
    pub runs: usize,
}

impl Summary {
    /// Summarises; values that are not finite are left out. `None` if nothing is left.
    pub fn of(values: impl IntoIterator<Item = f64>) -> Option<Self> {
        let mut sorted: Vec<f64> = values.into_iter().filter(|v| v.is_finite()).collect();
        sorted.sort_by(f64::total_cmp);
        let (&min, &max) = (sorted.first()?, sorted.last()?);
        let (lower, upper) = (sorted[(sorted.len() - 1) / 2], sorted[sorted.len() / 2]);
        Some(Self { min, median: (lower + upper) / 2.0, max, runs: sorted.len() })
    }

    /// `a / b` within each repeat, then summarised: a drift of the machine between repeats cancels.
    pub fn of_ratios(a: &[Option<f64>], b: &[Option<f64>]) -> Option<Self> {
        Self::of(a.iter().zip(b).filter_map(|(a, b)| Some((*a)? / (*b)?)))
    }
}

#[cfg(test)]
mod tests {
    use super::Summary;

    #[test]
    fn summary_of_an_even_number_takes_the_middle_two() {
        let s = Summary::of([4.0, 1.0, 3.0, 2.0]).expect("four values");
        assert_eq!((s.min, s.median, s.max, s.runs), (1.0, 2.5, 4.0, 4));
        assert_eq!(Summary::of([f64::NAN]), None);
    }

    #[test]
    fn ratios_pair_by_repeat_and_skip_gaps() {
        let s =
            Summary::of_ratios(&[Some(2.0), None, Some(9.0)], &[Some(1.0), Some(1.0), Some(3.0)])
                .expect("two pairs");
        assert_eq!((s.min, s.max, s.runs), (2.0, 3.0, 2));
    }
}
