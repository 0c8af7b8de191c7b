//! From what was measured of a machine to what a transfer costs on the model of it.
//!
//! Two things are fitted, each to one measurement. What comes out of other code on that machine is
//! then predicted.

use crate::sync::atomic::AtomicUsize;
use crate::sync::atomic::Ordering::{Acquire, Relaxed, Release};
use crate::{Machine, Simulation, thread, time};
use std::sync::Arc;

/// Rounds of the ball, in which the first ones do not show.
const ROUNDS: usize = 1_000;
/// Long enough for a line to have gone between two CPUs some hundred times.
const SPAN: u64 = 100_000_000;

/// The machine with transfers so that a ball, which two CPUs store and wait for, needs so many
/// nanoseconds for each pass.
pub fn passed(machine: Machine, nanoseconds: f64) -> Machine {
    let with = |transfer: u64| {
        machine.clone().with_costs(|costs| {
            (costs.near, costs.far, costs.socket) = (transfer, transfer, transfer);
            // Longer than any transfer, as on the others.
            costs.patience = 2 * transfer;
        })
    };
    // A pass is one read and one write, in proportion to the transfer but for what a CPU pays
    // itself, and for the moment at which a look comes.
    let mut transfer = (nanoseconds * 1e3) as u64;
    let mut best = (f64::INFINITY, transfer);
    for _ in 0..8 {
        let ratio = nanoseconds / pass(&with(transfer));
        let off = ratio.max(1.0 / ratio);
        if off < best.0 {
            best = (off, transfer);
        }
        transfer = ((transfer as f64 * ratio) as u64).max(1);
    }
    with(best.1)
}

/// The machine with the request's part of a transfer so that two CPUs that add one to a word and
/// take it off again need so many nanoseconds each for both; as nearly as that can be.
pub fn counted(machine: Machine, nanoseconds: f64) -> Machine {
    let with = |percent| machine.clone().with_costs(|costs| costs.request_percent = percent);
    let off = |percent: &u64| (count(&with(*percent), 2) - nanoseconds).abs();
    let percents = (0..=95).step_by(5);
    let best = percents.min_by(|a, b| off(a).total_cmp(&off(b))).expect("there are some");
    with(best)
}

/// What a ball needs for one pass, in nanoseconds.
pub fn pass(machine: &Machine) -> f64 {
    let (nanoseconds, _) = Simulation::new(machine.clone()).run(|| {
        let ball = Arc::new(AtomicUsize::new(0));
        let theirs = Arc::clone(&ball);
        let play = |ball: &AtomicUsize, first: usize| {
            let start = time::now();
            for round in 0..ROUNDS {
                while ball.load(Acquire) != 2 * round + first {}
                ball.store(2 * round + first + 1, Release);
            }
            (time::now() - start) as f64 / 1e3
        };
        let other = thread::spawn_on(1, move || play(&theirs, 1));
        let spent = play(&ball, 0);
        other.join().expect("no panic");
        spent / (2 * ROUNDS) as f64
    });
    nanoseconds
}

/// What each of so many CPUs needs to add one to a word and take it off again, in nanoseconds.
pub fn count(machine: &Machine, threads: usize) -> f64 {
    let run = Simulation::new(machine.clone()).throughput(
        threads,
        SPAN,
        AtomicUsize::new(1),
        |count, _| {
            count.fetch_add(1, Relaxed);
            count.fetch_sub(1, Release);
        },
    );
    run.nanoseconds()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What was fitted comes out.
    #[test]
    fn what_was_measured_comes_out() {
        for nanoseconds in [31.0, 77.0, 165.0] {
            let off = pass(&passed(Machine::XEON_2, nanoseconds)) / nanoseconds;
            assert!((0.8..1.2).contains(&off), "{off} of {nanoseconds} ns");
        }
        let machine = counted(passed(Machine::EPYC_2, 165.0), 18.6);
        let off = count(&machine, 2) / 18.6;
        assert!((0.8..1.2).contains(&off), "{off} of 18.6 ns");
    }
}
