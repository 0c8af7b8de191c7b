//! `redis`: what tracing costs a real program under load.
//!
//! Debian's redis-server on 127.0.0.1 under `redis-benchmark -P 16 -c 50 -t set,get`: a bare server
//! and a traced one in alternating order, each started afresh, each warmed up before the run that
//! counts. The share is the traced server's requests per second over those of the bare server in
//! the same pair. Beside it stands the server's CPU time per command, which the client's own limits
//! do not hide. With pipelining a command costs under 1 us: without it the client's system calls
//! would hide everything.

pub(crate) mod load;
mod pairs;
mod seen;
pub(crate) mod server;
mod tracer;

use crate::executable;
use crate::options::Options as Common;
use crate::programs::installed;
use crate::report::{Bound, Report, Sheet, Target};
use crate::stats::Summary;
use clap::Args;
use pairs::{Contender, Pair, Pairs, Plan};
use std::collections::BTreeSet;
use std::path::PathBuf;
use tracer::{Probes, STACKS, Tracer};

/// Options of `redis`.
#[derive(Args, Clone, Debug)]
#[group(id = "redis")]
pub struct Options {
    /// What all benchmarks take; here `--threads` means nothing, `--repeats` counts pairs and
    /// `--window-ms` is the length of a run
    #[command(flatten)]
    pub common: Common,
    /// The executable to measure; else the workspace's own is built
    #[arg(long, value_name = "PATH")]
    pub trapline: Option<PathBuf>,
    /// Also measure uftrace and, as root, bpftrace
    #[arg(long)]
    pub peers: bool,
    /// Keep the server's main thread and the client on a CPU each
    #[arg(long)]
    pub pin: bool,
}

/// What is probed, and the share of the bare requests per second that is to be kept.
const GOALS: [(Probes, f64); 4] = [
    (Probes::Function("call"), 0.95),
    (Probes::Function("decrRefCount"), 0.88),
    (Probes::Function("zmalloc"), 0.85),
    (Probes::All, 0.17),
];

/// The share that is to be kept with call stacks.
const STACKS_GOAL: f64 = 0.65;

/// Measures and reports.
pub fn run(options: &Options) -> Report {
    let common = &options.common;
    let mut report = Report::new("redis");
    let mut missing: Vec<String> = [server::PROGRAM, load::PROGRAM]
        .into_iter()
        .filter(|program| !installed(program))
        .map(|program| format!("{program} is not installed: nothing is measured under load"))
        .collect();
    let loaded = missing.is_empty();
    let trapline = executable::trapline(options.trapline.as_deref());
    let mut tracers = Vec::new();
    match &trapline {
        Ok(path) => tracers.extend([Tracer::Trapline(path.clone()), Tracer::Record(path.clone())]),
        Err(why) => missing.push(format!("no trapline: {why}")),
    }
    if options.peers {
        for (tracer, program) in [
            (Tracer::Uftrace, "uftrace"),
            (Tracer::Bpftrace, "bpftrace"),
            (Tracer::BpftraceStacks, "bpftrace"),
        ] {
            if installed(program) {
                tracers.push(tracer);
            } else {
                missing.push(format!("{program} is not installed"));
            }
        }
    }
    let wanted = |c: &Contender| {
        let name = format!("{} {}", c.probes.label(), c.tracer.label());
        c.tracer.takes(c.probes)
            && (common.only.is_empty()
                || common.only.iter().any(|part| name.contains(part.as_str())))
    };
    let contenders: Vec<Contender> = GOALS
        .iter()
        .flat_map(|(probes, _)| {
            tracers.iter().map(|tracer| Contender { tracer: tracer.clone(), probes: *probes })
        })
        .filter(wanted)
        .collect();
    let repeats = common.repeats(7);
    let seconds =
        common.window_ms.map_or(if common.quick { 0.1 } else { 3.0 }, |ms| ms as f64 / 1e3);
    let plan =
        Plan { seconds, warm_up: if common.quick { 2_000 } else { 20_000 }, pinned: options.pin };
    let results = if loaded { pairs::run(&contenders, repeats, plan) } else { Vec::new() };

    report.settings = vec![
        format!("pairs {repeats}"),
        format!("load {seconds} s per run"),
        "-P 16 -c 50 -t set,get".to_owned(),
    ];
    if options.pin {
        report.settings.push("server and client each on a CPU".to_owned());
    }
    if common.quick {
        report.settings.push("QUICK: the figures mean little".to_owned());
    }
    if loaded {
        report.sheets.push(shares(&contenders, &results));
        report.sheets.push(costs(&contenders, &results));
    }
    report.targets = goals(&contenders, &results);
    report.notes =
        vec![
        "share: requests per second of the traced server over those of the bare server of the \
            same pair, SET and GET together (harmonic mean)".to_owned(),
        "server CPU: time on a CPU of all its threads (/proc/PID/task/*/schedstat) over the \
            commands that it executed; uftrace's writers and bpftrace run outside of it".to_owned(),
        "every traced run is checked: no hit lost, and the hits of `call` are the commands that \
            the server says it has executed; what differs is listed here".to_owned(),
        "kernel probes on `zmalloc` are single-stepped: in a virtual machine about 8 us per hit \
            too dear (hypervisor intercept); `call` and `decrRefCount` are emulated".to_owned(),
    ];
    report.notes.extend(missing);
    for (contender, pairs) in contenders.iter().zip(&results) {
        let name = format!("{} by {}", contender.probes.label(), contender.tracer.label());
        let unlike = |lines: &[String]| lines.iter().cloned().collect::<BTreeSet<_>>();
        report
            .notes
            .extend(unlike(&pairs.failures).iter().map(|why| format!("FAILED: {name}: {why}")));
        report.notes.extend(unlike(&pairs.wrong).iter().map(|why| format!("{name}: {why}")));
    }
    report
}

fn summary(pairs: &Pairs, value: impl Fn(&Pair) -> Option<f64>) -> Option<Summary> {
    Summary::of(pairs.done.iter().filter_map(value))
}

fn share(pair: &Pair) -> Option<f64> {
    Some(pair.traced.rates.both() / pair.bare.rates.both())
}

fn row_name(contender: &Contender) -> String {
    format!("{}, {}", contender.probes.label(), contender.tracer.label())
}

fn shares(contenders: &[Contender], results: &[Pairs]) -> Sheet {
    let columns = ["min", "median", "max", "SET", "GET", "bare k/s", "traced k/s", "pairs"];
    let mut sheet = Sheet::new(
        "requests per second as a share of untraced (SET, GET and k/s: medians)",
        &columns,
    );
    for (contender, pairs) in contenders.iter().zip(results) {
        let all = summary(pairs, share);
        let median = |value: fn(&Pair) -> f64| summary(pairs, |p| Some(value(p))).map(|s| s.median);
        let values = vec![
            all.map(|s| s.min),
            all.map(|s| s.median),
            all.map(|s| s.max),
            median(|p| p.traced.rates.set / p.bare.rates.set),
            median(|p| p.traced.rates.get / p.bare.rates.get),
            median(|p| p.bare.rates.both() / 1e3),
            median(|p| p.traced.rates.both() / 1e3),
            Some(pairs.done.len() as f64),
        ];
        sheet.row(
            &row_name(contender),
            values,
            if pairs.failures.is_empty() { "" } else { "some runs FAILED, see notes" },
        );
    }
    sheet
}

fn costs(contenders: &[Contender], results: &[Pairs]) -> Sheet {
    let columns = ["bare", "traced", "added min", "median", "max", "hits/command", "ns/hit"];
    let mut sheet = Sheet::new("server CPU, ns per command (medians)", &columns);
    for (contender, pairs) in contenders.iter().zip(results) {
        let added = summary(pairs, |p| Some(p.traced.cpu_ns - p.bare.cpu_ns));
        let values = vec![
            summary(pairs, |p| Some(p.bare.cpu_ns)).map(|s| s.median),
            summary(pairs, |p| Some(p.traced.cpu_ns)).map(|s| s.median),
            added.map(|s| s.min),
            added.map(|s| s.median),
            added.map(|s| s.max),
            summary(pairs, |p| p.traced.hits).map(|s| s.median),
            summary(pairs, |p| {
                Some((p.traced.cpu_ns - p.bare.cpu_ns) / p.traced.hits.filter(|hits| *hits > 0.0)?)
            })
            .map(|s| s.median),
        ];
        sheet.row(&row_name(contender), values, "");
    }
    sheet
}

fn goals(contenders: &[Contender], results: &[Pairs]) -> Vec<Target> {
    let ours = |probes: Probes, of: fn(&Tracer) -> bool| {
        let found =
            contenders.iter().zip(results).find(|(c, _)| c.probes == probes && of(&c.tracer));
        found.and_then(|(_, pairs)| summary(pairs, share))
    };
    let goal = |(probes, bound): &(Probes, f64)| {
        let share = ours(*probes, |tracer| matches!(tracer, Tracer::Trapline(_)));
        Target::new(
            format!("share of untraced requests/s, histogram on {}", probes.label()),
            Bound::AtLeast(*bound),
            share,
        )
    };
    let stacks = ours(STACKS, |tracer| matches!(tracer, Tracer::Record(_)));
    let what = format!("share of untraced requests/s, call stacks on {}", STACKS.label());
    GOALS.iter().map(goal).chain([Target::new(what, Bound::AtLeast(STACKS_GOAL), stacks)]).collect()
}
