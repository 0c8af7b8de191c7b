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

    /// What came since `before`. The maximum is that of the highest bucket that grew, since the
    /// cell keeps only the one of the whole run.
    pub(crate) fn since(&self, before: &Self) -> Self {
        let buckets: Vec<u64> = self
            .buckets
            .iter()
            .enumerate()
            .map(|(at, now)| now.saturating_sub(before.buckets.get(at).copied().unwrap_or(0)))
            .collect();
        let highest = buckets.iter().rposition(|&count| count > 0);
        let max = if self.max > before.max {
            self.max
        } else {
            highest.map_or(0, |at| (bounds(at).1 - 1).min(self.max))
        };
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

    /// The duration, in ticks, that the share `q` of the calls does not exceed: that of the call
    /// with this rank. It is exact for the longest; of others the bucket is known, and the
    /// durations in a bucket count as spread evenly over it.
    pub(crate) fn percentile(&self, q: f64) -> Option<f64> {
        let timed = self.timed();
        if timed == 0 {
            return None;
        }
        let rank = ((q * timed as f64).ceil() as u64).clamp(1, timed);
        let mut below = 0_u64;
        for (at, &count) in self.filled() {
            if rank - below <= count && rank < timed {
                let (low, high) = self.bounds(at);
                let share = ((rank - below) as f64 - 0.5) / count as f64;
                let found = low as f64 + (high.saturating_sub(low)) as f64 * share;
                return Some(found.max(self.shortest() as f64).min(self.max as f64));
            }
            below = below.saturating_add(count).min(rank);
        }
        Some(self.max as f64)
    }

    /// No call was shorter, in ticks: the rest of the sum if all others took as long as they can
    /// have. The sum has no more than all calls, so this is never too much.
    fn shortest(&self) -> u64 {
        let Some((first, _)) = self.filled().next() else { return 0 };
        let longest =
            |(at, count): (usize, &u64)| u128::from(self.bounds(at).1) * u128::from(*count);
        // Numbers that others have written may be larger than times can be.
        let all = self.filled().map(longest).fold(0, u128::saturating_add);
        let (low, high) = self.bounds(first);
        let others = all.saturating_sub(u128::from(high));
        let rest = u128::from(self.total).saturating_sub(others);
        u64::try_from(rest).unwrap_or(u64::MAX).clamp(low, high)
    }

    /// Buckets with something in them.
    fn filled(&self) -> impl Iterator<Item = (usize, &u64)> {
        self.buckets.iter().enumerate().take(BUCKET_COUNT).filter(|(_, count)| **count > 0)
    }

    /// The shortest and the longest that a call in this bucket can have been: none passes the
    /// maximum.
    fn bounds(&self, at: usize) -> (u64, u64) {
        let (low, next) = bounds(at);
        let high = if at + 1 == BUCKET_COUNT { self.max } else { self.max.min(next - 1) };
        (low, high.max(low))
    }

    /// Calls that have not returned. Of what is only counted nobody knows.
    pub(crate) fn running(&self) -> u64 {
        if self.buckets.is_empty() && self.returns == 0 && self.unwound == 0 {
            return 0;
        }
        let ended = [self.returns, self.unwound, self.untimed];
        ended.iter().fold(self.calls, |running, ended| running.saturating_sub(*ended))
    }
}

/// A sum of numbers that others may have written: it ends at the largest number.
pub(crate) fn sum(numbers: impl IntoIterator<Item = u64>) -> u64 {
    numbers.into_iter().fold(0, u64::saturating_add)
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
            assert_eq!(one.percentile(q), Some(1000.0));
        }
        // As many of one duration as there may be; of two, both.
        for n in [2, 3, 10, 1000] {
            let same = of(&vec![1_000_003; n]);
            for q in [0.0, 0.5, 0.9, 0.99, 1.0] {
                assert_eq!(same.percentile(q), Some(1_000_003.0), "{n} {q}");
            }
        }
        let two = of(&[1000, 7777]);
        assert_eq!([0.5, 0.51].map(|q| two.percentile(q)), [Some(1000.0), Some(7777.0)]);
        // Of a recursive function the sum has the outermost call alone.
        let nested = Counters { total: 7777, ..two };
        assert!((961.0..=1087.0).contains(&nested.percentile(0.5).unwrap()));
        // What lies beyond the histogram.
        let long = of(&[u64::MAX / 2]);
        assert_eq!(long.percentile(0.5), Some((u64::MAX / 2) as f64));
        let counters = of(&[3, 3, 3, u64::MAX]);
        assert!(counters.percentile(0.5).unwrap() <= 4.0);
    }

    #[test]
    fn calls_that_run() {
        let mut counters = of(&[1000, 2000]);
        assert_eq!(counters.running(), 0);
        counters.calls += 5;
        (counters.unwound, counters.untimed) = (1, 2);
        assert_eq!(counters.running(), 2);
        // Never returned: no times. Only counted: nobody knows.
        let first = Counters { calls: 1, buckets: vec![0; BUCKET_COUNT], ..Counters::default() };
        assert_eq!((first.running(), first.percentile(0.5)), (1, None));
        assert_eq!(Counters { calls: 9, ..Counters::default() }.running(), 0);
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

    /// What others have written into the histogram gives some number: it ends nobody.
    #[test]
    fn counters_that_no_calls_can_give() {
        for [count, max, total] in [[u64::MAX; 3], [u64::MAX, 0, 0], [1, u64::MAX, 0], [7, 3, 1]] {
            let buckets = vec![count; BUCKET_COUNT];
            let mut all = Counters { calls: count, max, total, buckets, ..Counters::default() };
            for share in [0.0, 0.01, 0.5, 0.99, 1.0] {
                assert!(all.percentile(share).is_some_and(|value| value <= max as f64), "{all:?}");
            }
            let other = all.clone();
            all.add(&other);
            assert!(all.since(&other).timed() <= all.timed() && all.running() <= all.calls);
        }
    }
}
