//! The ten cases of the kernel's own pool test (`lib/test_objpool.c`): {sync, sync + timer, overrun in bulk, async with delayed release, async + timer in bulk} x {280, 512 bytes},
//! for every free list, with an ownership oracle. The timer is a real signal every 4 ms, whose handler pops and pushes over whatever it interrupts.
#![cfg(not(loom))]

mod common;

use common::{ALL, Kind, Owned, check_full, give, take};
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

const fn case(name: &'static str, asynchronous: bool, bulk: usize, in_handler: usize, object_size: usize) -> Case {
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
const HANDLER: u64 = u64::MAX - 1;

/// What the handler works on. A fat pointer does not fit into an atomic, hence one more level.
static POOL: AtomicPtr<&'static dyn Pool> = AtomicPtr::new(ptr::null_mut());
static IN_HANDLER: AtomicU64 = AtomicU64::new(0);
static RUNS: AtomicU64 = AtomicU64::new(0);
static HITS: AtomicU64 = AtomicU64::new(0);
static MISSES: AtomicU64 = AtomicU64::new(0);

/// Handlers that are running, of whichever thread.
static INSIDE: AtomicU64 = AtomicU64::new(0);

extern "C" fn on_timer(_signal: c_int) {
    // SeqCst, as in `Timer::drop`: either that one sees the handler, or the handler sees no pool.
    INSIDE.fetch_add(1, Ordering::SeqCst);
    // SAFETY: null, or a leaked reference.
    if let Some(pool) = unsafe { POOL.load(Ordering::SeqCst).as_ref() } {
        handle(*pool);
    }
    INSIDE.fetch_sub(1, Ordering::SeqCst);
}

fn handle(pool: &'static dyn Pool) {
    RUNS.fetch_add(1, Ordering::Relaxed);
    let mut mine: [Option<Owned>; 4] = [const { None }; 4];
    for place in mine.iter_mut().take(IN_HANDLER.load(Ordering::Relaxed) as usize) {
        *place = take(pool, HANDLER);
        let counter = if place.is_some() { &HITS } else { &MISSES };
        counter.fetch_add(1, Ordering::Relaxed);
    }
    mine.into_iter().flatten().for_each(|owned| give(pool, owned));
}

/// SIGALRM every 4 ms, while it lives, to whichever thread the kernel picks.
struct Timer(libc::timer_t);

impl Timer {
    fn start(pool: &'static dyn Pool, in_handler: usize) -> Self {
        IN_HANDLER.store(in_handler as u64, Ordering::Relaxed);
        POOL.store(Box::into_raw(Box::new(pool)), Ordering::Release);
        // SAFETY: an all-zero sigaction is a valid one without flags and with an empty mask.
        let mut action: libc::sigaction = unsafe { std::mem::zeroed() };
        action.sa_sigaction = on_timer as *const () as usize;
        action.sa_flags = libc::SA_RESTART;
        // SAFETY: the handler keeps to the pool and to atomics.
        assert_eq!(unsafe { libc::sigaction(libc::SIGALRM, &action, ptr::null_mut()) }, 0);
        let mut timer: libc::timer_t = ptr::null_mut();
        // SAFETY: a null event asks for SIGALRM; `timer` is writable.
        assert_eq!(unsafe { libc::timer_create(libc::CLOCK_MONOTONIC, ptr::null_mut(), &mut timer) }, 0);
        let tick = libc::timespec { tv_sec: 0, tv_nsec: 4_000_000 };
        let setting = libc::itimerspec { it_interval: tick, it_value: tick };
        // SAFETY: `timer` was just made, `setting` is readable.
        assert_eq!(unsafe { libc::timer_settime(timer, 0, &setting, ptr::null_mut()) }, 0);
        Self(timer)
    }
}

impl Drop for Timer {
    fn drop(&mut self) {
        // SAFETY: made by `start`, deleted once.
        unsafe { libc::timer_delete(self.0) };
        POOL.store(ptr::null_mut(), Ordering::SeqCst);
        // One may be at work still, on a thread that has lost its processor.
        while INSIDE.load(Ordering::SeqCst) != 0 {
            thread::yield_now();
        }
    }
}

fn run(case: &Case, kind: Kind) {
    let cpus = thread::available_parallelism().map_or(2, usize::from);
    let pool: &'static dyn Pool = Box::leak(kind.pool(8 * cpus, case.object_size));
    let counters = [&RUNS, &HITS, &MISSES];
    counters.iter().for_each(|counter| counter.store(0, Ordering::Relaxed));
    let timer = (case.in_handler != 0).then(|| Timer::start(pool, case.in_handler));
    let (hits, misses) = (AtomicU64::new(0), AtomicU64::new(0));
    let end = Instant::now() + RUN;
    thread::scope(|s| {
        let (to, from) = mpsc::channel::<Vec<Owned>>();
        // One worker per CPU, as the kernel binds them, and one more that competes for time.
        for who in 1..=cpus as u64 + 1 {
            let (to, hits, misses) = (to.clone(), &hits, &misses);
            s.spawn(move || {
                while Instant::now() < end {
                    let mut mine: Vec<Owned> = Vec::with_capacity(case.bulk);
                    for _ in 0..case.bulk {
                        match take(pool, who) {
                            Some(owned) => mine.push(owned),
                            None => {
                                misses.fetch_add(1, Ordering::Relaxed);
                            }
                        }
                    }
                    hits.fetch_add(mine.len() as u64, Ordering::Relaxed);
                    if case.asynchronous {
                        to.send(mine).expect("the other side lives");
                    } else {
                        mine.into_iter().for_each(|owned| give(pool, owned));
                    }
                }
            });
        }
        drop(to);
        s.spawn(move || {
            for batch in from {
                // The delay: the kernel releases from a work queue.
                thread::yield_now();
                batch.into_iter().for_each(|owned| give(pool, owned));
            }
        });
    });
    // Handlers run on any thread, this one included; afterwards none is at work.
    drop(timer);
    let s = pool.statistics();
    assert_eq!(s.hits, hits.into_inner() + HITS.load(Ordering::Relaxed), "{} {kind:?}", case.name);
    assert_eq!(s.misses, misses.into_inner() + MISSES.load(Ordering::Relaxed), "{} {kind:?}", case.name);
    if case.in_handler != 0 {
        assert_ne!(RUNS.load(Ordering::Relaxed), 0, "the timer came");
    }
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

/// Threads that are in pop and push nearly all the time, few objects, and many signals: sent by a thread, not by the clock.
#[test]
fn signals_inside_pop_and_push() {
    let _one = ONE_AT_A_TIME.lock();
    for kind in ALL {
        let pool: &'static dyn Pool = Box::leak(kind.pool(8, 280));
        let timer = Timer::start(pool, 2);
        RUNS.store(0, Ordering::Relaxed);
        let signallers = AtomicU64::new(2);
        thread::scope(|s| {
            for who in 1..=2u64 {
                let signallers = &signallers;
                let (to, from) = mpsc::channel();
                s.spawn(move || {
                    // SAFETY: takes nothing.
                    to.send(unsafe { libc::pthread_self() }).expect("the other side waits");
                    while signallers.load(Ordering::Relaxed) != 0 {
                        if let Some(owned) = take(pool, who) {
                            give(pool, owned);
                        }
                    }
                });
                s.spawn(move || {
                    let target = from.recv().expect("the worker sends it first");
                    for _ in 0..2000 {
                        // SAFETY: the worker lives until no signaller is left.
                        unsafe { libc::pthread_kill(target, libc::SIGALRM) };
                        thread::sleep(Duration::from_micros(20));
                    }
                    signallers.fetch_sub(1, Ordering::Relaxed);
                });
            }
        });
        drop(timer);
        assert!(RUNS.load(Ordering::Relaxed) > 100, "{kind:?}");
        check_full(pool);
    }
}
