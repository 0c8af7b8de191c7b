//! The calibrations against what was measured.

use coresim::sync::atomic::{AtomicBool, Ordering::Acquire, Ordering::Release};
use coresim::{Machine, Simulation, fit, system, thread, time};
use std::sync::Arc;

/// `bench/results/2026-11-21-vm-refscale.txt`: what clone and drop of an `Arc` cost each CPU, alone
/// (3.95 ns) and where two CPUs do it that are apart (18.6 ns).
#[test]
fn two_cpus_count_references_at_the_measured_speed() {
    for (threads, measured) in [(1, 3.95), (2, 18.6)] {
        let ratio = fit::count(&Machine::EPYC_2, threads) / measured;
        assert!((0.7..1.3).contains(&ratio), "{ratio} of {measured} ns at {threads}");
    }
}

/// As the harness of the workspace's benchmark measures it (`line_transfer.rs`): a ball that two
/// CPUs store and wait for, half a round.
#[test]
fn a_ball_needs_the_measured_time() {
    let (near, far) = (Machine { cluster: 2, ..Machine::EPYC_2 }, Machine::EPYC_2);
    for (machine, measured) in [(far, 165.0), (near, 31.0), (Machine::XEON_2, 77.0)] {
        let ratio = fit::pass(&machine) / measured;
        assert!((0.7..1.3).contains(&ratio), "{ratio} of {measured} ns on {}", machine.name);
    }
    let xeons = Machine::XEON_48;
    for (socket, measured) in [(24, 47.0), (1, 132.0)] {
        let machine = Machine { cluster: 1, socket, ..xeons.clone() }.with_cpus(2);
        let ratio = fit::pass(&machine) / measured;
        assert!((0.7..1.3).contains(&ratio), "{ratio} of {measured} ns, sockets of {socket}");
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
