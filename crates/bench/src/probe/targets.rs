//! What the probes have to reach.

use super::functions::PUSH;
use super::{FUNCTIONS, Kind, ProbeCase, floors, kernel, ours, uftrace};
use crate::harness::Campaign;
use crate::report::{Bound, Target};
use crate::stats::Summary;

/// Two threads "cost no more than one", within what repeats differ by.
const FLAT: f64 = 1.1;

/// All targets of the probe benchmark. A goal in nanoseconds is for each function that takes a
/// detour, a ratio for the push-first one, whose kernel probe is emulated.
pub(super) fn judge(campaign: &Campaign, cases: &[ProbeCase]) -> Vec<Target> {
    let table = Table { campaign, cases };
    let mut targets = Vec::new();
    for (kind, row, what, limit) in [
        (Kind::Entry, ours::COUNT, "entry counted by detour", 1.2),
        (Kind::Entry, ours::CONSUMER, "consumer called with registers saved", 8.0),
        (Kind::Return, ours::COUNT_RETURN, "entry + return counted", 8.0),
        (Kind::Return, ours::COUNT_EXITS, "entry + return counted at exits", 4.0),
        (Kind::Histogram, ours::HISTOGRAM, "entry + return with histogram", 30.0),
        (Kind::Histogram, ours::HISTOGRAM_EXITS, "entry + return with histogram, at exits", 30.0),
    ] {
        for (index, function) in FUNCTIONS.iter().enumerate() {
            let measured = table.ns(kind, index, 1, row);
            targets.push(Target::new(
                format!("{what}, {}, ns", function.name),
                Bound::AtMost(limit),
                measured,
            ));
        }
        targets.push(Target::new(
            format!("{what}, push: 2 threads / 1 thread"),
            Bound::AtMost(FLAT),
            table.scaling(kind, row),
        ));
    }
    let mut ratio = |what: &str, kind, above, below, bound| {
        targets.push(Target::new(what, bound, table.ratio(kind, PUSH, above, below)))
    };
    ratio(
        "kernel uprobe with BPF count / entry counted, push (emulated)",
        Kind::Entry,
        kernel::COUNT,
        ours::COUNT,
        Bound::AtLeast(400.0),
    );
    ratio(
        "entry + return counted, at exits / by instances, push",
        Kind::Return,
        ours::COUNT_EXITS,
        ours::COUNT_RETURN,
        Bound::AtMost(0.5),
    );
    let (histogram, pair) = (Kind::Histogram, kernel::HISTOGRAM);
    ratio(
        "kernel pair with BPF histogram / histogram, push (emulated)",
        histogram,
        pair,
        ours::HISTOGRAM,
        Bound::AtLeast(45.0),
    );
    ratio(
        "histogram / uftrace -P, push",
        histogram,
        ours::HISTOGRAM,
        uftrace::PATCHED,
        Bound::AtMost(0.35),
    );
    let compiled = table.ratio(histogram, FUNCTIONS.len() - 1, ours::HISTOGRAM, uftrace::COMPILED);
    targets.push(Target::new(
        "histogram / uftrace compiled in with -mfentry, ordinary",
        Bound::AtMost(0.35),
        compiled,
    ));
    targets.push(Target::new(
        "histogram / Frida's native pair, push (Frida is not run here)",
        Bound::AtMost(0.15),
        None,
    ));
    for (index, function) in FUNCTIONS.iter().enumerate() {
        let measured = table.ratio(Kind::Breakpoint, index, ours::PERMANENT, floors::TRAP);
        targets.push(Target::new(
            format!("breakpoint / bare int3 + SIGTRAP, {}", function.name),
            Bound::AtMost(1.05),
            measured,
        ));
    }
    targets
}

struct Table<'a> {
    campaign: &'a Campaign,
    cases: &'a [ProbeCase],
}

impl Table<'_> {
    fn case(&self, kind: Kind, function: usize, threads: usize) -> Option<usize> {
        self.cases
            .iter()
            .position(|c| c.kind == kind && c.function == function && c.threads == threads)
    }

    /// Nanoseconds over the bare call.
    fn ns(&self, kind: Kind, function: usize, threads: usize, row: &str) -> Option<Summary> {
        let row = self.campaign.entry(row)?;
        Summary::of(
            self.campaign.cpu(self.case(kind, function, threads)?, row).into_iter().flatten(),
        )
    }

    fn ratio(&self, kind: Kind, function: usize, above: &str, below: &str) -> Option<Summary> {
        self.campaign.ratio_of(self.case(kind, function, 1)?, above, below)
    }

    /// CPU time per call, the call included, of two threads over one.
    fn scaling(&self, kind: Kind, row: &str) -> Option<Summary> {
        let row = self.campaign.entry(row)?;
        let raw = |threads| {
            let cell = &self.campaign.cells[self.case(kind, PUSH, threads)?][row];
            Some(cell.samples.iter().map(|s| s.map(|s| s.cpu_ns)).collect::<Vec<_>>())
        };
        Summary::of_ratios(&raw(2)?, &raw(1)?)
    }
}
