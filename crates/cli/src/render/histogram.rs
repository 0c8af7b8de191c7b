//! A histogram as bars: a line for each power of two.

use crate::human::{grouped, time};
use crate::model::report::Row;

const WIDTH: u64 = 40;

/// The lines below a function's row; none without a histogram.
pub(super) fn histogram(row: &Row) -> Vec<String> {
    let mut bars: Vec<(u64, u64)> = Vec::new();
    for &(low, high, count) in &row.histogram {
        // By the middle of the bucket: its bounds were rounded to nanoseconds.
        let octave = low.midpoint(high).max(1).ilog2();
        match bars.last_mut() {
            Some((last, sum)) if *last == u64::from(octave) => *sum = sum.saturating_add(count),
            _ => bars.push((u64::from(octave), count)),
        }
    }
    let (Some(&(first, _)), Some(&(last, _))) = (bars.first(), bars.last()) else {
        return Vec::new();
    };
    let most = bars.iter().map(|&(_, count)| count).max().unwrap_or(1).max(1);
    (first..=last)
        .map(|octave| {
            let count = bars.iter().find(|bar| bar.0 == octave).map_or(0, |bar| bar.1);
            let length =
                usize::try_from((u128::from(count) * u128::from(WIDTH)).div_ceil(most.into()))
                    .unwrap_or(0);
            let low = if octave == 0 { 0 } else { 1_u64 << octave };
            format!(
                "{:>10} .. {:<8} {:>12} |{:<width$}|",
                time(low as f64),
                time(2_f64.powi(octave as i32 + 1)),
                grouped(count),
                "#".repeat(length),
                width = WIDTH as usize
            )
        })
        .collect()
}
