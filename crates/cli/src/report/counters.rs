//! What was counted of one function, and the percentiles in it.

use wire::cell::{BUCKET_COUNT, bounds};

/// Sums over all threads, in ticks. The fields are those of [`wire::cell`].
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Counters {
    pub(crate) calls: u64,
    pub(crate) returns: u64,
    pub(crate) total: u64,
    pub(crate) own: u64,
    pub(crate) max: u64,
    pub(crate) unwound: u64,
    pub(crate) untimed: u64,
    /// Empty for what is only counted.
    pub(crate) buckets: Vec<u64>,
}

impl Counters {
    pub(crate) fn add(&mut self, other: &Self) {
        self.calls = self.calls.wrapping_add(other.calls);
        self.returns = self.returns.wrapping_add(other.returns);
        self.total = self.total.wrapping_add(other.total);
        self.own = self.own.wrapping_add(other.own);
        self.max = self.max.max(other.max);
        self.unwound = self.unwound.wrapping_add(other.unwound);
        self.untimed = self.untimed.wrapping_add(other.untimed);
        if self.buckets.len() < other.buckets.len() {
            self.buckets.resize(other.buckets.len(), 0);
        }
        for (sum, more) in self.buckets.iter_mut().zip(&other.buckets) {
            *sum = sum.wrapping_add(*more);
        }
    }

    /// What came since `before`. The maximum is that of the highest bucket that grew, since the cell keeps only the one of the whole run.
    pub(crate) fn since(&self, before: &Self) -> Self {
        let buckets: Vec<u64> =
            self.buckets.iter().enumerate().map(|(at, now)| now.saturating_sub(before.buckets.get(at).copied().unwrap_or(0))).collect();
        let highest = buckets.iter().rposition(|&count| count > 0);
        let max = if self.max > before.max { self.max } else { highest.map_or(0, |at| (bounds(at).1 - 1).min(self.max)) };
        Self {
            calls: self.calls.saturating_sub(before.calls),
            returns: self.returns.saturating_sub(before.returns),
            total: self.total.saturating_sub(before.total),
            own: self.own.saturating_sub(before.own),
            max,
            unwound: self.unwound.saturating_sub(before.unwound),
            untimed: self.untimed.saturating_sub(before.untimed),
            buckets,
        }
    }

    /// Durations in the histogram.
    pub(crate) fn timed(&self) -> u64 {
        self.buckets.iter().fold(0, |sum: u64, count| sum.saturating_add(*count))
    }

    /// The duration, in ticks, that the share `q` of the calls does not exceed: the place in its bucket by interpolation, as if the bucket's durations were spread evenly over it.
    pub(crate) fn percentile(&self, q: f64) -> Option<f64> {
        let timed = self.timed();
        if timed == 0 {
            return None;
        }
        let rank = (q * timed as f64).clamp(0.5, timed as f64);
        let mut below = 0_f64;
        for (at, &count) in self.buckets.iter().enumerate().take(BUCKET_COUNT).filter(|(_, count)| **count > 0) {
            let count = count as f64;
            if below + count >= rank {
                let (low, high) = bounds(at);
                // The bucket of the maximum ends there.
                let high = if self.max >= low { (high as f64).min(self.max as f64) } else { high as f64 };
                let low = low as f64;
                return Some(low + (high - low).max(0.0) * ((rank - below) / count));
            }
            below += count;
        }
        Some(self.max as f64)
    }
}

#[cfg(test)]
mod tests {
    use super::Counters;
    use wire::cell::{BUCKET_COUNT, bucket};

    fn of(values: &[u64]) -> Counters {
        let mut counters = Counters { buckets: vec![0; BUCKET_COUNT], ..Counters::default() };
        for &value in values {
            counters.calls += 1;
            counters.returns += 1;
            counters.total = counters.total.wrapping_add(value);
            counters.max = counters.max.max(value);
            counters.buckets[bucket(value)] += 1;
        }
        counters
    }

    #[test]
    fn percentiles_lie_within_a_bucket_of_the_exact_ones() {
        let mut values: Vec<u64> = (0..10_000_u64).map(|i| 50 + i * i / 1000).collect();
        let counters = of(&values);
        values.sort_unstable();
        for q in [0.01, 0.25, 0.5, 0.9, 0.99, 0.999] {
            let exact = values[(q * values.len() as f64) as usize] as f64;
            let found = counters.percentile(q).unwrap();
            assert!((found - exact).abs() <= exact * 0.126 + 1.0, "{q}: {found} against {exact}");
        }
    }

    #[test]
    fn the_ends() {
        assert_eq!(of(&[]).percentile(0.5), None);
        assert_eq!(Counters::default().percentile(0.5), None);
        let one = of(&[1000]);
        for q in [0.0, 0.5, 1.0] {
            let found = one.percentile(q).unwrap();
            assert!((960.0..=1000.0).contains(&found), "{found}");
        }
        let counters = of(&[3, 3, 3, u64::MAX]);
        assert!(counters.percentile(0.5).unwrap() <= 4.0);
    }

    #[test]
    fn percentiles_do_not_decrease_and_never_pass_the_maximum() {
        let counters = of(&[5, 9, 17, 130, 131, 5000, 5001, 5002, 70_000]);
        let mut last = 0.0;
        for step in 0..=100 {
            let value = counters.percentile(f64::from(step) / 100.0).unwrap();
            assert!(value >= last && value <= 70_000.0, "{step}");
            last = value;
        }
    }

    #[test]
    fn sums_and_differences() {
        let (a, b) = (of(&[10, 20]), of(&[30, 4000]));
        let mut sum = a.clone();
        sum.add(&b);
        assert_eq!(sum, of(&[10, 20, 30, 4000]));
        let since = sum.since(&a);
        assert_eq!((since.calls, since.total, since.max), (2, 4030, 4000));
        assert_eq!(sum.since(&sum).calls, 0);
        let mut from_nothing = Counters::default();
        from_nothing.add(&a);
        assert_eq!(from_nothing, a);
    }
}
