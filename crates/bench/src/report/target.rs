//! What was to be reached, and whether it was.

use crate::stats::Summary;
use serde::Serialize;

/// A target's direction and value.
#[derive(Clone, Copy, Debug, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Bound {
    /// The median must not be above.
    AtMost(f64),
    /// The median must not be below.
    AtLeast(f64),
}

impl Bound {
    fn holds(self, value: f64) -> bool {
        match self {
            Self::AtMost(limit) => value <= limit,
            Self::AtLeast(limit) => value >= limit,
        }
    }

    /// In words.
    pub fn text(self) -> String {
        match self {
            Self::AtMost(limit) => format!("<= {limit}"),
            Self::AtLeast(limit) => format!(">= {limit}"),
        }
    }
}

/// The outcome.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Verdict {
    /// The median is within the bound.
    Reached,
    /// It is not.
    Missed,
    /// One side of the comparison did not run.
    NotMeasured,
}

impl Verdict {
    /// As the text prints it.
    pub fn label(self) -> &'static str {
        match self {
            Self::Reached => "reached",
            Self::Missed => "MISSED",
            Self::NotMeasured => "not measured",
        }
    }
}

/// One line of the targets block.
#[derive(Clone, Debug, Serialize)]
pub struct Target {
    /// What is compared with what.
    pub what: String,
    /// How far it may go.
    pub bound: Bound,
    /// What came out.
    pub measured: Option<Summary>,
    /// Whether that is enough.
    pub verdict: Verdict,
}

impl Target {
    /// Judges the median of `measured`. Reported only: a missed target never fails the run.
    pub fn new(what: impl Into<String>, bound: Bound, measured: Option<Summary>) -> Self {
        let verdict = match measured {
            None => Verdict::NotMeasured,
            Some(m) if bound.holds(m.median) => Verdict::Reached,
            Some(_) => Verdict::Missed,
        };
        Self { what: what.into(), bound, measured, verdict }
    }
}

#[cfg(test)]
mod tests {
    use super::{Bound, Target, Verdict};
    use crate::stats::Summary;

    #[test]
    fn the_median_decides() {
        let verdict = |bound, values: &[f64]| {
            Target::new("x", bound, Summary::of(values.iter().copied())).verdict
        };
        assert_eq!(verdict(Bound::AtMost(0.5), &[0.1, 0.5, 9.0]), Verdict::Reached);
        assert_eq!(verdict(Bound::AtMost(0.5), &[0.1, 0.6, 0.7]), Verdict::Missed);
        assert_eq!(verdict(Bound::AtLeast(40.0), &[39.0, 41.0, 42.0]), Verdict::Reached);
        assert_eq!(verdict(Bound::AtLeast(40.0), &[]), Verdict::NotMeasured);
    }
}
