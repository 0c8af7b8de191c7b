//! The table: a row for each function, units in each cell.

use super::columns::{fit_names, lay_out};
use super::histogram::histogram;
use crate::human::{grouped, quantity, time};
use crate::model::report::{Report, Row};
use crate::text::BOLD;

/// How it is to look.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Look {
    /// Most rows.
    pub(crate) limit: usize,
    /// Also functions that were never called.
    pub(crate) all: bool,
    /// The head in bold.
    pub(crate) bold: bool,
    /// The room for a line, in characters; none: as long as it is.
    pub(crate) width: Option<usize>,
}

const HEAD: [&str; 9] = ["calls", "rate", "p50", "p90", "p99", "max", "total", "self", "function"];

/// The lines of the table, in the order of `report.functions`.
pub(crate) fn table(report: &Report, look: Look) -> Vec<String> {
    let shown = |row: &&Row| look.all || row.calls > 0 || row.is_overwritten();
    let called = report.functions.iter().filter(shown);
    let shown: Vec<&Row> =
        called.clone().take(if look.all { usize::MAX } else { look.limit }).collect();
    if shown.is_empty() {
        return Vec::new();
    }
    let main = report
        .main
        .as_deref()
        .or(report.functions.first().map(|row| row.object.as_str()))
        .unwrap_or("");
    let several = report.functions.iter().any(|row| row.object != main);
    let seconds = report.elapsed_ns as f64 / 1e9;
    let mut cells = vec![HEAD.map(str::to_string).to_vec()];
    // The lines that follow a row: its threads as rows of their own, its histogram as text.
    let mut below: Vec<Vec<String>> = vec![Vec::new()];
    let mut notes = vec![String::new()];
    for row in &shown {
        let name = if several { format!("{}:{}", row.object, row.name) } else { row.name.clone() };
        notes.push(remark(row.note.as_deref(), row.running));
        let times = [row.p50_ns, row.p90_ns, row.p99_ns, row.max_ns, row.total_ns, row.self_ns];
        cells.push(row_of(row.calls, seconds, times, name));
        below.push(Vec::new());
        for part in row.processes.iter().chain(&row.threads) {
            let times =
                [part.p50_ns, part.p90_ns, part.p99_ns, part.max_ns, part.total_ns, part.self_ns];
            cells.push(row_of(part.calls, seconds, times, format!("  {}", part.who())));
            notes.push(remark(None, part.running));
            below.push(Vec::new());
        }
        if let Some(last) = below.last_mut() {
            *last = histogram(row);
        }
    }
    fit_names(&mut cells, &notes, look.width);
    let mut lines = Vec::new();
    for (at, (line, below)) in lay_out(&cells).into_iter().zip(below).enumerate() {
        lines.push(if at == 0 && look.bold {
            format!("{}{}{}", BOLD.0, line, BOLD.1)
        } else {
            line
        });
        lines.extend(below);
    }
    let hidden = called.count() - shown.len();
    if hidden > 0 {
        lines.push(format!(
            "... and {} more; --all or --limit N shows them",
            grouped(hidden as u64)
        ));
    }
    lines
}

/// What follows a name: the note, and calls that have not returned.
fn remark(note: Option<&str>, running: u64) -> String {
    let running = (running > 0).then(|| format!("{} still running", grouped(running)));
    let parts: Vec<&str> = note.into_iter().chain(running.as_deref()).collect();
    if parts.is_empty() { String::new() } else { format!("  ({})", parts.join("; ")) }
}

fn row_of(calls: u64, seconds: f64, times: [Option<u64>; 6], name: String) -> Vec<String> {
    let rate = if seconds > 0.0 { calls as f64 / seconds } else { 0.0 };
    let mut cells = vec![grouped(calls), format!("{}/s", quantity(rate))];
    cells.extend(times.map(|ns| ns.map_or_else(|| "-".to_string(), |ns| time(ns as f64))));
    cells.push(name);
    cells
}
