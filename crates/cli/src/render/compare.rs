//! Two recordings as text: a table of functions.

use super::columns::lay_out;
use super::recording::weight;
use crate::human::grouped;
use crate::model::compare::{Compared, Label, factor};
use crate::model::recording::Recording;

/// The lines: weights of both, and the factor between them. `functions` are in the order that is
/// shown.
pub(crate) fn compare(
    after: &Recording,
    compared: &Compared,
    functions: &[&Label],
    limit: usize,
) -> Vec<String> {
    let [a, b] = compared.totals.map(|total| weight(after, total));
    let head = ["self A", "self B", "", "total A", "total B", "", "object", "function"];
    let mut cells = vec![head.map(str::to_string).to_vec()];
    for label in functions.iter().take(limit) {
        let mut row = Vec::new();
        for both in [label.own, label.total] {
            row.extend(both.map(|value| weight(after, value)));
            row.push(factor(both));
        }
        row.push(if label.object.is_empty() { "-".to_string() } else { label.object.clone() });
        row.push(label.name.clone());
        cells.push(row);
    }
    let mut lines = vec![format!("A: {a}; B: {b}")];
    lines.extend(lay_out(&cells));
    if functions.len() > limit {
        lines.push(format!(
            "... and {} more; --all or -n N shows them",
            grouped((functions.len() - limit) as u64)
        ));
    }
    lines
}
