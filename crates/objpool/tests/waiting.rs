//! Pops that wait: for every free list, what ends a wait, and that no wake-up is lost.
#![cfg(not(loom))]

mod common;

use common::{
    ALL, Kind, Owned, Random, check_full, give, layout, take, until_waiting, wait, wait_for,
};
use objpool::{Builder, ObjectPool, Pool, RseqLifo};
use std::ffi::c_int;
use std::io;
use std::ptr;
use std::sync::atomic::{AtomicBool, AtomicPtr, AtomicU64, Ordering};
use std::sync::{Arc, Barrier, Mutex, mpsc};
use std::thread;
use std::time::{Duration, Instant};

const LONG: Duration = Duration::from_secs(1 << 40);
const SHORT: Duration = Duration::from_millis(5);

fn each(test: impl Fn(Kind)) {
    ALL.into_iter().for_each(|kind| {
        println!("{kind:?}");
        test(kind);
    });
}

#[test]
fn a_free_object_is_given_at_once() {
    each(|kind| {
        let pool = kind.pool(3, 16);
        let all = [wait(&*pool, 1), wait_for(&*pool, 1, Duration::ZERO), wait_for(&*pool, 1, LONG)];
        all.into_iter().for_each(|owned| give(&*pool, owned.expect("three are free")));
        let s = pool.statistics();
        assert_eq!((s.hits, s.misses, s.waits), (3, 0, 0), "{kind:?}");
        check_full(&*pool);
    });
}

#[test]
fn a_push_ends_a_wait() {
    each(|kind| {
        let pool = kind.pool(1, 16);
        for round in 1..=50 {
            let mine = take(&*pool, 1).expect("one is free");
            thread::scope(|s| {
                s.spawn(|| {
                    // Until the end of time, too: beyond what the clock can show.
                    let time = if round % 2 == 0 { LONG } else { Duration::MAX };
                    give(&*pool, wait_for(&*pool, 2, time).expect("it comes back"));
                });
                until_waiting(&*pool, round);
                give(&*pool, mine);
            });
        }
        let s = pool.statistics();
        assert_eq!((s.hits, s.misses, s.waits), (100, 0, 50), "{kind:?}");
        check_full(&*pool);
    });
}

#[test]
fn a_wait_ends_when_its_time_is_over() {
    each(|kind| {
        let pool = kind.pool(1, 16);
        let mine = take(&*pool, 1).expect("one is free");
        assert!(wait_for(&*pool, 2, Duration::ZERO).is_none());
        let start = Instant::now();
        assert!(wait_for(&*pool, 2, SHORT).is_none());
        assert!(start.elapsed() >= SHORT, "{kind:?}: not before");
        let s = pool.statistics();
        assert_eq!((s.hits, s.misses, s.waits), (1, 2, 2), "{kind:?}");
        give(&*pool, mine);
        check_full(&*pool);
    });
}

#[test]
fn close_ends_all_waits() {
    each(|kind| {
        let pool = kind.pool(2, 16);
        let mine = [take(&*pool, 1), take(&*pool, 1)];
        thread::scope(|s| {
            for who in 2..8 {
                let pool = &*pool;
                s.spawn(move || {
                    let got =
                        if who % 2 == 0 { wait(pool, who) } else { wait_for(pool, who, LONG) };
                    assert!(got.is_none(), "{kind:?}: closed");
                });
            }
            until_waiting(&*pool, 6);
            pool.close();
        });
        // And none begins.
        assert!(wait(&*pool, 9).is_none() && wait_for(&*pool, 9, LONG).is_none());
        mine.into_iter().flatten().for_each(|owned| give(&*pool, owned));
        assert_eq!(pool.statistics().in_use, 0);
    });
}

/// The pool is closed by then, so what looks like waiting for oneself ends at once.
#[test]
fn the_release_callback_may_ask() {
    let (to, from) = mpsc::channel();
    let pool = Arc::new_cyclic(|pool: &std::sync::Weak<objpool::DefaultPool>| {
        let pool = pool.clone();
        Builder::new(1, layout(8))
            .on_release(move || {
                let pool = pool.upgrade().expect("closed by hand, before it is dropped");
                to.send(pool.pop_wait().is_none()).expect("the other side lives");
            })
            .build::<RseqLifo>()
            .expect("memory")
    });
    pool.close();
    assert_eq!(from.try_recv(), Ok(true));
}

#[test]
fn nothing_to_wait_for_when_all_were_taken_out() {
    let pool = Arc::new(ObjectPool::new(2, |i| i).expect("memory"));
    let (a, b) = (pool.pop().expect("free"), pool.pop_owned().expect("free"));
    thread::scope(|s| {
        s.spawn(|| assert!(pool.pop_wait().is_none()));
        s.spawn(|| assert!(pool.pop_owned_timeout(LONG).is_none()));
        while pool.statistics().waits < 2 {
            thread::yield_now();
        }
        assert_eq!(a.into_inner() + b.into_inner(), 1);
    });
    assert!(pool.pop_owned_wait().is_none() && !pool.is_closed());
}

#[test]
fn an_owned_guard_comes_back_to_a_waiter() {
    let pool = Arc::new(ObjectPool::new(1, |_| String::from("first")).expect("memory"));
    let mut guard = pool.pop_owned_wait().expect("free");
    let waiter = {
        let pool = Arc::clone(&pool);
        thread::spawn(move || {
            let guard = pool.pop_owned_wait();
            // The last share but the guard's own.
            drop(pool);
            guard.expect("it comes back").clone()
        })
    };
    while pool.statistics().waits == 0 {
        thread::yield_now();
    }
    drop(pool);
    guard.push_str(", then second");
    drop(guard);
    assert_eq!(waiter.join().expect("no panic"), "first, then second");
}

/// Rounds in which as many objects come back as threads wait: one wake-up too few, and a round does
/// not end.
#[test]
fn every_wake_up_counts() {
    const WAITERS: usize = 6;
    const ROUNDS: usize = 150;
    each(|kind| {
        let pool = kind.pool(WAITERS, 16);
        let barrier = Barrier::new(WAITERS + 1);
        thread::scope(|s| {
            for who in 1..=WAITERS as u64 {
                let (pool, barrier) = (&*pool, &barrier);
                s.spawn(move || {
                    for _ in 0..ROUNDS {
                        barrier.wait();
                        let owned = wait(pool, who).expect("one for each");
                        barrier.wait();
                        give(pool, owned);
                        barrier.wait();
                    }
                });
            }
            let mut random = Random::new(7);
            for _ in 0..ROUNDS {
                let all: Vec<Owned> = std::iter::from_fn(|| take(&*pool, 99)).collect();
                assert_eq!(all.len(), WAITERS);
                barrier.wait();
                for owned in all {
                    // Some before the others wait, some when they sleep.
                    if random.below(4) == 0 {
                        thread::yield_now();
                    }
                    give(&*pool, owned);
                }
                barrier.wait();
                barrier.wait();
            }
        });
        check_full(&*pool);
    });
}

/// Pools in a ring, all empty but one: the thread that gets an object of its pool puts it aside,
/// and pushes what the next pool's thread has put aside. Every push ends one wait, and nothing else
/// does.
#[test]
fn one_wakes_the_next() {
    const THREADS: usize = 5;
    const LAPS: usize = 150;
    each(|kind| {
        let pools: Vec<_> = (0..THREADS).map(|_| kind.pool(1, 16)).collect();
        let aside: Vec<Mutex<Option<Owned>>> =
            pools.iter().map(|pool| Mutex::new(take(&**pool, 1))).collect();
        let push = |i: usize| {
            let owned = aside[i].lock().expect("no panic").take().expect("put aside");
            give(&*pools[i], owned);
        };
        thread::scope(|s| {
            for i in 0..THREADS {
                let (pools, aside, push) = (&pools, &aside, &push);
                s.spawn(move || {
                    for lap in 1..=LAPS {
                        let owned = wait(&*pools[i], 1).expect("its turn comes");
                        *aside[i].lock().expect("no panic") = Some(owned);
                        if lap < LAPS || i + 1 < THREADS {
                            push((i + 1) % THREADS);
                        }
                    }
                });
            }
            push(0);
        });
        (0..THREADS).for_each(push);
        pools.iter().for_each(|pool| check_full(&**pool));
    });
}

/// More threads than CPUs, fewer objects than threads, pops of all three kinds.
#[test]
fn waiters_among_others() {
    each(|kind| {
        let pool = kind.pool(3, 16);
        let (hits, misses) = (AtomicU64::new(0), AtomicU64::new(0));
        thread::scope(|s| {
            for who in 1..=12 {
                let (pool, hits, misses) = (&*pool, &hits, &misses);
                s.spawn(move || {
                    let mut random = Random::new(who);
                    for _ in 0..300 {
                        let owned = match who % 3 {
                            0 => take(pool, who),
                            1 => wait(pool, who),
                            _ => {
                                let time = Duration::from_micros(random.below(100));
                                wait_for(pool, who, time)
                            }
                        };
                        assert!(owned.is_some() || who % 3 != 1, "{kind:?}: it stays open");
                        let counter = if owned.is_some() { hits } else { misses };
                        counter.fetch_add(1, Ordering::Relaxed);
                        if random.below(16) == 0 {
                            thread::yield_now();
                        }
                        owned.into_iter().for_each(|owned| give(pool, owned));
                    }
                });
            }
        });
        let s = pool.statistics();
        assert_eq!(
            (s.hits, s.misses, s.in_use),
            (hits.into_inner(), misses.into_inner(), 0),
            "{kind:?}: exact at rest"
        );
        check_full(&*pool);
    });
}

/// Some wait while the pool is closed under them, at any moment of their wait.
#[test]
fn close_at_any_moment_of_a_wait() {
    each(|kind| {
        for round in 0..60 {
            let released = Arc::new(AtomicU64::new(0));
            let r = Arc::clone(&released);
            let builder = Builder::new(2, layout(16)).on_release(move || {
                r.fetch_add(1, Ordering::Relaxed);
            });
            let pool = kind.build(builder).expect("memory");
            thread::scope(|s| {
                for who in 1..=4 {
                    let pool = &*pool;
                    s.spawn(move || {
                        while let Some(owned) = wait(pool, who) {
                            give(pool, owned);
                        }
                        assert!(pool.is_closed(), "{kind:?}: nothing else ends it");
                    });
                }
                thread::sleep(Duration::from_micros(20 * round));
                pool.close();
            });
            assert_eq!(released.load(Ordering::Relaxed), 1, "{kind:?}: every object came back");
        }
    });
}

/// Where visits are forbidden, a pop may miss what lies in another CPU's private list. One that
/// waits looks there: it makes system calls anyway, and nobody may push for it.
#[test]
fn waits_reach_private_lists() {
    let pool = Builder::new(64, layout(16)).visits(false).build::<RseqLifo>().expect("memory");
    thread::scope(|s| {
        // Fills the private lists of every CPU that it can run on, as far as they go.
        s.spawn(|| {
            let all: Vec<Owned> = std::iter::from_fn(|| take(&pool, 1)).collect();
            all.into_iter().for_each(|owned| give(&pool, owned));
        });
    });
    let all: Vec<Owned> = (0..64).map(|_| wait(&pool, 2).expect("nobody else has any")).collect();
    all.into_iter().for_each(|owned| give(&pool, owned));
    assert_eq!(pool.statistics().in_use, 0);
}

static HANDLER_POOL: AtomicPtr<&'static dyn Pool> = AtomicPtr::new(ptr::null_mut());
static HANDLED: AtomicU64 = AtomicU64::new(0);

extern "C" fn pops_and_pushes(_signal: c_int) {
    // SAFETY: leaked, and set before the first signal.
    if let Some(pool) = unsafe { HANDLER_POOL.load(Ordering::Acquire).as_ref() }
        && let Some(owned) = take(*pool, 77)
    {
        give(*pool, owned);
    }
    HANDLED.fetch_add(1, Ordering::Relaxed);
}

/// Signals that come faster than a sleep lasts, whose handlers use the pool over the thread that
/// waits: a time still ends, and a push still ends a wait.
#[test]
fn signals_over_a_waiting_thread() {
    // SAFETY: an all-zero sigaction is a valid one without flags and with an empty mask.
    let mut action: libc::sigaction = unsafe { std::mem::zeroed() };
    action.sa_sigaction = pops_and_pushes as *const () as usize;
    action.sa_flags = libc::SA_RESTART;
    // SAFETY: the handler keeps to the pool and to atomics.
    assert_eq!(unsafe { libc::sigaction(libc::SIGUSR1, &action, ptr::null_mut()) }, 0);
    each(|kind| {
        let pool: &'static dyn Pool = Box::leak(kind.pool(1, 16));
        HANDLER_POOL.store(Box::into_raw(Box::new(pool)), Ordering::Release);
        let mine = take(pool, 1).expect("one is free");
        let (timed_out, ended) = (&AtomicBool::new(false), &AtomicBool::new(false));
        let handled = HANDLED.load(Ordering::Relaxed);
        thread::scope(|s| {
            let (to, from) = mpsc::channel();
            let waiter = s.spawn(move || {
                // SAFETY: takes nothing.
                let me = unsafe { libc::pthread_self() };
                to.send(me).expect("the other side lives");
                assert!(wait_for(pool, 2, SHORT).is_none());
                timed_out.store(true, Ordering::Release);
                give(pool, wait(pool, 2).expect("it comes back"));
                ended.store(true, Ordering::Release);
            });
            let target = from.recv().expect("the waiter sends it first");
            let mut mine = Some(mine);
            while !ended.load(Ordering::Acquire) {
                // SAFETY: the waiter is joined below.
                unsafe { libc::pthread_kill(target, libc::SIGUSR1) };
                if timed_out.load(Ordering::Acquire)
                    && HANDLED.load(Ordering::Relaxed) > handled + 50
                {
                    mine.take().into_iter().for_each(|owned| give(pool, owned));
                }
            }
            waiter.join().expect("no panic");
        });
        HANDLER_POOL.store(ptr::null_mut(), Ordering::Release);
        check_full(pool);
    });
}

#[test]
fn errno_stays() {
    let errno = || io::Error::last_os_error().raw_os_error();
    each(|kind| {
        let pool = kind.pool(1, 16);
        let mine = take(&*pool, 1).expect("one is free");
        assert!(std::fs::read_dir("/proc/self/nothing").is_err());
        assert_eq!(errno(), Some(libc::ENOENT));
        assert!(wait_for(&*pool, 2, Duration::from_millis(1)).is_none());
        assert_eq!(errno(), Some(libc::ENOENT), "{kind:?}");
        give(&*pool, mine);
    });
}
