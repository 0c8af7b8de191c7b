//! Two reports side by side.

use super::{Report, Row};
use anyhow::Context;
use serde::Serialize;
use std::collections::BTreeMap;
use std::path::Path;

/// One function in both reports; zero calls where it is in one only.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub(crate) struct Change {
    pub(crate) object: String,
    pub(crate) name: String,
    pub(crate) before: Option<Row>,
    pub(crate) after: Option<Row>,
}

impl Change {
    /// By how much the total time grew; where there are no times, the calls.
    pub(crate) fn weight(&self) -> u64 {
        let figure = |row: &Option<Row>, of: fn(&Row) -> Option<u64>| row.as_ref().and_then(of).unwrap_or(0);
        let total = figure(&self.before, |row| row.total_ns).abs_diff(figure(&self.after, |row| row.total_ns));
        if total > 0 { total } else { figure(&self.before, |row| Some(row.calls)).abs_diff(figure(&self.after, |row| Some(row.calls))) }
    }
}

/// Reads what `-j` wrote.
pub(crate) fn read(path: &Path) -> anyhow::Result<Report> {
    let text = std::fs::read(path).with_context(|| path.display().to_string())?;
    serde_json::from_slice(&text).with_context(|| format!("{}: not a report of trapline stat -j", path.display()))
}

/// The changes, largest first. Functions that neither report saw called are left out.
pub(crate) fn changes(before: Report, after: Report) -> Vec<Change> {
    let mut all: BTreeMap<(String, String), (Option<Row>, Option<Row>)> = BTreeMap::new();
    for row in before.functions.into_iter().filter(|row| row.calls > 0) {
        let key = (row.object.clone(), row.name.clone());
        all.entry(key).or_default().0 = Some(row);
    }
    for row in after.functions.into_iter().filter(|row| row.calls > 0) {
        let key = (row.object.clone(), row.name.clone());
        all.entry(key).or_default().1 = Some(row);
    }
    let mut changes: Vec<Change> =
        all.into_iter().map(|((object, name), (before, after))| Change { object, name, before, after }).collect();
    changes.sort_by_key(|change| std::cmp::Reverse(change.weight()));
    changes
}
