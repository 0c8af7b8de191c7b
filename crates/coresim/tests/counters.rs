//! What everybody knows about counters on many CPUs, the model has to know.

use coresim::sync::atomic::{AtomicU64, Ordering::Relaxed};
use coresim::{Machine, Simulation, Throughput};

const SPAN: u64 = 20_000_000;

/// A line for each counter.
#[derive(Default)]
#[repr(align(64))]
struct Padded(AtomicU64);

/// Counters of one line.
#[derive(Default)]
#[repr(align(64))]
struct Line([AtomicU64; 8]);

fn machine() -> Machine {
    Machine::EPYC_64.with_cpus(128)
}

fn contended(machine: &Machine, threads: usize) -> Throughput {
    let simulation = Simulation::new(machine.clone());
    simulation.throughput(threads, SPAN, Padded::default(), |counter, _| {
        counter.0.fetch_add(1, Relaxed);
    })
}

fn sharded(machine: &Machine, threads: usize) -> Throughput {
    let shards: Vec<Padded> = (0..threads).map(|_| Padded::default()).collect();
    Simulation::new(machine.clone()).throughput(threads, SPAN, shards, |shards, thread| {
        shards[thread].0.fetch_add(1, Relaxed);
    })
}

#[test]
fn a_contended_counter_collapses() {
    let alone = contended(&machine(), 1).per_second();
    let mut before = alone;
    for threads in [2, 16, 128] {
        let together = contended(&machine(), threads).per_second();
        assert!(together < before * 1.05, "{threads} threads: {together:.0} of {before:.0}");
        before = together;
    }
    assert!(before * 4.0 < alone, "{before:.0} of {alone:.0} adds a second");
}

#[test]
fn the_report_names_line_and_operation() {
    let run = contended(&machine(), 16);
    let line = run.report.bottleneck().expect("a contended line");
    assert_eq!(line.name, "shared");
    assert_eq!(line.sites[0].operation, "fetch_add");
    assert!(line.sites[0].place.contains("counters.rs:"), "{}", line.sites[0].place);
    // Fifteen of sixteen CPUs wait at any time.
    let time = SPAN / 4 * 5 * 16;
    assert!(line.counts.waited > time / 2, "{} of {time}", line.counts.waited);
    assert!(line.counts.transfers <= line.counts.accesses);
}

#[test]
fn a_sharded_counter_scales() {
    let alone = sharded(&machine(), 1);
    for threads in [2, 16, 128] {
        let together = sharded(&machine(), threads);
        let ratio = together.per_second() / alone.per_second() / threads as f64;
        assert!((0.99..1.01).contains(&ratio), "{ratio} at {threads}");
        // Each line came from memory before anything counted, and stayed.
        assert_eq!(together.report.bottleneck(), None);
    }
}

/// Two counters on one line are as slow as one that is shared; beside each other on two lines, as
/// fast as one alone.
#[test]
fn false_sharing_is_sharing() {
    let machine = machine();
    let both = |apart: usize| {
        let lines = [Line::default(), Line::default()];
        Simulation::new(machine.clone()).throughput(2, SPAN, lines, move |lines, thread| {
            let number = thread * apart;
            lines[number / 8].0[number % 8].fetch_add(1, Relaxed);
        })
    };
    let [same, neighbours, edge, apart] = [0, 1, 7, 8].map(|apart| both(apart).per_second());
    assert_eq!(same, contended(&machine, 2).per_second());
    assert_eq!(neighbours, same);
    assert_eq!(edge, same);
    assert!(apart > 1.9 * contended(&machine, 1).per_second());
}

/// More threads than CPUs share them: as much is done as without.
#[test]
fn threads_beyond_cpus_add_nothing() {
    let machine = Machine::EPYC_64.with_cpus(4).with_scheduling(|scheduling| {
        scheduling.time_slice = 1_000_000;
    });
    let [some, many] = [4, 16].map(|threads| sharded(&machine, threads));
    // A slice of 1 µs, and 1.5 µs for each switch.
    let ratio = many.per_second() / some.per_second();
    assert!((0.35..0.45).contains(&ratio), "{ratio}");
    assert!(many.report.switches > 4 * SPAN / 2_500_000);
}
