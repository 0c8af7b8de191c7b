//! The report of a run: the figures, before they are rendered.

use super::counters::Counters;
use super::origin::Origin;
use super::outside::{After, Attached, Inlined, NotFollowed, StillRunning};
use clap::ValueEnum;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// One report. The fields and their order are those of `-j`, which stay as they are: new ones come
/// at the end.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub(crate) struct Report {
    /// The name of the main program, whose functions need none in front; not in files.
    #[serde(skip)]
    pub(crate) main: Option<String>,
    pub(crate) functions: Vec<Row>,
    /// Entries of probed functions, counted.
    pub(crate) hits: u64,
    /// Hits and returns that were not counted or not timed, by reason.
    pub(crate) lost: BTreeMap<String, u64>,
    pub(crate) armed: Armed,
    pub(crate) skipped: Vec<SkippedRow>,
    pub(crate) elapsed_ns: u64,
    /// Memory that the agent uses in the traced processes.
    pub(crate) agent_bytes: u64,
    /// Processes that were traced.
    #[serde(default)]
    pub(crate) processes: u64,
    /// Estimated time that the hits and the start of each process cost.
    #[serde(default)]
    pub(crate) overhead_ns: u64,
    /// The program's exit code, 128 + signal when it was killed; none while it runs.
    #[serde(default)]
    pub(crate) exit_code: Option<u8>,
    /// The signal that killed the program; none if it ended otherwise, or runs.
    #[serde(default)]
    pub(crate) signal: Option<i32>,
    /// Version of these fields: raised when one changes its meaning or goes, not when one comes.
    #[serde(default)]
    pub(crate) schema: u32,
    #[serde(default)]
    pub(crate) kind: Kind,
    /// When this was counted, by the wall clock, as RFC 3339 writes it.
    #[serde(default)]
    pub(crate) time: String,
    /// What was run, where and when.
    #[serde(default)]
    pub(crate) run: Origin,
    /// Programs that were executed without the agent: nothing of them is counted.
    #[serde(default)]
    pub(crate) not_followed: Vec<NotFollowed>,
    /// Processes that went on when the report was made.
    #[serde(default)]
    pub(crate) still_running: Vec<StillRunning>,
    /// Of the functions that were asked for one by one: those that are inlined, too.
    #[serde(default)]
    pub(crate) also_inlined: Vec<Inlined>,
    /// Calls without times that were taken for left and have returned: stacks are copied.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub(crate) overlaps: u64,
    /// Whether there was more debug information than was searched for them.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub(crate) inlined_partly: bool,
    /// With -p, processes that ran already.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) attached: Vec<Attached>,
}

impl Report {
    /// Adds processes that ran already; those that go on are said to.
    pub(crate) fn add_attached(&mut self, attached: Vec<Attached>) {
        for one in attached.iter().filter(|one| one.after != After::Ended) {
            let (process, name) = (one.process, one.name.clone());
            if !self.still_running.iter().any(|known| known.process == process) {
                self.still_running.push(StillRunning { process, name });
            }
        }
        self.still_running.sort_by_key(|one| one.process);
        self.attached = attached;
    }
}

/// What the estimate of the overhead is made of: hits of one kind, or starts of processes, and what
/// one costs.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Share {
    pub(crate) hits: u64,
    pub(crate) ns: f64,
    pub(crate) what: &'static str,
}

/// Version of the JSON that reports are written as.
pub(crate) const SCHEMA: u32 = 1;

/// What a report covers.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Kind {
    /// The whole run.
    #[default]
    Report,
    /// What came since the last interval of `-i`.
    Interval,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Armed {
    pub(crate) detour: u64,
    pub(crate) breakpoint: u64,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct SkippedRow {
    pub(crate) object: String,
    pub(crate) name: String,
    pub(crate) reason: String,
}

fn is_zero(n: &u64) -> bool {
    *n == 0
}

/// One function. Times are in nanoseconds; none where only entries were counted, or nothing has
/// returned.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct Row {
    /// Which of the segment's functions it is: two objects may have the same name. Not in files.
    #[serde(skip)]
    pub(crate) index: usize,
    pub(crate) object: String,
    pub(crate) name: String,
    pub(crate) calls: u64,
    pub(crate) p50_ns: Option<u64>,
    pub(crate) p90_ns: Option<u64>,
    pub(crate) p99_ns: Option<u64>,
    pub(crate) max_ns: Option<u64>,
    pub(crate) total_ns: Option<u64>,
    pub(crate) self_ns: Option<u64>,
    /// Calls that were left without a return: longjmp, exceptions, threads that ended.
    #[serde(default)]
    pub(crate) unwound: u64,
    /// Calls that had not returned.
    #[serde(default)]
    pub(crate) running: u64,
    /// Why there are no times, or other things to know.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) note: Option<String>,
    /// With `--hist`: from, to, count; the first belongs to the bucket, the second to the next.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) histogram: Vec<(u64, u64, u64)>,
    /// With `--per-thread`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) threads: Vec<Part>,
    /// With `--per-process`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) processes: Vec<Part>,
}

/// A thread's part in a function, or a process's.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct Part {
    pub(crate) process: u32,
    /// None: all threads of the process.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) thread: Option<u32>,
    pub(crate) calls: u64,
    pub(crate) p50_ns: Option<u64>,
    pub(crate) p90_ns: Option<u64>,
    pub(crate) p99_ns: Option<u64>,
    pub(crate) max_ns: Option<u64>,
    pub(crate) total_ns: Option<u64>,
    pub(crate) self_ns: Option<u64>,
    /// As the kernel knows it (the name of its first thread); empty if nobody knew.
    #[serde(default)]
    pub(crate) process_name: String,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub(crate) thread_name: String,
    /// Calls that had not returned.
    #[serde(default)]
    pub(crate) running: u64,
}

/// The times in `counters`.
struct Times {
    p50: Option<u64>,
    p90: Option<u64>,
    p99: Option<u64>,
    max: Option<u64>,
    total: Option<u64>,
    own: Option<u64>,
}

impl Times {
    fn of(counters: &Counters, ns_per_tick: f64) -> Self {
        let timed = counters.timed() > 0;
        let ns = |ticks: f64| (ticks * ns_per_tick).round() as u64;
        let percentile = |q| counters.percentile(q).map(ns);
        let when_timed = |ticks: u64| timed.then(|| ns(ticks as f64));
        Self {
            p50: percentile(0.5),
            p90: percentile(0.9),
            p99: percentile(0.99),
            max: when_timed(counters.max),
            total: when_timed(counters.total),
            own: when_timed(counters.own),
        }
    }
}

impl Row {
    pub(crate) fn new(object: &str, name: &str, counters: &Counters, ns_per_tick: f64) -> Self {
        let times = Times::of(counters, ns_per_tick);
        Self {
            object: object.to_string(),
            name: name.to_string(),
            calls: counters.calls,
            p50_ns: times.p50,
            p90_ns: times.p90,
            p99_ns: times.p99,
            max_ns: times.max,
            total_ns: times.total,
            self_ns: times.own,
            unwound: counters.unwound,
            running: counters.running(),
            ..Self::default()
        }
    }

    /// Whether the program has written over its probe: it may have been called all the same.
    pub(crate) fn is_overwritten(&self) -> bool {
        self.note.as_deref() == Some(wire::OVERWRITTEN)
    }

    /// Adds the histogram of `--hist`.
    pub(crate) fn with_histogram(mut self, counters: &Counters, ns_per_tick: f64) -> Self {
        let ns = |ticks: u64| (ticks as f64 * ns_per_tick).round() as u64;
        let filled = counters.buckets.iter().enumerate().filter(|(_, count)| **count > 0);
        self.histogram = filled
            .map(|(at, &count)| (ns(wire::cell::bounds(at).0), ns(wire::cell::bounds(at).1), count))
            .collect();
        self
    }
}

impl Part {
    /// Without names.
    pub(crate) fn new(
        process: u32,
        thread: Option<u32>,
        counters: &Counters,
        ns_per_tick: f64,
    ) -> Self {
        let times = Times::of(counters, ns_per_tick);
        Self {
            process,
            thread,
            calls: counters.calls,
            p50_ns: times.p50,
            p90_ns: times.p90,
            p99_ns: times.p99,
            max_ns: times.max,
            total_ns: times.total,
            self_ns: times.own,
            running: counters.running(),
            ..Self::default()
        }
    }

    /// `thread 11 (worker) of process 10 (server)`, with the names that are known.
    pub(crate) fn who(&self) -> String {
        let named = |name: &str| if name.is_empty() { String::new() } else { format!(" ({name})") };
        let process = format!("process {}{}", self.process, named(&self.process_name));
        match self.thread {
            Some(thread) => format!("thread {thread}{} of {process}", named(&self.thread_name)),
            None => process,
        }
    }
}

/// The order of the rows of a table.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum, Default)]
pub(crate) enum Sort {
    Calls,
    Rate,
    P50,
    P90,
    P99,
    Max,
    #[default]
    Total,
    #[value(name = "self")]
    SelfTime,
    Name,
}

impl Sort {
    /// As the command line has it.
    pub(crate) fn name(self) -> String {
        self.to_possible_value().map_or_else(String::new, |value| value.get_name().to_string())
    }
}

impl Row {
    /// What it has in a column: calls, calls a second, or nanoseconds. None where there is none.
    pub(crate) fn figure(&self, column: Sort, elapsed_ns: u64) -> Option<f64> {
        let ns = |value: Option<u64>| value.map(|value| value as f64);
        match column {
            Sort::Calls => Some(self.calls as f64),
            Sort::Rate => (elapsed_ns > 0).then(|| self.calls as f64 * 1e9 / elapsed_ns as f64),
            Sort::P50 => ns(self.p50_ns),
            Sort::P90 => ns(self.p90_ns),
            Sort::P99 => ns(self.p99_ns),
            Sort::Max => ns(self.max_ns),
            Sort::Total => ns(self.total_ns),
            Sort::SelfTime => ns(self.self_ns),
            Sort::Name => None,
        }
    }
}

/// Largest first; names from a to z. Rows that are equal in the column go by calls, then by name,
/// so that the order is always the same.
pub(crate) fn sort(rows: &mut [Row], by: Sort) {
    let key = |row: &Row| match by {
        Sort::Calls | Sort::Rate => row.calls,
        Sort::P50 => row.p50_ns.unwrap_or(0),
        Sort::P90 => row.p90_ns.unwrap_or(0),
        Sort::P99 => row.p99_ns.unwrap_or(0),
        Sort::Max => row.max_ns.unwrap_or(0),
        Sort::Total => row.total_ns.unwrap_or(0),
        Sort::SelfTime => row.self_ns.unwrap_or(0),
        Sort::Name => 0,
    };
    rows.sort_by(|a, b| {
        let by_figures = if by == Sort::Name {
            std::cmp::Ordering::Equal
        } else {
            key(b).cmp(&key(a)).then_with(|| b.calls.cmp(&a.calls))
        };
        by_figures.then_with(|| (&a.name, &a.object).cmp(&(&b.name, &b.object)))
    });
}
