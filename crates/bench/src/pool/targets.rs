//! What the pools have to reach.

use super::case::{BULK, Flow, PoolCase};
use super::latency::Latencies;
use crate::harness::{Campaign, Role};
use crate::line_transfer::NEAR_BELOW_NS;
use crate::report::{Bound, Target};
use crate::stats::Summary;

const DEFAULT: &str = super::ours::DEFAULT;

/// All targets of the pool benchmark.
pub(super) fn judge(campaign: &Campaign, cases: &[PoolCase], latencies: Latencies) -> Vec<Target> {
    let case = |flow, bulk, threads| {
        cases.iter().position(|c| c.flow == flow && c.bulk == bulk && c.threads == threads)
    };
    let at = |threads: usize| case(Flow::SameThread, 1, threads);
    let ratio = |threads: usize, a: &str, b: &str| campaign.ratio_of(at(threads)?, a, b);
    let scaling = |threads: usize| {
        let ours = campaign.entry(DEFAULT)?;
        campaign.ratio(at(threads)?, ours, at(1)?, ours)
    };
    let mut targets = Vec::new();
    // Below what people use instead, at one thread.
    for bulk in [1, BULK] {
        for ours in [DEFAULT, super::ours::GUARDS] {
            for peer in ["jemalloc", "mimalloc", "lockfree-object-pool"] {
                let measured = case(Flow::SameThread, bulk, 1)
                    .and_then(|case| campaign.ratio_of(case, ours, peer));
                let what = format!("{ours} / {peer}, 64 B, {bulk} at a time, 1 thread");
                targets.push(Target::new(what, Bound::AtMost(1.0), measured));
            }
        }
        let measured = case(Flow::HandedOver, bulk, 2).and_then(|case| {
            let (ours, peer) = (campaign.entry(DEFAULT)?, campaign.best(case, Role::Peer)?);
            campaign.ratio(case, ours, case, peer)
        });
        let what = format!("handed over, {bulk} at a time: {DEFAULT} / best peer, 2 threads");
        targets.push(Target::new(what, Bound::AtMost(0.7), measured));
    }
    targets.extend([
        Target::new(
            "default pool / ArrayQueue, 1 thread",
            Bound::AtMost(0.4),
            ratio(1, DEFAULT, "ArrayQueue"),
        ),
        Target::new("default pool: 2 threads / 1 thread", Bound::AtMost(1.1), scaling(2)),
        Target::new("default pool: 32 threads / 1 thread", Bound::AtMost(1.2), scaling(32)),
        Target::new(
            "CAS LIFO / default pool, 2 threads",
            Bound::AtLeast(40.0),
            ratio(2, super::ours::CAS_LIFO, DEFAULT),
        ),
        Target::new(
            "ArrayQueue / default pool, 2 threads, cores near",
            Bound::AtLeast(6.0),
            array_queue(campaign, at(2), true),
        ),
        Target::new(
            "ArrayQueue / default pool, 2 threads, cores far",
            Bound::AtLeast(40.0),
            array_queue(campaign, at(2), false),
        ),
        Target::new(
            "default pool without rseq / jemalloc, 1 thread",
            Bound::AtMost(1.4),
            ratio(1, super::ours::WITHOUT_RSEQ, "jemalloc"),
        ),
        Target::new(
            "p99.99 latency with 32 threads: default pool / jemalloc",
            Bound::AtMost(1.0),
            Summary::of_ratios(&latencies.ours, &latencies.jemalloc),
        ),
    ]);
    targets
}

/// The repeats in which the cores were near, or those in which they were far, when `ArrayQueue` was
/// measured.
fn array_queue(campaign: &Campaign, case: Option<usize>, near: bool) -> Option<Summary> {
    let case = case?;
    let (queue, ours) = (campaign.entry("ArrayQueue")?, campaign.entry(DEFAULT)?);
    let transfer = &campaign.cells[case][queue].transfer;
    let in_state = |(value, transfer): (Option<f64>, &Option<f64>)| {
        value.filter(|_| transfer.is_some_and(|t| (t < NEAR_BELOW_NS) == near))
    };
    let queue: Vec<Option<f64>> =
        campaign.cpu(case, queue).into_iter().zip(transfer).map(in_state).collect();
    Summary::of_ratios(&queue, &campaign.cpu(case, ours))
}
