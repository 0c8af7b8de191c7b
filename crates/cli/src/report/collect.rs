//! From counters to a report.

use super::counters::Counters;
use super::{Armed, Report, Row, SkippedRow, ThreadRow, sort};
use crate::args::Sort;
use crate::render::Share;
use crate::run::server::State;
use crate::run::tables::Tables;
use crate::run::{snapshot, tables};
use std::collections::BTreeMap;
use std::time::Duration;
use wire::{Loss, State as Outcome};

/// What a hit costs, in nanoseconds: entry counted, entry and return timed; medians of `trapline-bench -- probe` on the machine of bench/results.
const DETOUR_COUNT_NS: f64 = 1.2;
const DETOUR_TIME_NS: f64 = 26.0;
pub(crate) const BREAKPOINT_COUNT_NS: f64 = 2400.0;
const BREAKPOINT_TIME_NS: f64 = 2430.0;

/// What goes into a report besides the counters.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Wanted {
    pub(crate) sort: Sort,
    pub(crate) histogram: bool,
    pub(crate) per_thread: bool,
    pub(crate) elapsed: Duration,
    pub(crate) ns_per_tick: f64,
    pub(crate) exit_code: Option<u8>,
}

/// The report, and what its estimate of the overhead is made of.
pub(crate) fn collect(state: &State, tables: &Tables, counters: &[Counters], wanted: Wanted) -> (Report, Vec<Share>) {
    let segment = &tables.segment;
    let mut report = Report {
        skipped: state.resolution.skipped().map(SkippedRow::from).collect(),
        lost: Loss::ALL.iter().map(|loss| (loss.name().to_string(), segment.lost(*loss))).collect(),
        elapsed_ns: u64::try_from(wanted.elapsed.as_nanos()).unwrap_or(u64::MAX),
        agent_bytes: segment.agent_bytes().saturating_add(tables.bytes()),
        processes: segment.processes_len() as u64,
        exit_code: wanted.exit_code,
        ..Report::default()
    };
    let mut costs: BTreeMap<u64, Share> = BTreeMap::new();
    let nothing = Counters::default();
    for (index, armed) in state.armed.iter().enumerate() {
        let (object, function) = names(state, *armed);
        let counted = counters.get(index).unwrap_or(&nothing);
        let outcome = segment.state(index);
        let reason = segment.reason(index);
        match outcome {
            Outcome::Detour => report.armed.detour += 1,
            Outcome::Breakpoint => report.armed.breakpoint += 1,
            Outcome::Skipped | Outcome::Pending => {
                let reason = if outcome == Outcome::Pending {
                    "its object was not loaded while tracing went on".to_string()
                } else {
                    reason.clone()
                };
                report.skipped.push(SkippedRow { object: object.to_string(), name: function.name.clone(), reason });
                if counted.calls == 0 {
                    continue;
                }
            }
        }
        let timed = counted.timed() > 0;
        let (ns, what) = match (outcome, timed) {
            (Outcome::Breakpoint, false) => (BREAKPOINT_COUNT_NS, "counted by breakpoint"),
            (Outcome::Breakpoint, true) => (BREAKPOINT_TIME_NS, "timed by breakpoint"),
            (_, false) => (DETOUR_COUNT_NS, "counted"),
            (_, true) => (DETOUR_TIME_NS, "timed"),
        };
        if counted.calls > 0 {
            costs.entry(ns.to_bits()).or_insert(Share { hits: 0, ns, what }).hits += counted.calls;
        }
        report.hits += counted.calls;
        let mut row = Row::new(object, &function.name, counted, wanted.ns_per_tick);
        // The agent's reason for a breakpoint is the method's business; for a detour it says why only entries are counted.
        let entry_only = (outcome == Outcome::Detour && !reason.is_empty()).then_some(reason);
        row.note = function.entry_only.map(str::to_string).or(entry_only);
        report.functions.push(if wanted.histogram { row.with_histogram(counted, wanted.ns_per_tick) } else { row });
    }
    if wanted.per_thread {
        add_threads(&mut report, state, tables, wanted.ns_per_tick);
    }
    sort(&mut report.functions, wanted.sort);
    if state.left_out > 0 {
        let reason = format!("no room in the segment for {} functions", state.left_out);
        report.skipped.push(SkippedRow { object: String::new(), name: String::new(), reason });
    }
    let shares: Vec<Share> = costs.into_values().collect();
    report.overhead_ns = shares.iter().map(|share| share.hits as f64 * share.ns).sum::<f64>().round() as u64;
    (report, shares)
}

fn names(state: &State, armed: tables::Armed) -> (&str, &crate::select::Function) {
    (state.resolution.objects[armed.object].name(), &state.resolution.selections[armed.object].functions[armed.function])
}

fn add_threads(report: &mut Report, state: &State, tables: &Tables, ns_per_tick: f64) {
    let mut rows: BTreeMap<(&str, &str), Vec<ThreadRow>> = BTreeMap::new();
    for (thread, function, counters) in snapshot::by_thread(tables) {
        let Some(armed) = state.armed.get(function) else { continue };
        let (object, function) = names(state, *armed);
        rows.entry((object, &function.name)).or_default().push(ThreadRow::new(thread.pid, thread.tid, &counters, ns_per_tick));
    }
    for row in &mut report.functions {
        row.threads = rows.remove(&(row.object.as_str(), row.name.as_str())).unwrap_or_default();
        row.threads.sort_by_key(|thread| (thread.process, thread.thread));
    }
}

/// The part of a report that an interval of `-i` shows: what came since `before`.
pub(crate) fn interval(state: &State, counters: &[Counters], before: &[Counters], by: Sort, elapsed: Duration, ns_per_tick: f64) -> Report {
    let nothing = Counters::default();
    let rows = state.armed.iter().zip(counters).enumerate().filter_map(|(index, (armed, now))| {
        let since = now.since(before.get(index).unwrap_or(&nothing));
        let (object, function) = names(state, *armed);
        (since.calls > 0 || since.returns > 0).then(|| Row::new(object, &function.name, &since, ns_per_tick))
    });
    let mut report =
        Report { functions: rows.collect(), elapsed_ns: u64::try_from(elapsed.as_nanos()).unwrap_or(u64::MAX), ..Report::default() };
    report.hits = report.functions.iter().map(|row| row.calls).sum();
    report.armed = Armed::default();
    sort(&mut report.functions, by);
    report
}
