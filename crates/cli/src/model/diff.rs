//! Two reports side by side.

use super::report::{Report, Row, Sort};
use anyhow::Context;
use serde::Serialize;
use std::collections::{BTreeMap, HashMap};
use std::path::Path;

/// One function in both reports; none where it is in one only. Its object may have another name in
/// each.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub(crate) struct Change {
    /// The later one, if the function is in both.
    pub(crate) object: String,
    pub(crate) name: String,
    pub(crate) before: Option<Row>,
    pub(crate) after: Option<Row>,
    /// How long each report counted, for rates.
    #[serde(skip)]
    elapsed_ns: [u64; 2],
}

impl Change {
    /// A column's figures of both; none where there are none.
    pub(crate) fn both(&self, column: Sort) -> [Option<f64>; 2] {
        let of = |row: &Option<Row>, elapsed_ns| {
            row.as_ref().and_then(|row| row.figure(column, elapsed_ns))
        };
        [of(&self.before, self.elapsed_ns[0]), of(&self.after, self.elapsed_ns[1])]
    }

    /// By how much a column changed.
    fn by(&self, column: Sort) -> f64 {
        let [before, after] = self.both(column).map(|figure| figure.unwrap_or(0.0));
        (after - before).abs()
    }

    fn calls(&self) -> u64 {
        [&self.before, &self.after].into_iter().flatten().map(|row| row.calls).max().unwrap_or(0)
    }
}

/// What a function is found again by: object and name, or what stands for them.
type Key = fn(&Row) -> (&str, &str);

/// Reads what `-j` wrote; of a stream (`-i`), the report at its end.
pub(crate) fn read(path: &Path) -> anyhow::Result<Report> {
    let text = std::fs::read(path).with_context(|| path.display().to_string())?;
    let last = text.trim_ascii_end().rsplit(|byte| *byte == b'\n').next().unwrap_or_default();
    // What was written by hand may have lines.
    serde_json::from_slice(&text)
        .or_else(|whole| serde_json::from_slice(last).map_err(|_| whole))
        .with_context(|| format!("{}: not a report of trapline stat -j", path.display()))
}

/// The changes, the largest in a column first (and by calls where that is the same), or by name.
/// Functions that neither report saw called, or at most less than `min_calls` times, are left out.
pub(crate) fn changes(before: Report, after: Report, by: Sort, min_calls: u64) -> Vec<Change> {
    let elapsed_ns = [before.elapsed_ns, after.elapsed_ns];
    let called = |report: Report| {
        report.functions.into_iter().filter(|row| row.calls > 0).map(Some).collect::<Vec<_>>()
    };
    let mut sides = [called(before), called(after)];
    let mut pairs: Vec<(Option<Row>, Option<Row>)> = Vec::new();
    // The same object, then another version of it, then any: only what cannot be mistaken is a
    // pair.
    let keys: [Key; 3] = [
        |row| (&row.object, &row.name),
        |row| (stem(&row.object), &row.name),
        |row| ("", &row.name),
    ];
    for key in keys {
        for (a, b) in same(&sides, key) {
            pairs.push((sides[0][a].take(), sides[1][b].take()));
        }
    }
    let [before, after] = sides;
    pairs.extend(before.into_iter().flatten().map(|row| (Some(row), None)));
    pairs.extend(after.into_iter().flatten().map(|row| (None, Some(row))));
    let mut changes: Vec<Change> = pairs
        .into_iter()
        .filter_map(|(before, after)| {
            let (object, name) = after
                .as_ref()
                .or(before.as_ref())
                .map(|row| (row.object.clone(), row.name.clone()))?;
            Some(Change { object, name, before, after, elapsed_ns })
        })
        .filter(|change| change.calls() >= min_calls)
        .collect();
    changes.sort_by(|a, b| {
        let by_change = |column| b.by(column).total_cmp(&a.by(column));
        let figures = if by == Sort::Name {
            std::cmp::Ordering::Equal
        } else {
            by_change(by).then_with(|| by_change(Sort::Calls))
        };
        figures.then_with(|| (&a.name, &a.object).cmp(&(&b.name, &b.object)))
    });
    changes
}

/// The rows of both sides that have the same key, which no other row of their side has.
fn same(sides: &[Vec<Option<Row>>; 2], key: Key) -> Vec<(usize, usize)> {
    let index = |side: &[Option<Row>]| {
        let mut found: HashMap<(String, String), Option<usize>> = HashMap::new();
        for (at, row) in side.iter().enumerate() {
            let Some((object, name)) = row.as_ref().map(key) else { continue };
            found
                .entry((object.to_string(), name.to_string()))
                .and_modify(|at| *at = None)
                .or_insert(Some(at));
        }
        found
    };
    let after = index(&sides[1]);
    let before: BTreeMap<_, _> = index(&sides[0]).into_iter().collect();
    before.into_iter().filter_map(|(key, at)| Some((at?, (*after.get(&key)?)?))).collect()
}

/// What versions of a library have in common: `libfoo` of `libfoo.so.1`, `libfoo-1.2.so` and
/// `libfoo.so`.
pub(super) fn stem(object: &str) -> &str {
    let at = object
        .find(".so")
        .filter(|&at| object[at + 3..].is_empty() || object[at + 3..].starts_with('.'));
    let name = at.map_or(object, |at| &object[..at]);
    match name.rsplit_once('-') {
        Some((stem, version)) if version.starts_with(|c: char| c.is_ascii_digit()) => stem,
        _ => name,
    }
}

#[cfg(test)]
mod tests {
    use super::{changes, stem};
    use crate::model::report::{Report, Row, Sort};

    fn report(rows: &[(&str, &str, u64, u64)]) -> Report {
        let row = |&(object, name, calls, p99): &(&str, &str, u64, u64)| Row {
            object: object.to_string(),
            name: name.to_string(),
            calls,
            p99_ns: Some(p99),
            total_ns: Some(calls * p99),
            ..Row::default()
        };
        Report {
            functions: rows.iter().map(row).collect(),
            elapsed_ns: 1_000_000_000,
            ..Report::default()
        }
    }

    fn pairs(
        before: &[(&str, &str, u64, u64)],
        after: &[(&str, &str, u64, u64)],
        by: Sort,
    ) -> Vec<String> {
        let calls = |row: &Option<Row>| {
            row.as_ref().map_or("-".to_string(), |row| format!("{}:{}", row.object, row.calls))
        };
        let line = |change: &super::Change| {
            format!("{} {} {}", change.name, calls(&change.before), calls(&change.after))
        };
        changes(report(before), report(after), by, 0).iter().map(line).collect()
    }

    #[test]
    fn objects_of_other_names() {
        let before =
            [("libfoo.so.1", "f", 1, 1), ("a.out", "main", 2, 1), ("libc.so.6", "g", 3, 1)];
        let after =
            [("libfoo.so.2", "f", 10, 1), ("b.out", "main", 20, 1), ("libc.so.6", "g", 30, 1)];
        let expected = [
            "f libfoo.so.1:1 libfoo.so.2:10",
            "g libc.so.6:3 libc.so.6:30",
            "main a.out:2 b.out:20",
        ];
        assert_eq!(pairs(&before, &after, Sort::Name), expected);
        // Two candidates: neither is taken, but the one whose object is the same or another
        // version.
        let before = [("a", "f", 1, 1), ("libx.so.1", "f", 2, 1)];
        let after = [("b", "f", 3, 1), ("c", "f", 4, 1), ("libx.so.1.5", "f", 5, 1)];
        assert_eq!(
            pairs(&before, &after, Sort::Name),
            ["f a:1 -", "f - b:3", "f - c:4", "f libx.so.1:2 libx.so.1.5:5"]
        );
        for (object, expected) in [
            ("libc.so.6", "libc"),
            ("libfoo-1.2.so", "libfoo"),
            ("libfoo.so", "libfoo"),
            ("x.sort", "x.sort"),
            ("a-b", "a-b"),
        ] {
            assert_eq!(stem(object), expected);
        }
    }

    #[test]
    fn the_order_is_that_of_the_column_that_was_asked_for() {
        let before = [("a", "f", 100, 5), ("a", "g", 10, 50), ("a", "h", 1, 1)];
        let after = [("a", "f", 300, 6), ("a", "g", 10, 90), ("a", "h", 2, 1)];
        let first = |by| pairs(&before, &after, by)[0].split(' ').next().unwrap().to_string();
        assert_eq!(
            [Sort::Calls, Sort::Rate, Sort::P99, Sort::Total, Sort::Name].map(first),
            ["f", "f", "g", "f", "f"]
        );
        let kept = changes(report(&before), report(&after), Sort::Name, 3);
        assert_eq!(kept.iter().map(|change| change.name.as_str()).collect::<Vec<_>>(), ["f", "g"]);
    }
}
