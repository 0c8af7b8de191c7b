//! Tables as text.

use crate::results::{Comparison, Prediction, Results};
use crate::tables::{NEIGHBOURS, PREDICTED, Unit};
use std::fmt::Write;

const NAME: usize = 20;
const COLUMN: usize = 9;

/// A table, the posted figures below each row that has some, and for each scheme what stops it.
pub fn render(results: &Results) -> String {
    let mut text = String::new();
    let table = results.table;
    _ = writeln!(text, "{}", table.title);
    if !table.source.is_empty() {
        _ = writeln!(text, "posted: {}", table.source);
    }
    let head: String =
        results.threads.iter().map(|threads| format!("{threads:>COLUMN$}")).collect();
    _ = writeln!(text, "{:NAME$}{head}", "threads");
    for (number, row) in results.rows.iter().enumerate() {
        let figures: String = (0..results.threads.len())
            .map(|column| format!("{:>COLUMN$}", short(results.figure(number, column))))
            .collect();
        _ = writeln!(text, "{:NAME$}{figures}", row.scheme);
        if !row.posted.is_empty() {
            let posted: String = (0..results.threads.len())
                .map(|column| match results.posted(number, column) {
                    Some(figure) => format!("{:>COLUMN$}", short(figure)),
                    None => " ".repeat(COLUMN),
                })
                .collect();
            let name = if row.fitted { "      posted, fitted" } else { "      posted" };
            _ = writeln!(text, "{name:NAME$}{posted}");
        }
    }
    text.push_str(&other_unit(results));
    text.push_str(&stoppers(results));
    text.push_str(&comparisons(results));
    if table.name == "two" {
        text.push_str(&predictions(&results.predicted()));
    }
    text
}

/// The same cells in the unit that the table is not in.
fn other_unit(results: &Results) -> String {
    let (title, figure): (_, fn(&crate::cell::Outcome) -> f64) = match results.table.unit {
        Unit::Millions => ("ns of a CPU for an operation", |outcome| outcome.nanoseconds),
        Unit::Nanoseconds => ("Mops/s, all threads together", |outcome| outcome.millions),
    };
    let mut text = format!("{title}\n");
    for (row, cells) in results.rows.iter().zip(&results.cells) {
        let figures: String =
            cells.iter().map(|outcome| format!("{:>COLUMN$}", short(figure(outcome)))).collect();
        _ = writeln!(text, "{:NAME$}{figures}", row.scheme);
    }
    text
}

fn stoppers(results: &Results) -> String {
    let mut text = String::from("what stops it (1.3 times one CPU's cost), and the line's part\n");
    for (number, row) in results.rows.iter().enumerate() {
        let what = match results.stops(number) {
            None => "scales".to_owned(),
            Some((threads, outcome)) if outcome.stopper.is_empty() => {
                format!("at {threads}: no line; more threads than CPUs")
            }
            Some((threads, outcome)) => format!(
                "at {threads}: {}, {:.0} % of the time at the end",
                outcome.stopper,
                100.0 * outcome.lost
            ),
        };
        _ = writeln!(text, "{:NAME$} {what}", row.scheme);
    }
    text
}

/// Those that validate the model, and those that only guard its calibration.
fn comparisons(results: &Results) -> String {
    let (guards, validates): (Vec<_>, Vec<_>) =
        results.comparisons().into_iter().partition(|comparison| comparison.fitted);
    let mut text = String::new();
    for (what, comparisons) in [
        ("that the calibration knows nothing of", validates),
        ("of rows that it was fitted to, which guard and do not validate", guards),
    ] {
        let factor = |comparison: &&Comparison| comparison.factor();
        let Some(worst) = comparisons.iter().max_by(|a, b| factor(a).total_cmp(&factor(b))) else {
            continue;
        };
        let held = comparisons.iter().filter(|comparison| comparison.holds()).count();
        _ = writeln!(
            text,
            "{held} of {} posted ratios {what}: within a factor of {NEIGHBOURS}; farthest off by \
             {:.2}: {}",
            comparisons.len(),
            worst.factor(),
            worst.what
        );
        let worth_a_line = |c: &&Comparison| !c.holds() || c.within > NEIGHBOURS;
        for comparison in comparisons.iter().filter(worth_a_line) {
            _ = writeln!(
                text,
                "  {}: {:.3} here, {:.3} posted, within {}: {}",
                comparison.what,
                comparison.model,
                comparison.posted,
                comparison.within,
                yes(comparison.holds())
            );
        }
    }
    text
}

/// What two CPUs pay, as predicted and as measured.
pub fn predictions(predictions: &[Prediction]) -> String {
    if predictions.is_empty() {
        return String::new();
    }
    let mut text = format!(
        "two CPUs, predicted: what one was measured to pay and what the model adds, within {:.0} \
         %\n{:NAME$}{:>COLUMN$}{:>COLUMN$}{:>COLUMN$}{:>COLUMN$}{:>COLUMN$}\n",
        100.0 * PREDICTED,
        "",
        "1: model",
        "measured",
        "2: model",
        "measured",
        "off %"
    );
    for prediction in predictions {
        let ([alone, model], [together, predicted]) = (prediction.alone, prediction.together);
        _ = writeln!(
            text,
            "{:NAME$}{:>COLUMN$}{:>COLUMN$}{:>COLUMN$}{:>COLUMN$}{:>COLUMN$.0}  {}{}",
            prediction.scheme,
            short(model),
            short(alone),
            short(predicted),
            short(together),
            100.0 * prediction.off(),
            yes(prediction.holds()),
            if prediction.fitted { ", fitted" } else { "" }
        );
    }
    text
}

fn yes(holds: bool) -> &'static str {
    if holds { "yes" } else { "NO" }
}

/// Three digits that count.
fn short(figure: f64) -> String {
    match figure {
        f if f >= 99.95 => format!("{f:.0}"),
        f if f >= 9.995 => format!("{f:.1}"),
        f => format!("{f:.2}"),
    }
}
