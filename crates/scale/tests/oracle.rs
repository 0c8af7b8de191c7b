//! The primitives do on the model what they do elsewhere: also where threads are preempted and
//! migrate in the middle of their sequences.
#![allow(unsafe_code)]

use coresim::{Machine, Report, Simulation, thread};
use objpool::{Builder, FreeList, RawPool, RseqLifo};
use percpu::{Counter, Mutex};
use reclaim::hazptr::Shared;
use reclaim::rcu;
use std::alloc::Layout;
use std::ptr::NonNull;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering::SeqCst};

const THREADS: usize = 8;

/// The crates' statics are one for all simulations, whose threads are not each other's.
static ONE_AT_A_TIME: std::sync::Mutex<()> = std::sync::Mutex::new(());

/// Eight threads on three CPUs, with slices of a few operations.
fn crowded(seed: u64, body: impl Fn(usize) + Send + Sync + 'static) -> Report {
    let _alone = ONE_AT_A_TIME.lock();
    let machine = Machine::EPYC_64.with_cpus(3).with_costs(|costs| costs.context_switch = 5_000);
    let simulation = Simulation::new(machine.with_scheduling(|scheduling| {
        scheduling.time_slice = 20_000;
        scheduling.migration_mean = 100_000;
    }));
    let ((), report) = simulation.seed(seed).run(move || {
        let body = Arc::new(body);
        let start = |number| {
            let body = Arc::clone(&body);
            thread::spawn(move || body(number))
        };
        let threads: Vec<_> = (0..THREADS).map(start).collect();
        threads.into_iter().for_each(|thread| thread.join().expect("no panic"));
    });
    assert!(report.switches > 1_000 && report.migrations > 100, "{}", report.switches);
    report
}

/// A pool in which every object knows whether it is out.
struct Watched<L: FreeList> {
    pool: RawPool<L>,
    out: Vec<AtomicBool>,
    base: usize,
}

const CAPACITY: usize = 12;
const OBJECT: usize = 64;

impl<L: FreeList> Watched<L> {
    fn new() -> Self {
        let layout = Layout::from_size_align(OBJECT, 64).expect("a valid layout");
        let pool = Builder::new(CAPACITY, layout).build::<L>().expect("memory");
        let all: Vec<_> = std::iter::from_fn(|| pool.pop()).collect();
        assert_eq!(all.len(), CAPACITY);
        let base = all.iter().map(|object| object.addr().get()).min().expect("some");
        for object in all {
            // SAFETY: popped above, and not used.
            unsafe { pool.push(object) }.expect("an object of this pool");
        }
        Self { pool, out: (0..CAPACITY).map(|_| AtomicBool::new(false)).collect(), base }
    }

    fn place(&self, object: NonNull<u8>) -> &AtomicBool {
        &self.out[(object.addr().get() - self.base) / OBJECT]
    }

    fn take(&self) -> Option<NonNull<u8>> {
        let object = self.pool.pop()?;
        assert!(!self.place(object).swap(true, SeqCst), "it was given to two");
        Some(object)
    }

    fn give(&self, object: NonNull<u8>) {
        assert!(self.place(object).swap(false, SeqCst));
        // SAFETY: popped by `take`, and not used any more.
        unsafe { self.pool.push(object) }.expect("an object of this pool");
    }
}

fn no_object_has_two_owners<L: FreeList>() {
    for seed in 0..3 {
        let misses = Arc::new(AtomicUsize::new(0));
        let theirs = Arc::clone(&misses);
        // As large as objpool lets it: made by the first thread, on the machine.
        let pool: percpu::OnceLock<Watched<L>> = percpu::OnceLock::new();
        crowded(seed, move |number| {
            let pool = pool.get_or_init(Watched::new);
            for round in 0..300 {
                // Up to three each: 24 of 12, so that they are sought on other CPUs.
                let held: Vec<_> =
                    (0..1 + (number + round) % 3).filter_map(|_| pool.take()).collect();
                theirs.fetch_add(usize::from(held.is_empty()), SeqCst);
                held.into_iter().for_each(|object| pool.give(object));
            }
            if number == 0 {
                let statistics = pool.pool.statistics();
                assert!(statistics.hits > 0);
            }
        });
        assert!(misses.load(SeqCst) < THREADS * 300 / 2, "most find something");
    }
}

#[test]
fn no_object_of_the_default_pool_has_two_owners() {
    no_object_has_two_owners::<RseqLifo>();
}

#[test]
fn no_object_of_a_cas_list_has_two_owners() {
    no_object_has_two_owners::<objpool::CasLifo>();
}

#[test]
fn a_counter_is_exact() {
    let counter: Arc<percpu::OnceLock<Counter>> = Arc::default();
    let theirs = Arc::clone(&counter);
    let sum = Arc::new(AtomicU64::new(0));
    let all = Arc::clone(&sum);
    let ended = AtomicUsize::new(0);
    crowded(1, move |_| {
        let counter = theirs.get_or_init(Counter::new);
        (0..2_000).for_each(|_| counter.add(1));
        if ended.fetch_add(1, SeqCst) + 1 == THREADS {
            all.store(counter.sum(), SeqCst);
        }
    });
    assert_eq!(sum.load(SeqCst), 2_000 * THREADS as u64);
}

#[test]
fn a_lock_has_one_holder() {
    let lock: Arc<Mutex<u64>> = Arc::default();
    let theirs = Arc::clone(&lock);
    crowded(2, move |_| (0..1_000).for_each(|_| *theirs.lock() += 1));
    assert_eq!(*lock.lock(), 1_000 * THREADS as u64);
}

/// An object that is told when it is gone.
struct Told {
    alive: AtomicBool,
    dropped: Arc<AtomicUsize>,
}

impl Told {
    fn new(dropped: &Arc<AtomicUsize>) -> Self {
        Self { alive: AtomicBool::new(true), dropped: Arc::clone(dropped) }
    }
}

impl Drop for Told {
    fn drop(&mut self) {
        assert!(self.alive.swap(false, SeqCst));
        self.dropped.fetch_add(1, SeqCst);
    }
}

#[test]
fn readers_see_no_object_that_is_gone() {
    let dropped = Arc::new(AtomicUsize::new(0));
    // It has to go where it was: on the machine, with the last thread.
    let (theirs, tally) = (Shared::new(Told::new(&dropped)), Arc::clone(&dropped));
    crowded(3, move |number| {
        for _ in 0..400 {
            if number == 0 {
                theirs.store(Told::new(&tally));
            } else {
                let mut holder = reclaim::hazptr::HazardPointer::new();
                let seen = theirs.load(&mut holder).expect("never empty");
                assert!(seen.alive.load(SeqCst));
                thread::yield_now();
                assert!(seen.alive.load(SeqCst), "it is gone while it is protected");
            }
        }
        if number == 0 {
            reclaim::hazptr::Domain::global().barrier();
            assert!(tally.load(SeqCst) > 300, "what nobody protects goes");
        }
    });
    assert!(dropped.load(SeqCst) <= 401, "each is dropped once");
}

#[test]
fn a_grace_period_waits_for_sections() {
    // Odd: the reader is inside of a section, each time with another number.
    let sections: Arc<[AtomicUsize; THREADS]> = Arc::default();
    let waited = Arc::new(AtomicUsize::new(0));
    let (theirs, periods) = (Arc::clone(&sections), Arc::clone(&waited));
    crowded(4, move |number| {
        if number > 0 {
            for _ in 0..300 {
                let section = rcu::read_lock();
                theirs[number].fetch_add(1, SeqCst);
                thread::yield_now();
                theirs[number].fetch_add(1, SeqCst);
                drop(section);
            }
            return;
        }
        for _ in 0..20 {
            let seen = || theirs.iter().map(|section| section.load(SeqCst));
            let before: Vec<usize> = seen().collect();
            rcu::synchronize();
            for (before, after) in before.iter().zip(seen()).filter(|(before, _)| *before % 2 == 1)
            {
                assert_ne!(*before, after, "the section is still open");
                periods.fetch_add(1, SeqCst);
            }
        }
    });
    assert!(waited.load(SeqCst) > 0, "some sections were open");
}
