//! The ten cases of the kernel's own pool test (`lib/test_objpool.c`): {sync, sync + timer, overrun
//! in bulk, async with delayed release, async + timer in bulk} x {280, 512 bytes}, for every free
//! list, with an ownership oracle. The timer is a signal to each worker, whose handler pops and
//! pushes over whatever it interrupts.
#![cfg(not(loom))]

mod common;
mod interrupts;

use common::{ALL, Kind, Owned, check_full, give, take};
use interrupts::{Interrupts, operation};
use objpool::Pool;
use std::ffi::c_int;
use std::ptr;
use std::sync::atomic::{AtomicPtr, AtomicU64, Ordering};
use std::sync::{Mutex, mpsc};
use std::thread;
use std::time::{Duration, Instant};

/// One row of the kernel's table.
struct Case {
    name: &'static str,
    /// Release on another thread, a while later.
    asynchronous: bool,
    /// Objects per round of a worker.
    bulk: usize,
    /// Objects per signal.
    in_handler: usize,
    object_size: usize,
}

const fn case(
    name: &'static str,
    asynchronous: bool,
    bulk: usize,
    in_handler: usize,
    object_size: usize,
) -> Case {
    Case { name, asynchronous, bulk, in_handler, object_size }
}

const CASES: [Case; 10] = [
    case("sync, 280", false, 1, 0, 280),
    case("sync, 512", false, 1, 0, 512),
    case("sync + timer, 280", false, 1, 1, 280),
    case("sync + timer, 512", false, 1, 1, 512),
    case("overrun, 280", false, 16, 0, 280),
    case("overrun, 512", false, 16, 0, 512),
    case("async, 280", true, 1, 0, 280),
    case("async, 512", true, 1, 0, 512),
    case("async + timer, 280", true, 4, 4, 280),
    case("async + timer, 512", true, 4, 4, 512),
];

const RUN: Duration = Duration::from_millis(120);
/// The kernel's timers come every few milliseconds; a case is too short for that.
const EVERY: Duration = Duration::from_micros(200);
const HANDLER: u64 = u64::MAX - 1;

/// What is interrupted.
const POP: usize = 0;
const PUSH: usize = 1;

/// What the handler works on. A fat pointer does not fit into an atomic, hence one more level.
static POOL: AtomicPtr<&'static dyn Pool> = AtomicPtr::new(ptr::null_mut());
static IN_HANDLER: AtomicU64 = AtomicU64::new(0);
static HITS: AtomicU64 = AtomicU64::new(0);
static MISSES: AtomicU64 = AtomicU64::new(0);

extern "C" fn on_signal(_signal: c_int) {
    // SAFETY: `prepare` stored a leaked reference before the first timer was started.
    let pool = unsafe { *POOL.load(Ordering::Acquire) };
    let mut mine: [Option<Owned>; 4] = [const { None }; 4];
    for place in mine.iter_mut().take(IN_HANDLER.load(Ordering::Relaxed) as usize) {
        *place = take(pool, HANDLER);
        let counter = if place.is_some() { &HITS } else { &MISSES };
        counter.fetch_add(1, Ordering::Relaxed);
    }
    mine.into_iter().flatten().for_each(|owned| give(pool, owned));
    interrupts::handled();
}

/// From now on handlers take so many objects of this pool at a time.
fn prepare(pool: &'static dyn Pool, in_handler: usize) {
    IN_HANDLER.store(in_handler as u64, Ordering::Relaxed);
    [&HITS, &MISSES].iter().for_each(|counter| counter.store(0, Ordering::Relaxed));
    POOL.store(Box::into_raw(Box::new(pool)), Ordering::Release);
    interrupts::install(libc::SIGUSR1, on_signal);
}

/// Calls `round` until `end`, and for the cases with handlers: over and over, until they have
/// interrupted each of the first `N` operations.
fn work<const N: usize>(case: &Case, end: Instant, mut round: impl FnMut()) {
    let timer = (case.in_handler != 0).then(|| Interrupts::start(libc::SIGUSR1, EVERY));
    loop {
        round();
        let more = Instant::now() < end;
        if !timer.as_ref().map_or(more, |timer| timer.short_of::<N>(1, more)) {
            break;
        }
    }
}

fn run(case: &Case, kind: Kind) {
    let cpus = thread::available_parallelism().map_or(2, usize::from);
    let pool: &'static dyn Pool = Box::leak(kind.pool(8 * cpus, case.object_size));
    prepare(pool, case.in_handler);
    let (hits, misses) = (AtomicU64::new(0), AtomicU64::new(0));
    let end = Instant::now() + RUN;
    thread::scope(|s| {
        let (to, from) = mpsc::channel::<Vec<Owned>>();
        // One worker per CPU, as the kernel binds them, and one more that competes for time.
        for who in 1..=cpus as u64 + 1 {
            let (to, hits, misses) = (to.clone(), &hits, &misses);
            s.spawn(move || {
                let round = || {
                    let mut mine: Vec<Owned> = Vec::with_capacity(case.bulk);
                    for _ in 0..case.bulk {
                        match operation(POP, || take(pool, who)) {
                            Some(owned) => mine.push(owned),
                            None => {
                                misses.fetch_add(1, Ordering::Relaxed);
                            }
                        }
                    }
                    hits.fetch_add(mine.len() as u64, Ordering::Relaxed);
                    if case.asynchronous {
                        // Of empty ones there could be any number waiting at the end.
                        if !mine.is_empty() {
                            to.send(mine).expect("the other side lives");
                        }
                    } else {
                        mine.into_iter().for_each(|owned| operation(PUSH, || give(pool, owned)));
                    }
                };
                if case.asynchronous {
                    work::<1>(case, end, round);
                } else {
                    work::<2>(case, end, round);
                }
            });
        }
        drop(to);
        s.spawn(move || {
            let timer = (case.in_handler != 0).then(|| Interrupts::start(libc::SIGUSR1, EVERY));
            for batch in from {
                // The delay: the kernel releases from a work queue.
                thread::yield_now();
                batch.into_iter().for_each(|owned| operation(PUSH, || give(pool, owned)));
            }
            drop(timer);
        });
    });
    let s = pool.statistics();
    assert_eq!(s.hits, hits.into_inner() + HITS.load(Ordering::Relaxed), "{} {kind:?}", case.name);
    assert_eq!(
        s.misses,
        misses.into_inner() + MISSES.load(Ordering::Relaxed),
        "{} {kind:?}",
        case.name
    );
    check_full(pool);
}

/// Signal, counters and pool pointer belong to the process: one test at a time.
static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());

#[test]
fn ten_cases() {
    let _one = ONE_AT_A_TIME.lock();
    for case in &CASES {
        for kind in ALL {
            println!("{}: {kind:?}", case.name);
            run(case, kind);
        }
    }
}

/// Threads that are in pop and push nearly all the time, few objects, and many signals.
#[test]
fn signals_inside_pop_and_push() {
    let _one = ONE_AT_A_TIME.lock();
    for kind in ALL {
        let pool: &'static dyn Pool = Box::leak(kind.pool(8, 280));
        prepare(pool, 2);
        thread::scope(|s| {
            for who in 1..=2 {
                s.spawn(move || {
                    let timer = Interrupts::start(libc::SIGUSR1, Duration::from_micros(20));
                    while timer.short_of::<2>(500, false) {
                        for _ in 0..20 {
                            if let Some(owned) = operation(POP, || take(pool, who)) {
                                operation(PUSH, || give(pool, owned));
                            }
                        }
                    }
                    println!(
                        "{kind:?}: {} handlers, over pop and push {:?}",
                        timer.handlers(),
                        timer.over::<2>()
                    );
                });
            }
        });
        check_full(pool);
    }
}
