//! The two CPUs of this machine: what things cost on them is measured, the model is made of that,
//! and what it predicts stands beside what the same code takes here, in the same minute.

use super::probe::Probe;
use crate::harness::{Budget, Campaign, Plan};
use crate::stats::Summary;
use crate::{pool, refscale};
use scale::cell::{Cell, Child};
use scale::{Prediction, machines, text};
use std::fmt::Write;
use std::io;
use std::time::Duration;

/// Schemes of the model, and the rows of our benchmarks that are the same.
const POOLS: [(&str, &str); 6] = [
    ("default pool", "default pool"),
    ("bitmap", "bitmap"),
    ("per-CPU list", "per-CPU list"),
    ("ring array", "ring array"),
    ("flat array", "flat array"),
    ("CAS LIFO", "CAS LIFO"),
];
const READERS: [(&str, &str); 7] = [
    ("hazptr", "hazptr, kept holder"),
    ("rcu", "rcu"),
    ("srcu", "srcu"),
    ("srcu-fast", "srcu-fast"),
    ("percpu_ref", "percpu_ref"),
    ("cached", "cached ref"),
    ("one count (Arc)", "Arc clone + drop"),
];
/// The scheme whose figure the transfers are fitted to.
const FITTED: &str = "one count (Arc)";

/// What was found.
pub(super) struct Here {
    pub(super) text: String,
    pub(super) predictions: Vec<Prediction>,
}

/// Measures, and asks the model.
///
/// # Errors
/// A cell fails.
pub(super) fn run(child: &Child, quick: bool) -> io::Result<Here> {
    let probe = Probe::measure(quick);
    let mut text = probe.to_string();
    let Some(machine) = probe.machine() else {
        text.push_str("one CPU: nothing to predict\n");
        return Ok(Here { text, predictions: Vec::new() });
    };
    let (repeats, window) = if quick { (1, 3) } else { (11, 30) };
    let plan = |block| Plan {
        repeats,
        block,
        budget: Budget::Time(Duration::from_millis(window)),
        only: Vec::new(),
    };
    let pools = pool::singly(&POOLS.map(|(_, row)| row), &plan(256));
    let readers = refscale::reading(&READERS.map(|(_, row)| row), &plan(10_000));
    let name = machines::measured(&machine);
    _ = writeln!(text, "the model of it: {name}");
    let mut predictions = Vec::new();
    for (campaign, rows) in [(&pools, &POOLS[..]), (&readers, &READERS[..])] {
        for (scheme, row) in rows {
            let [Some(alone), Some(together)] = [0, 1].map(|case| median(campaign, case, row))
            else {
                continue;
            };
            let [one, two] = [1, 2].map(|threads| {
                let (machine, scheme) = (name.clone(), (*scheme).to_owned());
                let cell = Cell { machine, scheme, threads, work: 0, seed: 0 };
                cell.run_apart(child).map(|outcome| outcome.nanoseconds)
            });
            let (one, two) = (one?, two?);
            predictions.push(Prediction {
                scheme,
                alone: [alone, one],
                together: [together, alone + two - one],
                fitted: *scheme == FITTED,
            });
        }
        if let Some(transfer) = campaign.transfer(1) {
            let Summary { min, median, max, .. } = transfer;
            _ = writeln!(text, "a ball's pass meanwhile: {median:.0} [{min:.0}..{max:.0}] ns");
        }
    }
    text.push_str(&text::predictions(&predictions));
    Ok(Here { text, predictions })
}

fn median(campaign: &Campaign, case: usize, row: &str) -> Option<f64> {
    let measured = campaign.cpu(case, campaign.entry(row)?);
    Summary::of(measured.into_iter().flatten()).map(|summary| summary.median)
}
