//! Restartable sequences, and what threads have of their own.

use coresim::rseq::Sequence;
use coresim::sync::atomic::{AtomicU64, Ordering::Relaxed};
use coresim::{Machine, Picoseconds, Simulation, system, thread, time};
use std::ffi::c_void;
use std::sync::Arc;
use std::sync::atomic::AtomicUsize;

/// Eight threads on two CPUs, with slices so short that sequences are preempted.
fn crowded(migration_mean: Picoseconds) -> Simulation {
    let machine = Machine::EPYC_2.with_costs(|costs| costs.context_switch = 1_000);
    Simulation::new(machine.with_scheduling(|scheduling| {
        scheduling.time_slice = 5_000;
        scheduling.migration_mean = migration_mean;
    }))
}

/// What per-CPU counters say after each of eight threads has added a thousand times, and how often
/// an add was begun. `add` is one attempt.
fn adds(migration_mean: u64, add: fn(&Sequence, &AtomicU64) -> bool) -> (u64, usize) {
    #[derive(Default)]
    #[repr(align(64))]
    struct Cell(AtomicU64);
    let (result, _) = crowded(migration_mean).run(move || {
        let shared = Arc::new((<[Cell; 2]>::default(), AtomicUsize::new(0)));
        let count = move |shared: &([Cell; 2], AtomicUsize)| {
            for _ in 0..1_000 {
                loop {
                    shared.1.fetch_add(1, Relaxed);
                    let sequence = Sequence::begin().expect("on the model");
                    if add(&sequence, &shared.0[sequence.cpu()].0) {
                        break;
                    }
                }
            }
        };
        let threads: Vec<_> = (0..8)
            .map(|_| {
                let shared = Arc::clone(&shared);
                thread::spawn(move || count(&shared))
            })
            .collect();
        threads.into_iter().for_each(|thread| thread.join().expect("no panic"));
        (shared.0.iter().map(|cell| cell.0.load(Relaxed)).sum(), shared.1.load(Relaxed))
    });
    result
}

#[test]
fn a_sequence_counts_exactly_under_preemption_and_migration() {
    for migration_mean in [0, 30_000] {
        let load_and_store = |sequence: &Sequence, cell: &AtomicU64| {
            let sum = cell.load(Relaxed) + 1;
            cell.store_within(sum, sequence)
        };
        let (sum, begun) = adds(migration_mean, load_and_store);
        assert_eq!(sum, 8_000);
        assert!(begun > 8_000, "sequences were disturbed");
        let (sum, begun) = adds(migration_mean, |sequence, cell| cell.add_within(1, sequence));
        assert_eq!(sum, 8_000);
        assert!(begun > 8_000, "sequences were disturbed");
    }
}

/// What the sequence is for: the same without it loses adds.
#[test]
fn twin_without_the_sequence() {
    let (sum, _) = adds(0, |_, cell| {
        let sum = cell.load(Relaxed) + 1;
        cell.store(sum, Relaxed);
        true
    });
    assert!(sum < 8_000);
}

#[test]
fn membarrier_aborts_sequences_elsewhere() {
    let (disturbed, _) = Simulation::new(Machine::EPYC_2).run(|| {
        let other = thread::spawn_on(1, || {
            let sequence = Sequence::begin().expect("on the model");
            time::work(10_000_000);
            time::work(10_000_000);
            sequence.is_disturbed()
        });
        time::work(5_000_000);
        system::membarrier_rseq();
        other.join().expect("no panic")
    });
    assert!(disturbed);
}

/// The plain one does not.
#[test]
fn only_the_one_for_sequences_aborts_them() {
    let (disturbed, _) = Simulation::new(Machine::EPYC_2).run(|| {
        let other = thread::spawn_on(1, || {
            let sequence = Sequence::begin().expect("on the model");
            time::work(10_000_000);
            time::work(10_000_000);
            sequence.is_disturbed()
        });
        time::work(5_000_000);
        system::membarrier();
        other.join().expect("no panic")
    });
    assert!(!disturbed);
}

#[test]
fn outside_of_a_simulation_there_are_no_sequences() {
    assert!(Sequence::begin().is_none());
    assert!(!thread::is_simulated());
}

static ENDED: AtomicUsize = AtomicUsize::new(0);

extern "C" fn ended(_: *mut c_void) {
    ENDED.fetch_add(1 + thread::word(3).addr(), std::sync::atomic::Ordering::Relaxed);
}

#[test]
fn each_thread_has_words_and_an_end() {
    let (before_join, _) = Simulation::new(Machine::EPYC_2).run(|| {
        let threads: Vec<_> = (0..2)
            .map(|number| {
                thread::spawn(move || {
                    assert!(thread::word(3).is_null());
                    thread::set_word(3, std::ptr::without_provenance_mut(10 * number));
                    time::work(1_000_000);
                    assert_eq!(thread::word(3).addr(), 10 * number);
                    // Once, however often.
                    thread::at_end(ended);
                    thread::at_end(ended);
                })
            })
            .collect();
        threads.into_iter().for_each(|thread| thread.join().expect("no panic"));
        ENDED.load(std::sync::atomic::Ordering::Relaxed)
    });
    assert_eq!(before_join, 1 + 11);
}
