//! The table for other programs.

use crate::recording::functions::Functions;
use crate::recording::{Header, Memory, Recording};
use crate::render::recording::order;
use crate::report::{Armed, SkippedRow};
use serde::Serialize;
use std::collections::BTreeMap;

/// What `-j` prints. The fields stay as they are: new ones come at the end.
#[derive(Serialize)]
struct Table<'a> {
    functions: Vec<Row<'a>>,
    unit: &'static str,
    total: u64,
    hits: u64,
    lost: &'a BTreeMap<String, u64>,
    no_stack: &'a BTreeMap<String, u64>,
    cut: BTreeMap<&'a str, u64>,
    armed: Armed,
    skipped: &'a [SkippedRow],
    memory: Memory,
    header: &'a Header,
}

#[derive(Serialize)]
struct Row<'a> {
    name: &'a str,
    object: &'a str,
    file: Option<&'a str>,
    #[serde(rename = "self")]
    own: u64,
    self_percent: f64,
    total: u64,
    total_percent: f64,
}

pub(super) fn table(recording: &Recording, functions: &Functions) -> anyhow::Result<String> {
    let row = |at: u32| {
        let function = &functions.list[at as usize];
        Row {
            name: &function.name,
            object: functions.module(at, recording),
            file: function.file.as_deref(),
            own: function.own,
            self_percent: functions.percent(function.own),
            total: function.total,
            total_percent: functions.percent(function.total),
        }
    };
    let (detour, breakpoint) = recording.header.armed;
    Ok(serde_json::to_string(&Table {
        functions: order(functions).into_iter().map(row).collect(),
        unit: recording.unit(),
        total: functions.total,
        hits: recording.hits(),
        lost: &recording.lost,
        no_stack: &recording.no_stack.reasons,
        cut: recording.cuts(),
        armed: Armed { detour, breakpoint },
        skipped: &recording.skipped,
        memory: recording.header.memory,
        header: &recording.header,
    })?)
}
