//! From counters to a report.

use super::cost::Cost;
use super::outside::{not_followed, still_running};
use super::people::{People, Person};
use crate::model::counters::{Counters, sum};
use crate::model::origin::moment;
use crate::model::report::{Armed, Kind, Part, Report, Row, SCHEMA, Share, SkippedRow, Sort, sort};
use crate::run::server::State;
use crate::run::tables::Tables;
use crate::run::{child, snapshot, tables};
use crate::select::Skipped;
use std::collections::{BTreeMap, BTreeSet};
use std::os::unix::process::ExitStatusExt;
use std::process::ExitStatus;
use std::time::{Duration, Instant, SystemTime};
use wire::{Loss, Segment, State as Outcome};

impl From<&Skipped> for SkippedRow {
    fn from(skipped: &Skipped) -> Self {
        Self {
            object: skipped.object.clone(),
            name: skipped.name.clone(),
            reason: skipped.reason.clone(),
        }
    }
}

/// What goes into a report besides the counters.
#[derive(Debug, Default, Clone, Copy)]
pub(crate) struct Wanted {
    pub(crate) sort: Sort,
    pub(crate) histogram: bool,
    pub(crate) per_thread: bool,
    pub(crate) per_process: bool,
    /// Functions with fewer calls are left out.
    pub(crate) min_calls: u64,
    pub(crate) elapsed: Duration,
    pub(crate) ns_per_tick: f64,
    pub(crate) end: Option<ExitStatus>,
}

/// The report, and what its estimate of the overhead is made of.
pub(crate) fn collect(
    state: &State,
    tables: &Tables,
    counters: &[Counters],
    wanted: Wanted,
) -> (Report, Vec<Share>) {
    let segment = &tables.segment;
    let (also_inlined, inlined_partly) = state.resolution.also_inlined();
    let mut report = Report {
        main: main_program(state),
        skipped: state.resolution.skipped().map(SkippedRow::from).collect(),
        lost: Loss::ALL.iter().map(|loss| (loss.name().to_string(), segment.lost(*loss))).collect(),
        elapsed_ns: u64::try_from(wanted.elapsed.as_nanos()).unwrap_or(u64::MAX),
        agent_bytes: segment.agent_bytes().saturating_add(tables.bytes()),
        processes: segment.processes(),
        exit_code: wanted.end.map(child::code),
        signal: wanted.end.and_then(|end| end.signal()),
        schema: SCHEMA,
        time: moment(SystemTime::now()),
        not_followed: not_followed(tables),
        still_running: still_running(tables),
        overlaps: segment.overlaps(),
        also_inlined,
        inlined_partly,
        ..Report::default()
    };
    let cost = Cost::here(wanted.ns_per_tick);
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
                report.skipped.push(SkippedRow {
                    object: object.to_string(),
                    name: function.name.clone(),
                    reason,
                });
                if counted.calls == 0 {
                    continue;
                }
            }
        }
        let timed = counted.timed() > 0;
        let (ns, what) = match (outcome, timed) {
            (Outcome::Breakpoint, false) => {
                (cost.trap() + cost.hit(false), "counted by breakpoint")
            }
            (Outcome::Breakpoint, true) => (cost.trap() + cost.hit(true), "timed by breakpoint"),
            (_, false) => (cost.hit(false), "counted"),
            (_, true) => (cost.hit(true), "timed"),
        };
        if counted.calls > 0 {
            let share = costs.entry(ns.to_bits()).or_insert(Share { hits: 0, ns, what });
            share.hits = share.hits.saturating_add(counted.calls);
        }
        report.hits = report.hits.saturating_add(counted.calls);
        let mut row = Row::new(object, &function.name, counted, wanted.ns_per_tick);
        row.index = index;
        // Where returns are not probed, none is missing.
        if counted.returns == 0 && reason.starts_with("entry only") {
            row.running = 0;
        }
        // The agent's reason for a breakpoint is the method's business; for a detour it says why
        // only entries are counted. That the probe is gone outweighs all.
        let overwritten = reason == wire::OVERWRITTEN;
        let said = overwritten || outcome == Outcome::Detour && !reason.is_empty();
        let of_spec = function.entry_only.filter(|_| !overwritten);
        row.note = of_spec.map(str::to_string).or(said.then_some(reason));
        report.functions.push(if wanted.histogram {
            row.with_histogram(counted, wanted.ns_per_tick)
        } else {
            row
        });
    }
    if wanted.per_thread || wanted.per_process {
        add_parts(&mut report, tables, wanted);
    }
    report.functions.retain(|row| row.calls >= wanted.min_calls);
    sort(&mut report.functions, wanted.sort);
    report.skipped.extend(state.left_out());
    let mut shares: Vec<Share> = costs.into_values().collect();
    shares.extend(start_up(segment));
    report.overhead_ns =
        shares.iter().map(|share| share.hits as f64 * share.ns).sum::<f64>().round() as u64;
    (report, shares)
}

/// What starting cost: arming, as each agent measured it. None where no agent has started.
fn start_up(segment: &Segment) -> Option<Share> {
    let processes = (0..segment.processes_len()).filter_map(|index| segment.process(index));
    let arming = processes.map(|process| process.arming_ns).filter(|ns| *ns > 0);
    let (count, ns) =
        arming.fold((0, 0_u64), |(count, sum), ns| (count + 1, sum.saturating_add(ns)));
    (count > 0).then(|| Share { hits: count, ns: ns as f64 / count as f64, what: "start-up" })
}

fn main_program(state: &State) -> Option<String> {
    state.resolution.objects.first().map(|object| object.name().to_string())
}

fn names(state: &State, armed: tables::Armed) -> (&str, &crate::select::Function) {
    (
        state.resolution.objects[armed.object].name(),
        &state.resolution.selections[armed.object].functions[armed.function],
    )
}

/// Adds what each thread, or each process, has of each function, with their names.
fn add_parts(report: &mut Report, tables: &Tables, wanted: Wanted) {
    let threads = snapshot::by_thread(tables);
    let people =
        People::of(&tables.segment, threads.iter().map(|(thread, ..)| Person::from(thread)));
    let mut parts: BTreeMap<(usize, u32, Option<u32>), Counters> = BTreeMap::new();
    for (thread, function, counters) in threads {
        if wanted.per_thread {
            parts.entry((function, thread.pid, Some(thread.tid))).or_default().add(&counters);
        }
        if wanted.per_process {
            parts.entry((function, thread.pid, None)).or_default().add(&counters);
        }
    }
    let mut rows: BTreeMap<usize, Vec<Part>> = BTreeMap::new();
    for ((function, process, thread), counters) in parts {
        let mut part = Part::new(process, thread, &counters, wanted.ns_per_tick);
        part.process_name = people.process(process);
        part.thread_name = thread.map_or_else(String::new, |thread| people.thread(process, thread));
        rows.entry(function).or_default().push(part);
    }
    for row in &mut report.functions {
        let parts = rows.remove(&row.index).unwrap_or_default();
        (row.threads, row.processes) = parts.into_iter().partition(|part| part.thread.is_some());
    }
}

/// What intervals of `-i` have shown already.
#[derive(Debug)]
pub(crate) struct Shown {
    pub(crate) when: Instant,
    counters: Vec<Counters>,
    /// Functions whose probes are gone, by index.
    overwritten: BTreeSet<usize>,
}

impl Shown {
    /// Nothing, since `when`.
    pub(crate) fn nothing(when: Instant) -> Self {
        Self { when, counters: Vec::new(), overwritten: BTreeSet::new() }
    }
}

/// The part of a report that an interval of `-i` shows: what came since `before`, which is brought
/// up to date.
pub(crate) fn interval(
    state: &State,
    tables: &Tables,
    before: &mut Shown,
    by: Sort,
    ns_per_tick: f64,
) -> Report {
    let (now, counters) = (Instant::now(), snapshot::all(tables));
    let elapsed = now - before.when;
    let nothing = Counters::default();
    let rows = state.armed.iter().zip(&counters).enumerate().filter_map(|(index, (armed, now))| {
        let since = now.since(before.counters.get(index).unwrap_or(&nothing));
        let (object, function) = names(state, *armed);
        let is_overwritten = tables.segment.reason(index) == wire::OVERWRITTEN;
        let is_news = is_overwritten && before.overwritten.insert(index);
        let changed = since.calls > 0 || since.returns > 0 || is_news;
        // What runs now may have been called before.
        let row = || Row {
            running: now.running(),
            note: is_overwritten.then(|| wire::OVERWRITTEN.to_string()),
            ..Row::new(object, &function.name, &since, ns_per_tick)
        };
        changed.then(row)
    });
    let mut report = Report {
        functions: rows.collect(),
        elapsed_ns: u64::try_from(elapsed.as_nanos()).unwrap_or(u64::MAX),
        ..Report::default()
    };
    report.main = main_program(state);
    (report.schema, report.kind, report.time) = (SCHEMA, Kind::Interval, moment(SystemTime::now()));
    report.hits = sum(report.functions.iter().map(|row| row.calls));
    report.armed = Armed::default();
    sort(&mut report.functions, by);
    (before.when, before.counters) = (now, counters);
    report
}
