//! Log-linear histogram of ticks: 32 steps per octave, so that a percentile is at most 3 % off.

const STEPS_LOG2: u32 = 5;
const STEPS: u64 = 1 << STEPS_LOG2;
const BUCKETS: usize = (64 - STEPS_LOG2 as usize) * STEPS as usize;

/// Counts of values by size.
#[derive(Clone, Debug)]
pub struct Histogram {
    buckets: Vec<u64>,
    total: u64,
    max: u64,
}

impl Default for Histogram {
    fn default() -> Self {
        Self { buckets: vec![0; BUCKETS], total: 0, max: 0 }
    }
}

impl Histogram {
    /// Counts one value.
    #[inline]
    pub fn add(&mut self, value: u64) {
        self.buckets[Self::bucket(value)] += 1;
        self.total += 1;
        self.max = self.max.max(value);
    }

    /// Takes over the counts of another.
    pub fn merge(&mut self, other: &Self) {
        self.buckets.iter_mut().zip(&other.buckets).for_each(|(a, b)| *a += b);
        self.total += other.total;
        self.max = self.max.max(other.max);
    }

    /// The value that a share `q` of all values does not exceed; `None` if there are none.
    pub fn quantile(&self, q: f64) -> Option<u64> {
        let rank = ((self.total as f64 * q).ceil() as u64).max(1);
        let mut seen = 0;
        let index = self.buckets.iter().position(|&n| {
            seen += n;
            seen >= rank
        })?;
        Some(Self::upper(index).min(self.max))
    }

    /// The largest value.
    pub fn max(&self) -> u64 {
        self.max
    }

    /// How many values.
    pub fn total(&self) -> u64 {
        self.total
    }

    fn bucket(value: u64) -> usize {
        if value < STEPS {
            return value as usize;
        }
        let octave = value.ilog2() - STEPS_LOG2;
        ((u64::from(octave) << STEPS_LOG2) + (value >> octave)) as usize
    }

    /// The largest value that falls into a bucket.
    fn upper(index: usize) -> u64 {
        let index = index as u64;
        if index < 2 * STEPS {
            return index;
        }
        let octave = (index >> STEPS_LOG2) - 1;
        let base = index - (octave << STEPS_LOG2);
        ((base + 1) << octave).wrapping_sub(1)
    }
}

#[cfg(test)]
mod tests {
    use super::Histogram;

    #[test]
    fn every_value_falls_below_the_end_of_its_bucket() {
        for value in (0..5000).chain([1 << 20, (1 << 40) + 12345, u64::MAX]) {
            let index = Histogram::bucket(value);
            assert!(Histogram::upper(index) >= value, "{value}");
            assert!(index == 0 || Histogram::upper(index - 1) < value, "{value}");
        }
    }

    #[test]
    fn quantiles_of_a_ramp() {
        let mut h = Histogram::default();
        (1..=10_000).for_each(|v| h.add(v));
        let p99 = h.quantile(0.99).expect("values") as f64;
        assert!((p99 / 9900.0 - 1.0).abs() < 0.04, "{p99}");
        assert_eq!(h.quantile(1.0), Some(10_000));
        assert_eq!(Histogram::default().quantile(0.5), None);
    }
}
