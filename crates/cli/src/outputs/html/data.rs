//! What the page is drawn from. Rows are written as columns, which are shorter and read faster.

use crate::human::date;
use crate::model::functions::Functions;
use crate::model::recording::{Header, Recording};
use crate::model::report::Row;
use crate::model::tree::{Order, Part, Tree};
use serde::Serialize;
use std::collections::BTreeMap;

#[derive(Serialize)]
pub(super) struct Data<'a> {
    header: &'a Header,
    started: String,
    /// `calls` or `ns`.
    unit: &'static str,
    total: u64,
    hits: u64,
    stacks: usize,
    lost: &'a BTreeMap<String, u64>,
    no_stack: &'a BTreeMap<String, u64>,
    cut: BTreeMap<&'a str, u64>,
    /// By reason: which.
    skipped: BTreeMap<&'a str, Vec<String>>,
    /// What they are called, or their paths, of which the page shows the last part.
    modules: Vec<&'a str>,
    functions: Columns<'a>,
    tree: Nodes,
    probed: &'a [Row],
    /// Whether the other formats are beside the page.
    served: bool,
}

#[derive(Serialize)]
struct Columns<'a> {
    name: Vec<&'a str>,
    /// -1: none.
    module: Vec<i64>,
    file: Vec<&'a str>,
    own: Vec<u64>,
    total: Vec<u64>,
}

/// A node stands in front of what is below it, so that depths tell where it hangs.
#[derive(Serialize)]
struct Nodes {
    function: Vec<u32>,
    depth: Vec<u32>,
    total: Vec<u64>,
    first_line: Vec<u32>,
    last_line: Vec<u32>,
    inlined: Vec<u8>,
}

impl<'a> Data<'a> {
    pub(super) fn of(recording: &'a Recording, functions: &'a Functions, served: bool) -> Self {
        let tree = Tree::new(recording, functions, Part::All, Order::Name).nodes;
        let list = &functions.list;
        let mut skipped: BTreeMap<&str, Vec<String>> = BTreeMap::new();
        for row in &recording.skipped {
            skipped.entry(&row.reason).or_default().push(format!("{}:{}", row.object, row.name));
        }
        Self {
            header: &recording.header,
            started: date(recording.header.started),
            unit: recording.unit(),
            total: functions.total,
            hits: recording.hits(),
            stacks: recording.stacks.len(),
            lost: &recording.lost,
            no_stack: &recording.no_stack.reasons,
            cut: recording.cuts(),
            skipped,
            modules: recording
                .modules
                .iter()
                .map(|module| if module.called.is_empty() { &*module.path } else { module.name() })
                .collect(),
            functions: Columns {
                name: list.iter().map(|function| function.name.as_str()).collect(),
                module: list.iter().map(|function| function.module.map_or(-1, i64::from)).collect(),
                file: list.iter().map(|function| function.file.as_deref().unwrap_or("")).collect(),
                own: list.iter().map(|function| function.own).collect(),
                total: list.iter().map(|function| function.total).collect(),
            },
            tree: Nodes {
                function: tree.iter().map(|node| node.function).collect(),
                depth: tree.iter().map(|node| node.depth).collect(),
                total: tree.iter().map(|node| node.total).collect(),
                first_line: tree.iter().map(|node| node.lines.0).collect(),
                last_line: tree.iter().map(|node| node.lines.1).collect(),
                inlined: tree.iter().map(|node| u8::from(node.inlined)).collect(),
            },
            probed: &recording.functions,
            served,
        }
    }
}
