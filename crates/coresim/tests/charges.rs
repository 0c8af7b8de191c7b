//! What operations cost, in cases that can be computed by hand.

use coresim::cell::{self, UnsafeCell};
use coresim::sync::atomic::Ordering::{Acquire, Relaxed, SeqCst};
use coresim::sync::atomic::{AtomicBool, AtomicPtr, AtomicU32, AtomicU64, Ordering, fence};
use coresim::{Machine, Picoseconds, Simulation, hint, system, thread, time};
use std::sync::Arc;
use std::time::Duration;

/// Two sockets of two clusters of two CPUs. Every cost is a digit, so a sum shows what it is of.
fn machine() -> Machine {
    Machine { cluster: 2, socket: 4, ..Machine::EPYC_64 }
        .with_cpus(8)
        .with_costs(|costs| {
            costs.hit = 1;
            costs.locked = 20;
            costs.store_seq_cst = 300;
            costs.memory = 4_000;
            costs.near = 50_000;
            costs.far = 600_000;
            costs.socket = 7_000_000;
            costs.hold = 90;
            costs.patience = 0;
            costs.jitter_percent = 0;
            costs.request_percent = 0;
            costs.invalidate = 5;
            costs.read_occupancy = 40;
            costs.fence = 10_000_000;
            costs.fence_weak = 20_000_000;
            costs.pause = 30_000_000;
            costs.system_call = 40_000_000;
            costs.interrupt = 100_000_000;
            costs.context_switch = 0;
        })
        .with_scheduling(|scheduling| scheduling.start_spread = 0)
}

fn run<R: 'static>(main: impl FnOnce() -> R + 'static) -> R {
    Simulation::new(machine()).run(main).0
}

/// How long `f` takes.
fn cost(f: impl FnOnce()) -> Picoseconds {
    let start = time::now();
    f();
    time::now() - start
}

/// A value on a line of its own.
#[derive(Default)]
#[repr(align(64))]
struct Line<T>(T);

/// On this CPU, after everything that was started before.
fn on<R: Send + 'static>(cpu: usize, f: impl FnOnce() -> R + Send + 'static) -> R {
    thread::spawn_on(cpu, f).join().expect("no panic")
}

#[test]
fn one_cpu_pays_for_the_first_touch_and_then_for_hits() {
    run(|| {
        let value = Line::<AtomicU64>::default();
        assert_eq!(cost(|| assert_eq!(value.0.load(Relaxed), 0)), 4_001);
        assert_eq!(cost(|| value.0.store(5, Relaxed)), 1);
        assert_eq!(cost(|| value.0.store(6, SeqCst)), 300);
        assert_eq!(cost(|| assert_eq!(value.0.fetch_add(1, Relaxed), 6)), 20);
        assert_eq!(cost(|| assert_eq!(value.0.swap(9, Relaxed), 7)), 20);
        assert_eq!(cost(|| assert!(value.0.compare_exchange(0, 1, SeqCst, SeqCst).is_err())), 20);
        // A load and an exchange.
        let double = |old: u64| Some(2 * old);
        assert_eq!(cost(|| assert_eq!(value.0.fetch_update(SeqCst, SeqCst, double), Ok(9))), 21);
        assert_eq!(value.0.into_inner(), 18);
    });
}

#[test]
fn other_types_cost_the_same() {
    run(|| {
        let flag = Line::<AtomicBool>::default();
        assert_eq!(cost(|| assert!(!flag.0.fetch_not(SeqCst))), 4_020);
        assert_eq!(cost(|| assert!(flag.0.load(SeqCst))), 1);
        let pointer = Line(AtomicPtr::<u8>::default());
        assert_eq!(cost(|| assert!(pointer.0.load(Acquire).is_null())), 4_001);
        assert_eq!(cost(|| assert!(pointer.0.swap(&raw mut *Box::new(1), SeqCst).is_null())), 20);
    });
}

#[test]
fn fences_spins_system_calls_and_work() {
    run(|| {
        assert_eq!(cost(|| fence(SeqCst)), 10_000_000);
        assert_eq!(cost(|| fence(Ordering::Release)), 20_000_000);
        assert_eq!(cost(hint::spin_loop), 30_000_000);
        assert_eq!(cost(system::call), 40_000_000);
        assert_eq!(cost(thread::yield_now), 40_000_000);
        assert_eq!(cost(|| time::work(17)), 17);
        assert_eq!(cost(|| thread::sleep(Duration::from_nanos(60_000))), 100_000_000);
    });
}

#[test]
fn a_transfer_jitters_by_the_seed() {
    let spent = |seed| {
        let machine = machine().with_costs(|costs| costs.jitter_percent = 20);
        let ((spent, ()), _) = Simulation::new(machine).seed(seed).run(|| {
            let value = Arc::new(Line::<AtomicU64>::default());
            value.0.store(1, Relaxed);
            let theirs = Arc::clone(&value);
            (on(1, move || cost(|| _ = theirs.0.load(Relaxed))), ())
        });
        spent
    };
    let spans: Vec<_> = (0..50).map(spent).collect();
    assert!(spans.iter().all(|span| (40_001..60_001).contains(span)), "{spans:?}");
    let mean = spans.iter().sum::<u64>() / 50;
    assert!((48_000..52_000).contains(&mean), "{mean}");
    assert_ne!(spans[0], spans[1]);
    assert_eq!(spans[7], spent(7));
}

#[test]
fn a_transfer_costs_by_distance() {
    for (cpu, transfer) in [(1, 50_000), (2, 600_000), (3, 600_000), (4, 7_000_000)] {
        run(move || {
            let value = Arc::new(Line::<AtomicU64>::default());
            value.0.store(1, Relaxed);
            let theirs = Arc::clone(&value);
            // It is in CPU 0, which keeps a copy when another reads.
            let spent = on(cpu, move || {
                [cost(|| _ = theirs.0.load(Relaxed)), cost(|| _ = theirs.0.load(Relaxed))]
            });
            assert_eq!(spent, [transfer + 1, 1], "CPU {cpu}");
            assert_eq!(cost(|| _ = value.0.load(Relaxed)), 1);
            // And which has to take the copy away before it writes.
            assert_eq!(cost(|| value.0.store(2, Relaxed)), transfer + 1);
        });
    }
}

#[test]
fn a_write_waits_for_the_farthest_and_pays_for_each_copy() {
    run(|| {
        let value = Arc::new(Line::<AtomicU64>::default());
        value.0.store(1, Relaxed);
        for cpu in [1, 2, 3, 5] {
            let theirs = Arc::clone(&value);
            on(cpu, move || theirs.0.load(Relaxed));
        }
        // The copies of 1, 2, 3 and 5; its own counts for nothing.
        assert_eq!(cost(|| _ = value.0.fetch_add(1, Relaxed)), 7_000_000 + 3 * 5 + 20);
    });
}

/// Both want the line at the same time. The first gets it from memory and keeps it for the hold
/// time; the second gets it then.
#[test]
fn who_comes_second_waits_until_the_line_is_given_away() {
    let (spent, report) = Simulation::new(machine()).run(|| {
        let value = Arc::new(Line::<AtomicU64>::default());
        coresim::name(&value.0, "value");
        let both = [2, 3].map(|cpu| {
            let value = Arc::clone(&value);
            thread::spawn_on(cpu, move || {
                // Long after both have started.
                time::work(1_000_000_000 - time::now());
                cost(|| _ = value.0.fetch_add(1, Relaxed))
            })
        });
        both.map(|thread| thread.join().expect("no panic"))
    });
    assert_eq!(spent, [4_000 + 20, 4_000 + 90 + 50_000 + 20]);
    let counts = report.line("value").expect("it has this name").counts;
    assert_eq!((counts.accesses, counts.transfers), (2, 2));
    assert_eq!((counts.waited, counts.moved), (4_000 + 90, 4_000 + 50_000));
}

#[test]
fn requests_under_way_leave_the_line_where_it_is() {
    let machine = machine().with_costs(|costs| costs.request_percent = 50);
    let (spent, _) = Simulation::new(machine).run(|| {
        let value = Arc::new(Line::<AtomicU64>::default());
        value.0.store(1, Relaxed);
        let theirs = Arc::clone(&value);
        let thread = thread::spawn_on(1, move || {
            time::work(1_000_000_000 - time::now());
            cost(|| _ = theirs.0.load(Relaxed))
        });
        // The request leaves CPU 1 now, and arrives here after half of the 50,000.
        time::work(1_000_000_000 - time::now());
        let rounds = (0..10).map(|_| {
            time::work(4_990);
            cost(|| value.0.store(2, Relaxed))
        });
        let rounds: Vec<_> = rounds.collect();
        (rounds, thread.join().expect("no panic"))
    });
    assert_eq!(spent.1, 50_001);
    // 4,991 each: the fifth begins at 24,954, the sixth at 29,945. That one takes the line back.
    assert!(spent.0[..5].iter().all(|round| *round == 1), "{:?}", spent.0);
    assert!(spent.0[5] >= 50_001, "{:?}", spent.0);
}

#[test]
fn plain_data_is_charged_line_by_line() {
    run(|| {
        let bytes = Line([0u8; 130]);
        assert_eq!(cost(|| cell::read(&bytes.0)), 3 * 4_001);
        assert_eq!(cost(|| cell::write(&bytes.0[1..64])), 1);
        assert_eq!(cost(|| cell::write(&bytes.0[63..65])), 2);
        let cell = Line(UnsafeCell::new(7u32));
        assert_eq!(cost(|| cell.0.with(|_| ())), 4_001);
        assert_eq!(cost(|| cell.0.with_mut(|_| ())), 1);
        assert_eq!(cell.0.into_inner(), 7);
    });
}

#[test]
fn membarrier_interrupts_who_runs() {
    run(|| {
        let stop = Arc::new(Line::<AtomicBool>::default());
        let busy = [3, 6].map(|cpu| {
            let stop = Arc::clone(&stop);
            thread::spawn_on(cpu, move || {
                let (mut longest, mut stopped) = (0, stop.0.load(Relaxed));
                while !stopped {
                    longest = longest.max(cost(|| {
                        hint::spin_loop();
                        stopped = stop.0.load(Relaxed);
                    }));
                }
                longest
            })
        });
        time::work(500_000_000);
        // The first thread and two others run.
        assert_eq!(cost(system::membarrier), 40_000_000 + 2 * 100_000_000);
        stop.0.store(true, Relaxed);
        for thread in busy {
            // One round, and the interrupt.
            assert_eq!(thread.join().expect("no panic"), 30_000_000 + 1 + 100_000_000);
        }
    });
}

#[test]
fn futexes_sleep_and_wake() {
    run(|| {
        let word = Arc::new(Line::<AtomicU32>::default());
        // Somebody has changed it already.
        assert!(system::futex_wait(&word.0, 1, None));
        // Nobody wakes it.
        let nap = cost(|| {
            assert!(!system::futex_wait(&word.0, 0, Some(Duration::from_micros(100))));
        });
        assert_eq!(nap, 40_000_000 + 1 + 100_000_000);
        let sleepers = [1, 2, 3].map(|cpu| {
            let word = Arc::clone(&word);
            thread::spawn_on(cpu, move || {
                let slept = system::futex_wait(&word.0, 0, Some(Duration::from_secs(1)));
                (slept, time::now())
            })
        });
        thread::sleep(Duration::from_millis(1));
        let woken_at = time::now();
        word.0.fetch_add(1, Relaxed);
        assert_eq!(system::futex_wake(&word.0, 1), 1);
        assert_eq!(system::futex_wake(&word.0, usize::MAX), 2);
        assert_eq!(system::futex_wake(&word.0, usize::MAX), 0);
        for sleeper in sleepers {
            let (slept, at) = sleeper.join().expect("no panic");
            assert!(slept && at > woken_at, "{slept}, {at}");
        }
    });
}

/// Outside of a simulation the types are those of `std`.
#[test]
fn outside_nothing_is_charged() {
    let value = AtomicU64::new(3);
    assert_eq!(value.fetch_max(7, SeqCst), 3);
    assert_eq!(value.load(SeqCst), 7);
    fence(SeqCst);
    hint::spin_loop();
    system::membarrier();
    assert_eq!((time::now(), thread::index(), thread::cpus()), (0, 0, 1));
}
