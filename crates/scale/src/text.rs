//! Tables as text.

use crate::results::Results;
use crate::tables::Unit;
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
    for (number, row) in table.rows.iter().enumerate() {
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
            _ = writeln!(text, "{:NAME$}{posted}", "      posted");
        }
    }
    text.push_str(&other_unit(results));
    text.push_str(&stoppers(results));
    text.push_str(&comparisons(results));
    text
}

/// The same cells in the unit that the table is not in.
fn other_unit(results: &Results) -> String {
    let (title, figure): (_, fn(&crate::cell::Outcome) -> f64) = match results.table.unit {
        Unit::Millions => ("ns of a CPU for an operation", |outcome| outcome.nanoseconds),
        Unit::Nanoseconds => ("Mops/s, all threads together", |outcome| outcome.millions),
    };
    let mut text = format!("{title}\n");
    for (row, cells) in results.table.rows.iter().zip(&results.cells) {
        let figures: String =
            cells.iter().map(|outcome| format!("{:>COLUMN$}", short(figure(outcome)))).collect();
        _ = writeln!(text, "{:NAME$}{figures}", row.scheme);
    }
    text
}

fn stoppers(results: &Results) -> String {
    let mut text = String::from("what stops it (1.3 times one CPU's cost), and the line's part\n");
    for (number, row) in results.table.rows.iter().enumerate() {
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

fn comparisons(results: &Results) -> String {
    let comparisons = results.comparisons();
    let Some(worst) = comparisons.iter().max_by(|a, b| a.factor().total_cmp(&b.factor())) else {
        return String::new();
    };
    let held = comparisons.iter().filter(|comparison| comparison.holds()).count();
    let mut text = format!(
        "{held} of {} posted ratios reached; farthest off by {:.2}: {}\n",
        comparisons.len(),
        worst.factor(),
        worst.what
    );
    for comparison in &comparisons {
        if !comparison.holds() || comparison.within > 2.0 {
            _ = writeln!(
                text,
                "  {}: {:.3} here, {:.3} posted, within {}: {}",
                comparison.what,
                comparison.model,
                comparison.posted,
                comparison.within,
                if comparison.holds() { "yes" } else { "NO" }
            );
        }
    }
    text
}

/// Three digits that count.
fn short(figure: f64) -> String {
    match figure {
        f if f >= 99.95 => format!("{f:.0}"),
        f if f >= 9.995 => format!("{f:.1}"),
        f => format!("{f:.2}"),
    }
}
