//! The calibrations against what was measured.

use coresim::sync::atomic::{AtomicBool, AtomicUsize, Ordering::Acquire};
use coresim::sync::atomic::{Ordering::Relaxed, Ordering::Release};
use coresim::{Machine, Simulation, system, thread, time};
use std::sync::Arc;

/// `bench/results/2026-11-21-vm-refscale.txt`: what clone and drop of an `Arc` cost each CPU, alone
/// (3.95 ns) and where two CPUs do it that are apart (18.6 ns).
#[test]
fn two_cpus_count_references_at_the_measured_speed() {
    let cost = |threads| {
        let count = AtomicUsize::new(1);
        let simulation = Simulation::new(Machine::EPYC_2);
        let run = simulation.throughput(threads, 100_000_000, count, |count, _| {
            count.fetch_add(1, Relaxed);
            count.fetch_sub(1, Release);
        });
        run.nanoseconds()
    };
    for (threads, measured) in [(1, 3.95), (2, 18.6)] {
        let ratio = cost(threads) / measured;
        assert!((0.7..1.3).contains(&ratio), "{ratio} of {measured} ns at {threads}");
    }
}

/// As the harness of the workspace's benchmark measures it (`line_transfer.rs`): a ball that two
/// CPUs store and wait for, half a round.
#[test]
fn a_ball_needs_the_measured_time() {
    const ROUNDS: usize = 1_000;
    for (cluster, measured) in [(1, 165.0), (2, 31.0)] {
        let machine = Machine { cluster, ..Machine::EPYC_2 };
        let (nanoseconds, _) = Simulation::new(machine).run(|| {
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
        let ratio = nanoseconds / measured;
        assert!((0.7..1.3).contains(&ratio), "{nanoseconds} of {measured} ns");
    }
}

/// percpu's documentation: membarrier takes 8 to 9 µs with a running sibling, 0.35 µs alone.
#[test]
fn membarrier_takes_the_measured_time() {
    let (spent, _) = Simulation::new(Machine::EPYC_2).run(|| {
        let cost = || {
            let start = time::now();
            system::membarrier();
            (time::now() - start) as f64 / 1e6
        };
        let alone = cost();
        let stop = Arc::new(AtomicBool::new(false));
        let theirs = Arc::clone(&stop);
        let sibling = thread::spawn_on(1, move || while !theirs.load(Acquire) {});
        time::work(20_000_000);
        let beside = cost();
        stop.store(true, Release);
        sibling.join().expect("no panic");
        [alone, beside]
    });
    assert!((0.1..0.45).contains(&spent[0]), "{spent:?}");
    assert!((7.0..10.0).contains(&spent[1]), "{spent:?}");
}
