//! What the model and its tables have to reach.

use crate::report::{Bound, Target};
use crate::stats::Summary;
use scale::tables::{NEIGHBOURS, PREDICTED};
use scale::{Comparison, Prediction, Results, STOPPED};

/// What must not cost more with the number of CPUs.
const SCALES: [&str; 8] =
    ["default pool", "hazptr", "rcu", "srcu", "srcu-fast", "percpu_ref", "cached", "depot, hits"];
/// CPUs at which that is judged.
const CPUS: usize = 128;
/// Simulated accesses a second of CPU time, in millions, and seconds for a table.
const SPEED: f64 = 2.0;
const PATIENCE: f64 = 120.0;

/// What running a table took.
pub(super) struct Ran {
    pub(super) results: Results,
    /// Millions of accesses a second of CPU time.
    pub(super) speed: f64,
    /// Seconds from start to end.
    pub(super) seconds: f64,
}

fn at_most(what: String, limit: f64, values: impl IntoIterator<Item = f64>) -> Target {
    Target::new(what, Bound::AtMost(limit), Summary::of(values))
}

/// All of them, as far as they were run.
pub(super) fn judge(all: &[Ran], here: &[Prediction]) -> Vec<Target> {
    let mut targets = Vec::new();
    for ran in all {
        targets.extend(posted(&ran.results));
        targets.extend(two("two CPUs of an EPYC", &ran.results.predicted()));
        targets.extend(grown(&ran.results));
    }
    targets.extend(two("two CPUs here", here));
    if !all.is_empty() {
        let speed = Summary::of(all.iter().map(|ran| ran.speed));
        let what = "millions of simulated accesses a second of CPU time, by table".to_owned();
        targets.push(Target::new(what, Bound::AtLeast(SPEED), speed));
        let longest = all.iter().map(|ran| ran.seconds).fold(0.0, f64::max);
        targets.push(at_most("seconds for the longest table".to_owned(), PATIENCE, [longest]));
    }
    targets
}

/// The factor by which posted ratios are missed: of all, the largest has to be small enough.
fn posted(results: &Results) -> Vec<Target> {
    // A table whose figures are one machine's costs is judged by its predictions.
    if !results.predicted().is_empty() {
        return Vec::new();
    }
    let comparisons = results.comparisons();
    let worst = |chosen: &dyn Fn(&&Comparison) -> bool| {
        let factors = comparisons.iter().filter(chosen).map(Comparison::factor);
        Summary::of(factors).map(|summary| summary.max)
    };
    let name = results.table.name;
    let mut targets = Vec::new();
    for (fitted, what) in [(false, "validating"), (true, "guarding the fit")] {
        if let Some(factor) = worst(&|c| c.fitted == fitted && c.within <= NEIGHBOURS) {
            let what = format!("{name}: factor off neighbouring posted ratios, {what}");
            targets.push(at_most(what, NEIGHBOURS, [factor]));
        }
    }
    for span in comparisons.iter().filter(|c| c.within > NEIGHBOURS) {
        let what = format!("{name}: factor off the posted {:.0}x from end to end", span.posted);
        targets.push(at_most(what, span.within, [span.factor()]));
    }
    targets
}

fn two(what: &str, predictions: &[Prediction]) -> Option<Target> {
    // What was fitted is no prediction.
    let off = predictions.iter().filter(|p| !p.fitted).map(Prediction::off);
    let worst = Summary::of(off)?.max;
    Some(at_most(format!("{what}: predicted cost off the measured one"), PREDICTED, [worst]))
}

fn grown(results: &Results) -> Vec<Target> {
    let Some(column) = results.threads.iter().position(|threads| *threads == CPUS) else {
        return Vec::new();
    };
    let rows = results.rows.iter().enumerate().filter(|(_, row)| SCALES.contains(&row.scheme));
    let growth = |(number, row): (usize, &scale::tables::Row)| {
        let cells = &results.cells[number];
        let growth = cells[column].nanoseconds / cells[0].nanoseconds;
        at_most(format!("{}: an operation at {CPUS} CPUs / at 1", row.scheme), STOPPED, [growth])
    };
    rows.map(growth).collect()
}
