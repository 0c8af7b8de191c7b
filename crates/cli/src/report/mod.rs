//! The report of a run: the figures, before they are rendered.

mod clock;
pub(crate) mod collect;
pub(crate) mod counters;
pub(crate) mod diff;

pub(crate) use clock::Clock;

use crate::args::Sort;
use crate::select::Skipped;
use counters::Counters;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// One report. The fields and their order are those of `-j`, which stay as they are: new ones come at the end.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub(crate) struct Report {
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
    /// Estimated time that the hits cost.
    #[serde(default)]
    pub(crate) overhead_ns: u64,
    /// The program's exit code, 128 + signal when it was killed; none while it runs.
    #[serde(default)]
    pub(crate) exit_code: Option<u8>,
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

impl From<&Skipped> for SkippedRow {
    fn from(skipped: &Skipped) -> Self {
        Self { object: skipped.object.clone(), name: skipped.name.clone(), reason: skipped.reason.clone() }
    }
}

/// One function. Times are in nanoseconds; none where only entries were counted, or nothing has returned.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct Row {
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
    pub(crate) threads: Vec<ThreadRow>,
}

/// One thread's part in a function.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct ThreadRow {
    pub(crate) process: u32,
    pub(crate) thread: u32,
    pub(crate) calls: u64,
    pub(crate) p50_ns: Option<u64>,
    pub(crate) p90_ns: Option<u64>,
    pub(crate) p99_ns: Option<u64>,
    pub(crate) max_ns: Option<u64>,
    pub(crate) total_ns: Option<u64>,
    pub(crate) self_ns: Option<u64>,
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
        let returning = counters.returns > 0 || counters.unwound > 0 || !counters.buckets.is_empty();
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
            running: if returning {
                counters.calls.saturating_sub(counters.returns).saturating_sub(counters.unwound).saturating_sub(counters.untimed)
            } else {
                0
            },
            ..Self::default()
        }
    }

    /// Adds the histogram of `--hist`.
    pub(crate) fn with_histogram(mut self, counters: &Counters, ns_per_tick: f64) -> Self {
        let ns = |ticks: u64| (ticks as f64 * ns_per_tick).round() as u64;
        let filled = counters.buckets.iter().enumerate().filter(|(_, count)| **count > 0);
        self.histogram = filled.map(|(at, &count)| (ns(wire::cell::bounds(at).0), ns(wire::cell::bounds(at).1), count)).collect();
        self
    }
}

impl ThreadRow {
    pub(crate) fn new(process: u32, thread: u32, counters: &Counters, ns_per_tick: f64) -> Self {
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
        }
    }
}

/// Largest first; names from a to z. Rows that are equal in the column go by calls, then by name, so that the order is always the same.
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
        let by_figures = if by == Sort::Name { std::cmp::Ordering::Equal } else { key(b).cmp(&key(a)).then_with(|| b.calls.cmp(&a.calls)) };
        by_figures.then_with(|| (&a.name, &a.object).cmp(&(&b.name, &b.object)))
    });
}
