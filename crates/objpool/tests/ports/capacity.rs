//! As many objects as were asked for, to any number of threads, and counts that are never beyond:
//! what folly's `st_capacity`, `mt_capacity` and crossbeam's `len` check.

use crate::common::{ALL, check_full, give, take, wait};
use std::sync::Barrier;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

/// Each thread takes one and keeps it until all have: as many threads as objects, whose turns
/// nobody arranges.
#[test]
fn one_for_each_thread_at_once() {
    const THREADS: usize = 17;
    for kind in ALL {
        let pool = kind.pool(THREADS, 16);
        let (taken, back) = (Barrier::new(THREADS), Barrier::new(THREADS));
        thread::scope(|s| {
            for who in 1..=THREADS as u64 {
                let (pool, taken, back) = (&*pool, &taken, &back);
                s.spawn(move || {
                    for round in 0..40 {
                        let owned = if round % 2 == 0 { take(pool, who) } else { wait(pool, who) };
                        let owned = owned.unwrap_or_else(|| panic!("{kind:?}: one for each"));
                        // The one that the barrier picks finds the pool empty, and so do others.
                        if taken.wait().is_leader() {
                            assert!(pool.pop().is_none(), "{kind:?}: one too many");
                        }
                        back.wait();
                        give(pool, owned);
                        back.wait();
                    }
                });
            }
        });
        assert_eq!(pool.statistics().waits, 0, "{kind:?}: something was free whenever asked for");
        check_full(&*pool);
    }
}

/// Counts read while others pop and push: no more than there are, and what only grows never falls.
#[test]
fn counts_in_the_middle() {
    const CAPACITY: usize = 30;
    for kind in ALL {
        let pool = kind.pool(CAPACITY, 16);
        let stop = AtomicBool::new(false);
        thread::scope(|s| {
            for who in 1..=3 {
                let (pool, stop) = (&*pool, &stop);
                s.spawn(move || {
                    while !stop.load(Ordering::Relaxed) {
                        let mine: Vec<_> = (0..15).filter_map(|_| take(pool, who)).collect();
                        mine.into_iter().for_each(|owned| give(pool, owned));
                    }
                });
            }
            let mut before = pool.statistics();
            let mut looks = 0;
            while looks < 200 || before.high_water < 15 || before.misses == 0 && looks < 20_000 {
                let now = pool.statistics();
                assert!(now.in_use <= CAPACITY && now.high_water <= CAPACITY, "{now:?}");
                assert_eq!((now.waits, now.detached), (0, 0));
                for (was, is) in [
                    (before.hits, now.hits),
                    (before.misses, now.misses),
                    (before.steals, now.steals),
                    (before.remote_pushes, now.remote_pushes),
                    (before.high_water as u64, now.high_water as u64),
                ] {
                    assert!(was <= is, "{kind:?}: {before:?}, then {now:?}");
                }
                before = now;
                looks += 1;
                thread::yield_now();
            }
            stop.store(true, Ordering::Relaxed);
        });
        check_full(&*pool);
    }
}

/// Emptied to the last object and filled again, in several orders, as often as positions and tags
/// of small lists wrap a few times.
#[test]
fn exhaustion_and_refill() {
    for kind in ALL {
        for capacity in [1usize, 3, 8, 100] {
            let pool = kind.pool(capacity, 16);
            for round in 0..60 {
                let mut all: Vec<_> = std::iter::from_fn(|| take(&*pool, 1)).collect();
                assert_eq!(all.len(), capacity, "{kind:?} round {round}");
                match round % 3 {
                    0 => {}
                    1 => all.reverse(),
                    _ => all.rotate_left(capacity / 2),
                }
                all.into_iter().for_each(|owned| give(&*pool, owned));
            }
            assert_eq!(pool.statistics().misses, 60);
            check_full(&*pool);
        }
    }
}
