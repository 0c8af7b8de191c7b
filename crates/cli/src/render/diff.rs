//! Two reports side by side.

use super::columns::lay_out;
use crate::human::{grouped, time};
use crate::report::Row;
use crate::report::diff::Change;

/// The lines: calls and times of both, and the factor between them.
pub(crate) fn diff(changes: &[Change], limit: usize) -> Vec<String> {
    if changes.is_empty() {
        return vec!["neither report has a call".to_string()];
    }
    let head = ["calls A", "calls B", "", "p50 A", "p50 B", "", "total A", "total B", "", "function"];
    let mut cells = vec![head.map(str::to_string).to_vec()];
    for change in changes.iter().take(limit) {
        let both = |of: fn(&Row) -> Option<u64>| [&change.before, &change.after].map(|row| row.as_ref().and_then(of));
        let mut row = Vec::new();
        let calls = both(|row| Some(row.calls));
        row.extend(calls.map(|calls| grouped(calls.unwrap_or(0))));
        row.push(factor(calls));
        for times in [both(|row| row.p50_ns), both(|row| row.total_ns)] {
            row.extend(times.map(|ns| ns.map_or_else(|| "-".to_string(), |ns| time(ns as f64))));
            row.push(factor(times));
        }
        row.push(format!("{}:{}", change.object, change.name));
        cells.push(row);
    }
    let mut lines = lay_out(&cells);
    if changes.len() > limit {
        lines.push(format!("... and {} more; --limit N shows them", grouped((changes.len() - limit) as u64)));
    }
    lines
}

fn factor(both: [Option<u64>; 2]) -> String {
    match both {
        [None | Some(0), Some(1..)] => "new".to_string(),
        [Some(1..), None | Some(0)] => "gone".to_string(),
        [Some(before), Some(after)] if before > 0 => format!("x{:.2}", after as f64 / before as f64),
        _ => String::new(),
    }
}
