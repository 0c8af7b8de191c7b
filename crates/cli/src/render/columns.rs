//! Columns as wide as their widest cell, and names in what is left of the line.

use crate::names::fit;

/// Cuts the names in the last column so that lines have `width` characters; `extra` is what follows
/// each name, and is put behind it.
pub(super) fn fit_names(rows: &mut [Vec<String>], extra: &[String], width: Option<usize>) {
    let columns = rows.iter().map(Vec::len).max().unwrap_or(0);
    let widest = |column: usize| {
        rows.iter()
            .filter_map(|row| row.get(column))
            .map(|cell| cell.chars().count())
            .max()
            .unwrap_or(0)
    };
    let used: usize = (0..columns.saturating_sub(1)).map(|column| widest(column) + 2).sum();
    for (row, extra) in rows.iter_mut().zip(extra) {
        if let Some(name) = row.last_mut() {
            if let Some(width) = width {
                *name = within(name, width.saturating_sub(used + extra.chars().count()));
            }
            name.push_str(extra);
        }
    }
}

/// A name in `room` characters; its object, which is in front of a single `:`, stays whole.
pub(crate) fn within(name: &str, room: usize) -> String {
    let separator = name
        .match_indices(':')
        .map(|(at, _)| at)
        .find(|&at| !name[at + 1..].starts_with(':') && !name[..at].ends_with(':'));
    match separator.filter(|&at| !name[..at].contains(['<', '(', '[', '{', ' '])) {
        Some(at) => format!(
            "{}:{}",
            &name[..at],
            fit(&name[at + 1..], room.saturating_sub(name[..=at].chars().count()))
        ),
        None => fit(name, room),
    }
}

/// Lays out rows of cells: all columns but the last to the right, two spaces apart. The first row
/// is the head.
pub(super) fn lay_out(rows: &[Vec<String>]) -> Vec<String> {
    let columns = rows.iter().map(Vec::len).max().unwrap_or(0);
    let width = |column: usize| {
        rows.iter()
            .filter_map(|row| row.get(column))
            .map(|cell| cell.chars().count())
            .max()
            .unwrap_or(0)
    };
    let widths: Vec<usize> = (0..columns).map(width).collect();
    rows.iter()
        .map(|row| {
            let mut line = String::new();
            for (column, cell) in row.iter().enumerate() {
                if column + 1 == columns {
                    line.push_str(cell);
                } else {
                    line.push_str(&format!("{cell:>width$}  ", width = widths[column]));
                }
            }
            line.trim_end().to_string()
        })
        .collect()
}
