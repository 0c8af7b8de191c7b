//! Latency percentiles of one pop + write + push with more threads than CPUs.
//!
//! The mean hides what a signal handler or a probe hit cares about: the rare operation that met
//! another one half-way. Each operation lies between two readings of the time-stamp counter, whose
//! own cost is the floor row.

use super::case::{Flow, PoolCase};
use super::source::{Raw, RawSource, Source};
use super::{allocators, handover, ours};
use crate::clock::Ticks;
use crate::harness::{Budget, Job, measure};
use crate::histogram::Histogram;
use crate::options::Options;
use crate::report::Sheet;
use crate::stats::Summary;
use std::sync::{Arc, Mutex};
use std::time::Duration;

/// Threads of the latency run.
const THREADS: usize = 32;
const QUANTILES: [f64; 4] = [0.5, 0.99, 0.9999, 1.0];

/// p99.99 of each repeat, for the target.
pub(super) struct Latencies {
    pub(super) ours: Vec<Option<f64>>,
    pub(super) jemalloc: Vec<Option<f64>>,
}

type Make = fn(&PoolCase, &Arc<Mutex<Histogram>>) -> Option<Job>;

/// Contenders by name.
const CONTENDERS: [(&str, Make); 3] = [
    ("two clock readings", |_, into| Some(probe(Raw(handover::Nothing::new()), into))),
    ("default pool", |case, into| ours::default_pool(case).map(|pool| probe(Raw(pool), into))),
    ("jemalloc", |_, into| Some(probe(Raw(allocators::Jemalloc), into))),
];

/// Measures all contenders, alternating.
pub(super) fn run(options: &Options) -> (Latencies, Sheet) {
    let ticks = Ticks::calibrated();
    let case = PoolCase { flow: Flow::SameThread, threads: THREADS, bulk: 1 };
    let window = options.window(Duration::from_millis(200));
    let mut quantiles: [[Vec<Option<f64>>; QUANTILES.len()]; CONTENDERS.len()] = Default::default();
    for repeat in 0..options.repeats(7) {
        for i in 0..CONTENDERS.len() {
            let c = (i + repeat) % CONTENDERS.len();
            let histogram = Arc::new(Mutex::new(Histogram::default()));
            if let Some(job) = CONTENDERS[c].1(&case, &histogram) {
                measure(&job, THREADS, 64, Budget::Time(window));
            }
            let histogram = histogram.lock().expect("the threads have ended");
            for (q, runs) in QUANTILES.iter().zip(&mut quantiles[c]) {
                runs.push(histogram.quantile(*q).map(|t| ticks.to_ns(t)));
            }
        }
    }
    let mut sheet = Sheet::new(
        &format!(
            "latency of pop + write + push, {THREADS} threads, ns between two clock readings \
                (medians of the repeats)"
        ),
        &["p50", "p99", "p99.99", "max", "p99.99 min", "p99.99 max"],
    );
    for ((name, _), runs) in CONTENDERS.iter().zip(&quantiles) {
        let summary = |q: usize| Summary::of(runs[q].iter().copied().flatten());
        let median = |q: usize| summary(q).map(|s| s.median);
        sheet.row(
            name,
            vec![
                median(0),
                median(1),
                median(2),
                median(3),
                summary(2).map(|s| s.min),
                summary(2).map(|s| s.max),
            ],
            "",
        );
    }
    let p9999 = |c: usize| quantiles[c][2].clone();
    (Latencies { ours: p9999(1), jemalloc: p9999(2) }, sheet)
}

/// Times each operation of each thread into `into`.
fn probe<S: RawSource>(source: Raw<S>, into: &Arc<Mutex<Histogram>>) -> Job {
    let into = Arc::clone(into);
    Box::new(move |seat, meter| {
        let mut histogram = Histogram::default();
        meter.run(|ops| {
            for _ in 0..ops {
                let begin = Ticks::now();
                if let Some(mut item) = source.take() {
                    Raw::<S>::write(&mut item, seat.index as u64);
                    source.give(item);
                }
                histogram.add(Ticks::now().wrapping_sub(begin));
            }
        });
        into.lock().expect("nobody panics with the histogram").merge(&histogram);
    })
}
