//! Many threads on one depot, against a content oracle.
#![cfg(not(loom))]

mod common;

use common::{Rng, stack};
use stackdepot::{Depot, Eviction, Flags, Handle, Put, Refs};
use std::collections::{HashMap, VecDeque};
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;

const GET: Flags = Flags::GET;
const GROW: Flags = Flags::CAN_GROW;
/// More threads than CPUs: they get preempted inside everything.
const THREADS: u64 = 16;
const ROUNDS: u64 = if cfg!(debug_assertions) { 4_000 } else { 40_000 };
const UNIVERSE: u64 = 60;
const DEPTH: u64 = 24;

/// One thread: saves stacks of a small universe, holds some, checks that what it holds is what it
/// saved, puts them later.
fn visitor<E: Eviction>(depot: &Depot<E>, seed: u64, evictions: &AtomicU64) -> u64 {
    let mut rng = Rng(seed);
    let mut held: Vec<(u64, Handle)> = Vec::new();
    let mut buf = [0; 64];
    let mut missed = 0;
    let put = |handle| match depot.put(handle) {
        Ok(Put::Evicted) => _ = evictions.fetch_add(1, Ordering::Relaxed),
        Ok(Put::Released | Put::Persistent) => {}
        other => panic!("a balanced put: {other:?}"),
    };
    for _ in 0..ROUNDS {
        let n = rng.below(UNIVERSE);
        let handle = depot.save(&stack(n, DEPTH), GET | GROW);
        if handle.is_none() {
            missed += 1;
            // Somebody was preempted with the bucket's lock: let them go on.
            thread::yield_now();
            continue;
        }
        assert_eq!(depot.fetch(handle, &mut buf), Ok(&stack(n, DEPTH)[..]), "fetched is saved");
        held.push((n, handle));
        if held.len() > 8 {
            let (n, handle) = held.swap_remove(rng.below(8) as usize);
            assert_eq!(
                depot.fetch(handle, &mut buf),
                Ok(&stack(n, DEPTH)[..]),
                "held is unchanged"
            );
            put(handle);
        }
        // Equal stacks that are held at the same time have one handle.
        for (a, b) in held.iter().zip(&held[1..]) {
            assert_eq!(a.0 == b.0, a.1 == b.1);
        }
    }
    held.into_iter().for_each(|(_, handle)| put(handle));
    missed
}

#[test]
fn what_is_held_is_what_was_saved() {
    let depot =
        Depot::builder().buckets_log2(3).budget_bytes(8 << 20).max_depth(32).build_mmap().unwrap();
    let evictions = AtomicU64::new(0);
    let missed: u64 = thread::scope(|s| {
        let threads: Vec<_> = (0..THREADS)
            .map(|t| {
                s.spawn({
                    let (d, e) = (&depot, &evictions);
                    move || visitor(d, t, e)
                })
            })
            .collect();
        threads.into_iter().map(|t| t.join().unwrap()).sum()
    });
    let stats = depot.stats();
    assert_eq!(depot.iter().count(), 0, "all were put");
    assert_eq!(stats.stacks(), 0);
    assert_eq!(stats.freed, evictions.load(Ordering::Relaxed));
    assert_eq!(
        (stats.misses(), stats.contended),
        (missed, missed),
        "only contention is a reason to miss here"
    );
    assert_eq!((stats.corrupt, stats.bad_puts), (0, 0));
    assert!(stats.reused > 0 && stats.free_records > 0, "{stats:?}");
}

#[test]
fn nothing_is_saved_twice_without_eviction() {
    let depot =
        Depot::builder().buckets_log2(2).budget_bytes(8 << 20).no_eviction().build_mmap().unwrap();
    const STACKS: u64 = 3_000;
    let maps: Vec<HashMap<u64, Handle>> = thread::scope(|s| {
        let depot = &depot;
        let threads: Vec<_> = (0..THREADS)
            .map(|t| {
                s.spawn(move || {
                    let mut rng = Rng(t);
                    let mut mine = HashMap::new();
                    for _ in 0..ROUNDS / 4 {
                        let n = rng.below(STACKS);
                        let handle = depot.save(&stack(n, DEPTH), GROW);
                        if !handle.is_none() {
                            assert_eq!(*mine.entry(n).or_insert(handle), handle);
                        }
                    }
                    mine
                })
            })
            .collect();
        threads.into_iter().map(|t| t.join().unwrap()).collect()
    });
    let mut all = HashMap::new();
    for (n, handle) in maps.into_iter().flatten() {
        assert_eq!(*all.entry(n).or_insert(handle), handle, "one handle for all threads");
    }
    let stats = depot.stats();
    assert_eq!(depot.iter().count(), all.len());
    assert_eq!(stats.persistent as usize, all.len());
    assert!(depot.iter().all(|e| e.refs == Refs::Persistent));
}

#[test]
fn persistent_and_counted_holders_mix() {
    let depot = Depot::builder().buckets_log2(3).budget_bytes(8 << 20).build_mmap().unwrap();
    thread::scope(|s| {
        for t in 0..8 {
            let depot = &depot;
            s.spawn(move || {
                let mut rng = Rng(t);
                let mut buf = [0; 64];
                let mut held = VecDeque::new();
                for _ in 0..ROUNDS / 4 {
                    let n = rng.below(400);
                    // Now and then somebody keeps the stack for good.
                    let keep = rng.below(50) == 0;
                    let handle = depot.save(&stack(n, DEPTH), if keep { GROW } else { GET | GROW });
                    if handle.is_none() {
                        continue;
                    }
                    assert_eq!(depot.fetch(handle, &mut buf), Ok(&stack(n, DEPTH)[..]));
                    if !keep {
                        held.push_back(handle);
                    }
                    if held.len() > 50 {
                        held.pop_front().map(|h| depot.put(h).unwrap());
                    }
                }
                held.into_iter().for_each(|h| _ = depot.put(h).unwrap());
            });
        }
    });
    let stats = depot.stats();
    assert_eq!(stats.in_use(), 0);
    let kept = depot.iter().inspect(|e| assert_eq!(e.refs, Refs::Persistent)).count();
    assert_eq!(kept as u64, stats.persistent);
    assert!(stats.promoted > 0 && stats.promoted <= stats.persistent);
    assert_eq!((stats.corrupt, stats.bad_puts), (0, 0));
}

#[test]
fn handles_can_be_put_by_other_threads() {
    let depot = Depot::builder().buckets_log2(4).budget_bytes(8 << 20).build_mmap().unwrap();
    let (send, receive) = std::sync::mpsc::channel::<(u64, Handle)>();
    thread::scope(|s| {
        let depot = &depot;
        s.spawn(move || {
            let mut buf = [0; 64];
            for (n, handle) in receive {
                assert_eq!(depot.fetch(handle, &mut buf), Ok(&stack(n, DEPTH)[..]));
                depot.put(handle).unwrap();
            }
        });
        for n in 0..ROUNDS {
            let handle = depot.save(&stack(n % 200, DEPTH), GET | GROW);
            if !handle.is_none() {
                send.send((n % 200, handle)).unwrap();
            }
        }
        drop(send);
    });
    assert_eq!(depot.stats().stacks(), 0);
}

/// Threads of the churn below, and how many stacks each holds at most.
const CHURNERS: u64 = 32;
const HELD: usize = 4;

/// Stacks that come and go for ever take no more memory than those that were there at once, within
/// two times: whatever thread was stopped wherever, with more threads than CPUs.
#[test]
fn churn_takes_the_memory_of_what_is_live() {
    // As many stacks of each depth as there are threads can be live at once: few of the universe.
    let depot = Depot::builder().buckets_log2(8).budget_bytes(64 << 20).build_mmap().unwrap();
    let frames = |n: u64| -> Vec<u64> { (0..n % 9 + 1).map(|x| x * 7 + n % 610 + 1).collect() };
    let rounds = ROUNDS * 2;
    let missed: u64 = thread::scope(|s| {
        let depot = &depot;
        let threads: Vec<_> = (0..CHURNERS)
            .map(|t| {
                s.spawn(move || {
                    let (mut held, mut missed) = (VecDeque::new(), 0);
                    for n in (t * 1000)..(t * 1000 + rounds) {
                        match depot.save(&frames(n), GET | GROW) {
                            handle if handle.is_none() => missed += 1,
                            handle => held.push_back(handle),
                        }
                        if held.len() == HELD {
                            held.pop_front().map(|handle| depot.put(handle).unwrap());
                        }
                    }
                    held.into_iter().for_each(|handle| _ = depot.put(handle).unwrap());
                    missed
                })
            })
            .collect();
        threads.into_iter().map(|t| t.join().unwrap()).sum()
    });
    let stats = depot.stats();
    assert_eq!((stats.stacks(), stats.misses(), stats.contended), (0, missed, missed));
    // Each depth has a ninth of what is live, and may have had it all at one moment. A record of up
    // to nine frames, for two depths each, has 3, 5, 7, 9 and 11 words.
    let most = CHURNERS * HELD as u64 * (3 + 5 + 7 + 9 + 11) * 8;
    assert!(
        stats.pool_used_bytes <= 2 * most,
        "{} bytes of {most}: {stats:?}",
        stats.pool_used_bytes
    );
    assert_eq!((stats.corrupt, stats.bad_puts), (0, 0));
}

/// Of one depth, the bound is exact: what is live, what is in the hands of threads, and one.
#[test]
fn churn_of_one_depth_takes_what_is_live_and_in_hand() {
    let depot = Depot::builder().buckets_log2(8).budget_bytes(64 << 20).build_mmap().unwrap();
    thread::scope(|s| {
        for t in 0..CHURNERS {
            let depot = &depot;
            s.spawn(move || {
                for n in 0..ROUNDS {
                    let handle = depot.save(&[t, n % 500, 3, 4], GET | GROW);
                    depot.put(handle).unwrap();
                }
            });
        }
    });
    let stats = depot.stats();
    let records = stats.pool_used_bytes - stats.overflow_buckets * 64;
    // A thread that inserts or evicts has one place in its hands, which is not live yet or not any
    // more.
    assert!(records <= (2 * CHURNERS + 2) * 5 * 8 + stats.overflow_buckets * 64, "{stats:?}");
}
