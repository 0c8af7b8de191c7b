//! Two reports side by side.

use super::columns::lay_out;
use crate::human::{grouped, quantity, time};
use crate::model::diff::Change;
use crate::model::report::Sort;

/// The columns that are compared if nobody says which.
const USUAL: [Sort; 3] = [Sort::Calls, Sort::P50, Sort::Total];

/// The lines: the figures of both, and the factor between them. `columns` may be empty: the usual
/// ones, and the one that is sorted by.
pub(crate) fn diff(changes: &[Change], limit: usize, columns: &[Sort], by: Sort) -> Vec<String> {
    if changes.is_empty() {
        return vec!["neither report has a call".to_string()];
    }
    let mut columns = if columns.is_empty() { USUAL.to_vec() } else { columns.to_vec() };
    if !columns.contains(&by) {
        columns.push(by);
    }
    columns.retain(|column| *column != Sort::Name);
    let heads = columns.iter().flat_map(|column| {
        [format!("{} A", column.name()), format!("{} B", column.name()), String::new()]
    });
    let mut cells = vec![heads.chain(["function".to_string()]).collect::<Vec<_>>()];
    for change in changes.iter().take(limit) {
        let mut row = Vec::new();
        for column in &columns {
            let both = change.both(*column);
            row.extend(both.map(|figure| {
                figure.map_or_else(|| "-".to_string(), |figure| cell(*column, figure))
            }));
            row.push(factor(both));
        }
        row.push(name(change));
        cells.push(row);
    }
    let mut lines = lay_out(&cells);
    if changes.len() > limit {
        lines.push(format!(
            "... and {} more; --limit N shows them",
            grouped((changes.len() - limit) as u64)
        ));
    }
    lines
}

fn cell(column: Sort, figure: f64) -> String {
    match column {
        Sort::Calls => grouped(figure as u64),
        Sort::Rate => format!("{}/s", quantity(figure)),
        _ => time(figure),
    }
}

/// `libfoo.so.2:f`, and what the object was called before if that is something else.
fn name(change: &Change) -> String {
    let now = format!("{}:{}", change.object, change.name);
    match &change.before {
        Some(before) if before.object != change.object => format!("{now}  (A: {})", before.object),
        _ => now,
    }
}

fn factor(both: [Option<f64>; 2]) -> String {
    match both.map(|figure| figure.filter(|figure| *figure > 0.0)) {
        [None, Some(_)] => "new".to_string(),
        [Some(_), None] => "gone".to_string(),
        [Some(before), Some(after)] => format!("x{:.2}", after / before),
        [None, None] => String::new(),
    }
}
