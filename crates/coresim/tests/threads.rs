//! Threads of the model: the same runs for the same seed, and what `std` promises of threads.

use coresim::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed, Ordering::SeqCst};
use coresim::{Machine, Report, Simulation, hint, thread, time};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

/// A spin lock over a sum, its line and that of the sum.
#[derive(Default)]
#[repr(align(64))]
struct Shared {
    locked: AtomicBool,
    sum: AtomicU64,
}

fn add_under_lock(shared: &Shared) {
    while shared.locked.swap(true, SeqCst) {
        while shared.locked.load(Relaxed) {
            hint::spin_loop();
        }
    }
    // Not atomic together: only the lock makes it right.
    shared.sum.store(shared.sum.load(Relaxed) + 1, Relaxed);
    shared.locked.store(false, SeqCst);
}

/// What a program with preemption, migration and contention leaves.
fn lively(seed: u64) -> (u64, Report) {
    let machine = Machine::ARM64_96.with_cpus(6).with_scheduling(|scheduling| {
        scheduling.time_slice = 5_000_000;
        scheduling.migration_mean = 7_000_000;
    });
    Simulation::new(machine).seed(seed).run(|| {
        let shared = Arc::new(Shared::default());
        let threads: Vec<_> = (0..9)
            .map(|_| {
                let shared = Arc::clone(&shared);
                thread::spawn(move || (0..40).for_each(|_| add_under_lock(&shared)))
            })
            .collect();
        threads.into_iter().for_each(|thread| thread.join().expect("no panic"));
        shared.sum.load(Relaxed)
    })
}

#[test]
fn a_seed_gives_one_run() {
    let (sum, first) = lively(1);
    assert_eq!(sum, 360);
    assert!(first.migrations > 0, "{first:?}");
    assert!(first.switches > 18, "{}", first.switches);
    assert_eq!(lively(1), (360, first.clone()));
    let others: Vec<_> = (2..6).map(lively).collect();
    assert!(others.iter().all(|(sum, _)| *sum == 360));
    assert!(others.iter().any(|(_, report)| report.elapsed != first.elapsed));
}

#[test]
fn migration_happens_as_often_as_stated() {
    let migrations = |mean, cpus: usize| {
        let machine = Machine::EPYC_64.with_cpus(cpus).with_scheduling(|scheduling| {
            scheduling.migration_mean = mean;
        });
        let (_, report) = Simulation::new(machine).run(|| {
            while time::now() < 10_000_000_000 {
                time::work(10_000);
            }
        });
        report.migrations
    };
    assert_eq!(migrations(0, 4), 0);
    assert_eq!(migrations(100_000_000, 1), 0);
    // A hundred are due in 10 ms; each draws its time from a uniform distribution.
    let found = migrations(100_000_000, 4);
    assert!((80..120).contains(&found), "{found}");
}

/// A thread that is moved while it is being moved would never run.
#[test]
fn work_goes_on_whatever_is_due() {
    for (slice, mean) in [(0, 0), (1, 1), (1_000, 1_000), (0, 100_000)] {
        let machine = Machine::EPYC_64.with_cpus(2).with_scheduling(|scheduling| {
            scheduling.time_slice = slice;
            scheduling.migration_mean = mean;
        });
        let (done, _) = Simulation::new(machine).run(|| {
            let work = || (0..100).map(|_| time::work(1_000)).count();
            let threads = [0; 3].map(|_| thread::spawn(work));
            threads.map(|thread| thread.join().expect("no panic"))
        });
        assert_eq!(done, [100; 3]);
    }
}

/// Where every CPU is busy, the two threads change places.
#[test]
fn migration_leaves_no_cpu_idle() {
    let machine = Machine::EPYC_64.with_cpus(2).with_scheduling(|scheduling| {
        scheduling.migration_mean = 100_000_000;
    });
    let (seen, report) = Simulation::new(machine).run(|| {
        let threads = [0, 1].map(|_| {
            thread::spawn(|| {
                let mut seen = [0; 2];
                while time::now() < 10_000_000_000 {
                    time::work(10_000);
                    seen[thread::cpu()] += 1;
                }
                seen
            })
        });
        threads.map(|thread| thread.join().expect("no panic"))
    });
    assert!(report.migrations > 100, "{}", report.migrations);
    for seen in seen {
        assert!(seen.iter().all(|rounds| *rounds > 50_000), "{seen:?}");
        // A million rounds fit; the rest went into switches.
        assert!(seen.iter().sum::<u32>() > 900_000, "{seen:?}");
    }
}

#[test]
fn a_panic_goes_to_who_joins() {
    let (outcome, _) = Simulation::new(Machine::EPYC_2).run(|| {
        let thread = thread::spawn(|| panic!("on purpose"));
        thread.join().expect_err("it panicked").downcast_ref::<&str>().copied()
    });
    assert_eq!(outcome, Some("on purpose"));
}

/// Values on the stacks of threads that never go on are dropped.
#[test]
fn a_panic_of_the_first_thread_ends_the_simulation() {
    let kept = Arc::new(());
    let theirs = Arc::clone(&kept);
    let panic = catch_unwind(AssertUnwindSafe(|| {
        Simulation::new(Machine::EPYC_2).run(move || {
            thread::spawn(move || {
                let _kept = theirs;
                loop {
                    hint::spin_loop();
                }
            });
            time::work(1_000_000_000);
            time::now();
            panic!("on purpose");
        })
    }));
    let message = panic.expect_err("it panicked");
    assert_eq!(message.downcast_ref::<&str>(), Some(&"on purpose"));
    assert_eq!(Arc::strong_count(&kept), 1);
    // And another one can follow.
    assert_eq!(Simulation::new(Machine::EPYC_2).run(|| 7).0, 7);
}

#[test]
#[should_panic(expected = "deadlock: nothing can happen any more: thread 0: Blocked(\"sleeps")]
fn a_deadlock_is_named() {
    Simulation::new(Machine::EPYC_2).run(|| {
        let word = coresim::sync::atomic::AtomicU32::new(0);
        coresim::system::futex_wait(&word, 0, None)
    });
}

#[test]
#[should_panic(expected = "a simulation inside of a simulation")]
fn one_simulation_at_a_time() {
    Simulation::new(Machine::EPYC_2).run(|| Simulation::new(Machine::EPYC_2).run(|| ()));
}

#[test]
fn threads_are_numbered_and_placed() {
    Simulation::new(Machine::EPYC_64.with_cpus(4)).run(|| {
        assert_eq!((thread::index(), thread::cpu(), thread::cpus()), (0, 0, 4));
        let who = || (thread::index(), thread::cpu());
        let found = [(); 3].map(|()| thread::spawn(who));
        let found = found.map(|thread| thread.join().expect("no panic"));
        assert_eq!(found, [(1, 1), (2, 2), (3, 3)]);
        assert_eq!(thread::spawn_on(2, who).join().expect("no panic"), (4, 2));
    });
}
