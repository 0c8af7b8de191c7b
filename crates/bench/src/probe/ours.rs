//! Rows of the probe engine: all armed once, in one batch, each on its own copy of the functions.

use super::blocks;
use super::case::{Kind, ProbeCase};
use super::check::{Checks, Probe, job};
use super::copies::Copy;
use super::functions::FUNCTIONS;
use crate::harness::{Entry, Role};
use std::cell::Cell;
use uprobe::{
    Action, Batch, Config, Consumer, Context, Engine, Hooks, Method, Patching, Returns, SlotPolicy,
    Target, Vectors, Verdict,
};
use wire::cell;

/// Row of the tables: entries counted by a detour.
pub(super) const COUNT: &str = "detour, count";
/// Row of the tables: a function called with the registers.
pub(super) const CONSUMER: &str = "detour, consumer";
/// Row of the tables: the same for a consumer that may use every vector register.
const CONSUMER_ALL: &str = "detour, consumer, all vectors";
/// Row of the tables: entries and returns counted, by return instances.
pub(super) const COUNT_RETURN: &str = "detour, count entry + return";
/// Row of the tables: the same at the functions' exits.
pub(super) const COUNT_EXITS: &str = "exits, count entry + return";
/// Row of the tables: latency histogram, by return instances.
pub(super) const HISTOGRAM: &str = "detour, latency histogram";
/// Row of the tables: the same at the functions' exits.
pub(super) const HISTOGRAM_EXITS: &str = "exits, latency histogram";
/// Row of the tables: a function called at entry and at return, by return instances.
const CONSUMER_RETURN: &str = "detour, consumer at entry + return";
/// Row of the tables: the same at the functions' exits.
const CONSUMER_EXITS: &str = "exits, consumer at entry + return";
/// Row of the tables: breakpoint, the instruction in a slot for good.
pub(super) const PERMANENT: &str = "breakpoint, permanent slot";
/// Row of the tables: breakpoint, a slot of the thread that keeps its last site.
pub(super) const STICKY: &str = "breakpoint, sticky slot per thread";
const CACHED: &str = "breakpoint, map of slots per thread";
/// Row of the tables: breakpoint, a slot taken and given back at each hit.
pub(super) const PER_HIT: &str = "breakpoint, slot per hit";
/// Row of the tables: breakpoint, the instruction's effect computed.
const EMULATED: &str = "breakpoint, emulated";

/// A row.
#[derive(Clone, Copy)]
struct Row {
    name: &'static str,
    kind: Kind,
    action: fn(cell: u32) -> Action,
    by: Returns,
    breakpoints: Option<Config>,
}

const ROWS: [Row; 14] = [
    Row {
        name: COUNT,
        kind: Kind::Entry,
        action: |cell| Action::Count { cell },
        by: Returns::Best,
        breakpoints: None,
    },
    Row {
        name: CONSUMER,
        kind: Kind::Entry,
        action: |_| Action::Call(consumer(Vectors::Sse)),
        by: Returns::Best,
        breakpoints: None,
    },
    Row {
        name: CONSUMER_ALL,
        kind: Kind::Entry,
        action: |_| Action::Call(consumer(Vectors::All)),
        by: Returns::Best,
        breakpoints: None,
    },
    returns(COUNT_RETURN, Kind::Return, count_return, Returns::Instances),
    returns(COUNT_EXITS, Kind::Return, count_return, Returns::Exits),
    returns(HISTOGRAM, Kind::Histogram, histogram, Returns::Instances),
    returns(HISTOGRAM_EXITS, Kind::Histogram, histogram, Returns::Exits),
    returns(CONSUMER_RETURN, Kind::Return, call_both, Returns::Instances),
    returns(CONSUMER_EXITS, Kind::Return, call_both, Returns::Exits),
    by_breakpoint(PER_HIT, SlotPolicy::PerHit, false),
    by_breakpoint(STICKY, SlotPolicy::StickyPerThread, false),
    by_breakpoint(CACHED, SlotPolicy::CachePerThread, false),
    by_breakpoint(PERMANENT, SlotPolicy::Permanent, false),
    by_breakpoint(EMULATED, SlotPolicy::Permanent, true),
];

const fn returns(
    name: &'static str,
    kind: Kind,
    action: fn(cell: u32) -> Action,
    by: Returns,
) -> Row {
    Row { name, kind, action, by, breakpoints: None }
}

fn count_return(cell: u32) -> Action {
    Action::CountReturn { cell }
}

fn histogram(cell: u32) -> Action {
    Action::Time { cell }
}

fn call_both(_: u32) -> Action {
    Action::Call(Consumer { entry: Some(enter), ret: Some(left), ..consumer(Vectors::Sse) })
}

const fn by_breakpoint(name: &'static str, policy: SlotPolicy, emulate: bool) -> Row {
    Row {
        name,
        kind: Kind::Breakpoint,
        action: |cell| Action::Count { cell },
        by: Returns::Best,
        breakpoints: Some(Config { policy, emulate }),
    }
}

thread_local! {
    static SEEN: Cell<u64> = const { Cell::new(0) };
    static LEFT: Cell<u64> = const { Cell::new(0) };
}

const fn consumer(vectors: Vectors) -> Consumer {
    Consumer { entry: Some(see), ret: None, span: None, busy: None, data: 0, vectors, limit: 0 }
}

/// The cheapest consumer that does something: one add to a word of the thread.
fn see(_: &mut Context, _: usize, _: &mut u64) -> Verdict {
    SEEN.with(|seen| seen.set(seen.get() + 1));
    Verdict::Skip
}

/// The same for calls whose return somebody wants to see.
fn enter(_: &mut Context, _: usize, _: &mut u64) -> Verdict {
    SEEN.with(|seen| seen.set(seen.get() + 1));
    Verdict::Return
}

/// At the return: another word.
fn left(_: &mut Context, _: usize, _: u64) {
    LEFT.with(|left| left.set(left.get() + 1));
}

/// One row on one function, during one measurement.
struct Measured {
    copy: Copy,
    cell: Option<usize>,
    returns: bool,
    before: (u64, u64),
}

impl Measured {
    fn begin(copy: Copy, cell: Option<usize>, returns: bool) -> Self {
        let mut measured = Self { copy, cell, returns, before: (0, 0) };
        measured.before = measured.counted().unwrap_or_default();
        measured
    }

    /// Entries and returns so far.
    fn counted(&self) -> Option<(u64, u64)> {
        let cell = self.cell?;
        Some((blocks::sum(cell + cell::CALLS), blocks::sum(cell + cell::RETURNS)))
    }
}

impl Probe for Measured {
    fn hits(&self) -> Option<u64> {
        let (calls, returns) = self.counted()?;
        let (calls, returns) = (calls - self.before.0, returns - self.before.1);
        // A lost return is as wrong as a lost call.
        Some(if self.returns && returns != calls { returns } else { calls })
    }

    #[inline]
    fn call(&self, _: &super::functions::Function, n: u64) {
        self.copy.call(n);
    }
}

/// Starts the engine, with cells in [`blocks`].
pub(super) fn engine() -> Result<&'static Engine, String> {
    blocks::reserve().map_err(|e| e.to_string())?;
    let hooks = Hooks { thread_start: blocks::take, thread_exit: blocks::give_back, lost: |_| () };
    Engine::start(hooks, Config::default()).map_err(|e| e.to_string())
}

/// The rows.
pub(super) fn contenders(checks: &Checks) -> Vec<Entry<ProbeCase>> {
    match armed(checks) {
        Ok(rows) => rows,
        Err(why) => vec![Entry::absent(COUNT, Role::Ours, &why)],
    }
}

fn armed(checks: &Checks) -> Result<Vec<Entry<ProbeCase>>, String> {
    let engine = engine()?;
    let mut entries = Vec::new();
    for (number, row) in ROWS.iter().enumerate() {
        let copies = Copy::of_all().map_err(|e| e.to_string())?;
        let cells: [usize; FUNCTIONS.len()] =
            std::array::from_fn(|index| (number * FUNCTIONS.len() + index) * cell::TIMED_BYTES);
        let batch = batch_of(engine, row, &copies, &cells);
        let results = batch.commit(Patching::Quiet);
        let usable: Vec<bool> = results
            .iter()
            .zip(&FUNCTIONS)
            .map(|(result, function)| match result {
                Ok(armed) => match (armed.method, row.breakpoints.is_some()) {
                    (Method::Breakpoint(why), false) => {
                        checks.say(format!("{}, {}: no detour: {why}", row.name, function.name));
                        false
                    }
                    _ => armed.entry_only.is_none(),
                },
                Err(refusal) => {
                    checks.say(format!("{}, {}: {refusal}", row.name, function.name));
                    false
                }
            })
            .collect();
        entries.push(entry(row, copies, cells, usable, checks));
    }
    Ok(entries)
}

fn batch_of(
    engine: &'static Engine,
    row: &Row,
    copies: &[Copy],
    cells: &[usize],
) -> Batch<'static> {
    let mut batch = engine.batch();
    if let Some(config) = row.breakpoints {
        batch.breakpoints(config);
    }
    for (copy, cell) in copies.iter().zip(cells) {
        let action = (row.action)(*cell as u32);
        let target = Target::entry(copy.address(), copy.size(), action);
        let (by, breakpoint) = (row.by, row.breakpoints.is_some());
        batch.add(Target { after: copy.after(), breakpoint, by, ..target });
    }
    batch
}

fn entry(
    row: &Row,
    copies: [Copy; FUNCTIONS.len()],
    cells: [usize; FUNCTIONS.len()],
    usable: Vec<bool>,
    checks: &Checks,
) -> Entry<ProbeCase> {
    let (row, checks) = (*row, checks.clone());
    let consumer = matches!((row.action)(0), Action::Call(_));
    Entry::new(row.name, Role::Ours, move |case: &ProbeCase| {
        if case.kind != row.kind || !usable[case.function] {
            return None;
        }
        let copy = copies[case.function];
        if consumer {
            check_consumer(&row, &copy, &checks);
        }
        let returns = matches!(row.kind, Kind::Return | Kind::Histogram);
        let probe = Measured::begin(copy, (!consumer).then_some(cells[case.function]), returns);
        Some(job(row.name, case, probe, &checks))
    })
}

/// A consumer counts in its thread, so that it is compared on this one.
fn check_consumer(row: &Row, copy: &Copy, checks: &Checks) {
    const CALLS: u64 = 1_000;
    let name = row.name;
    let before = (SEEN.get(), LEFT.get());
    copy.call(CALLS);
    let (seen, left) = (SEEN.get() - before.0, LEFT.get() - before.1);
    let expected = if row.kind == Kind::Return { CALLS } else { 0 };
    if (seen, left) != (CALLS, expected) {
        checks.say(format!("WRONG COUNT: {name}: {seen} hits, {left} returns of {CALLS} calls"));
    }
}
