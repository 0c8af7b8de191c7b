//! The table for other programs.

use crate::model::functions::Functions;
use crate::model::recording::{self, Header, Memory, Recording};
use crate::model::report::{Armed, SCHEMA, SkippedRow};
use crate::render::recording::order;
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
    /// Version of these fields.
    schema: u32,
    /// The heaviest first.
    threads: Vec<Thread<'a>>,
}

#[derive(Serialize)]
struct Thread<'a> {
    process: u32,
    thread: u32,
    process_name: &'a str,
    thread_name: &'a str,
    /// Weight of its stacks.
    #[serde(rename = "self")]
    own: u64,
    self_percent: f64,
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
    Ok(crate::text::to_json(&Table {
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
        schema: SCHEMA,
        threads: threads(recording, functions),
    })?)
}

fn threads<'a>(recording: &'a Recording, functions: &Functions) -> Vec<Thread<'a>> {
    let mut weights = vec![0_u64; recording.threads.len()];
    for (thread, line) in recording.lines_by_thread() {
        if let Some(weight) = thread.and_then(|at| weights.get_mut(at as usize)) {
            *weight = weight.saturating_add(line.weight);
        }
    }
    let row = |(thread, own): (&'a recording::Thread, u64)| Thread {
        process: thread.process,
        thread: thread.thread,
        process_name: &thread.process_name,
        thread_name: &thread.thread_name,
        own,
        self_percent: functions.percent(own),
    };
    let mut rows: Vec<_> = recording.threads.iter().zip(weights).map(row).collect();
    rows.sort_by_key(|row| (std::cmp::Reverse(row.own), row.process, row.thread));
    rows
}
