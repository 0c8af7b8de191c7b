//! The table: a row for each function, units in each cell.

use super::columns::lay_out;
use super::histogram::histogram;
use crate::human::{grouped, quantity, time};
use crate::report::{Report, Row};

/// How it is to look.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Look {
    /// Most rows.
    pub(crate) limit: usize,
    /// Also functions that were never called.
    pub(crate) all: bool,
    /// The head in bold.
    pub(crate) bold: bool,
}

const HEAD: [&str; 9] = ["calls", "rate", "p50", "p90", "p99", "max", "total", "self", "function"];

/// The lines of the table, in the order of `report.functions`.
pub(crate) fn table(report: &Report, look: Look) -> Vec<String> {
    let called = report.functions.iter().filter(|row| look.all || row.calls > 0);
    let shown: Vec<&Row> = called.clone().take(if look.all { usize::MAX } else { look.limit }).collect();
    if shown.is_empty() {
        return Vec::new();
    }
    let main = report.functions.first().map_or("", |row| row.object.as_str());
    let several = report.functions.iter().any(|row| row.object != main);
    let seconds = report.elapsed_ns as f64 / 1e9;
    let mut cells = vec![HEAD.map(str::to_string).to_vec()];
    // The lines that follow a row: its threads as rows of their own, its histogram as text.
    let mut below: Vec<Vec<String>> = vec![Vec::new()];
    for row in &shown {
        let name = if several { format!("{}:{}", row.object, row.name) } else { row.name.clone() };
        let name = row.note.as_ref().map_or(name.clone(), |note| format!("{name}  ({note})"));
        let times = [row.p50_ns, row.p90_ns, row.p99_ns, row.max_ns, row.total_ns, row.self_ns];
        cells.push(row_of(row.calls, seconds, times, name));
        below.push(Vec::new());
        for thread in &row.threads {
            let times = [thread.p50_ns, thread.p90_ns, thread.p99_ns, thread.max_ns, thread.total_ns, thread.self_ns];
            cells.push(row_of(thread.calls, seconds, times, format!("  thread {} of process {}", thread.thread, thread.process)));
            below.push(Vec::new());
        }
        if let Some(last) = below.last_mut() {
            *last = histogram(row);
        }
    }
    let mut lines = Vec::new();
    for (at, (line, below)) in lay_out(&cells).into_iter().zip(below).enumerate() {
        lines.push(if at == 0 && look.bold { format!("\x1b[1m{line}\x1b[0m") } else { line });
        lines.extend(below);
    }
    let hidden = called.count() - shown.len();
    if hidden > 0 {
        lines.push(format!("... and {} more; --all or --limit N shows them", grouped(hidden as u64)));
    }
    lines
}

fn row_of(calls: u64, seconds: f64, times: [Option<u64>; 6], name: String) -> Vec<String> {
    let rate = if seconds > 0.0 { calls as f64 / seconds } else { 0.0 };
    let mut cells = vec![grouped(calls), format!("{}/s", quantity(rate))];
    cells.extend(times.map(|ns| ns.map_or_else(|| "-".to_string(), |ns| time(ns as f64))));
    cells.push(name);
    cells
}
