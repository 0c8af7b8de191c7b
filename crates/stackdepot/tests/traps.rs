//! One test for each known way to get a stack depot wrong.
#![cfg(not(loom))]

mod common;

use common::{Mapping, stack};
use stackdepot::{Depot, Entry, FetchError, Flags, Handle, Miss, Put, PutError, Refs};
use std::sync::Barrier;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

const GET: Flags = Flags::GET;
const GROW: Flags = Flags::CAN_GROW;

/// Cut after hashing, an over-long stack is stored under a hash that the stored frames do not have:
/// it never finds itself, and leaks a record a save.
#[test]
fn an_over_long_stack_finds_itself_again() {
    let depot = Depot::builder().max_depth(10).budget_bytes(1 << 20).build_mmap().unwrap();
    let long: Vec<u64> = (1..=300).collect();
    let handle = depot.save(&long, GROW);
    assert_eq!(depot.save(&long, GROW), handle);
    assert_eq!(depot.save(&long[..11], GROW), handle);
    assert_eq!(depot.save(&long[..10], GROW), handle);
    assert_ne!(depot.save(&long[..9], GROW), handle);
    let mut buf = [0; 10];
    assert_eq!(depot.fetch(handle, &mut buf), Ok(&long[..10]));
    assert_eq!(depot.stats().stacks(), 2);
}

/// A put of the GET holder must not free what a holder without GET still uses.
#[test]
fn get_then_not_get_becomes_persistent() {
    let depot = Depot::builder().budget_bytes(1 << 20).build_mmap().unwrap();
    let handle = depot.save(&[1, 2, 3], GET | GROW);
    assert_eq!(depot.save(&[1, 2, 3], Flags::NONE), handle);
    assert_eq!(depot.put(handle), Ok(Put::Persistent));
    let mut buf = [0; 3];
    assert_eq!(depot.fetch(handle, &mut buf), Ok(&[1, 2, 3][..]));
    assert_eq!(depot.iter().next(), Some(Entry { handle, refs: Refs::Persistent, depth: 3 }));
    let stats = depot.stats();
    assert_eq!((stats.promoted, stats.persistent, stats.in_use(), stats.stacks()), (1, 1, 0, 1));
}

/// Position 0 is the header: no record is "not saved".
#[test]
fn the_first_record_has_a_handle_that_is_not_none() {
    for log2 in [0, 4, 12] {
        let depot = Depot::builder().buckets_log2(log2).budget_bytes(1 << 20).build_mmap().unwrap();
        assert!(!depot.save(&[1], GROW).is_none());
    }
}

/// `>` for `>=` in a bounds check: one position too many.
#[test]
fn positions_at_the_very_end_are_refused() {
    let memory = Mapping::private(1 << 16);
    let depot = Depot::builder().buckets_log2(2).build_in(memory.as_private()).unwrap();
    depot.save(&[1], GROW);
    let mut buf = [0; 255];
    let words = (memory.bytes() / 8) as u32;
    // The last word claims to be a record of one frame.
    memory.word(words as usize - 1).store(1 << 32 | 1, Ordering::Relaxed);
    for loc in [words - 1, words, words + 1] {
        assert_eq!(depot.fetch(Handle::from_bits(loc), &mut buf), Err(FetchError::BadHandle));
        assert_eq!(depot.put(Handle::from_bits(loc)), Err(PutError::BadHandle));
    }
}

/// A save that lost the race gives its record back without taking a lock that it holds, and the
/// record is not lost.
#[test]
fn losers_of_a_race_give_their_record_back() {
    const THREADS: usize = 4;
    let depot = Depot::builder().buckets_log2(4).budget_bytes(4 << 20).build_mmap().unwrap();
    let start = Barrier::new(THREADS);
    thread::scope(|s| {
        for _ in 0..THREADS {
            s.spawn(|| {
                for round in 0..300 {
                    start.wait();
                    let mut handle = Handle::NONE;
                    // All save the same stack at the same time.
                    while handle.is_none() {
                        handle = depot.save(&[round, 1, 2, 3], GROW);
                    }
                }
            });
        }
    });
    let stats = depot.stats();
    assert_eq!(stats.stacks(), 300);
    assert_eq!(depot.iter().count(), 300);
    let record = 5 * 8;
    let buckets = stats.overflow_buckets * 64 + stats.overflow_buckets * 56;
    // One place is the free list's own.
    assert!(
        stats.pool_used_bytes <= (301 + stats.free_records) * record + buckets,
        "every place is a stack or free for reuse: {stats:?}"
    );
}

/// Most recently freed first maximises the chance that a stale handle names somebody else's stack.
#[test]
fn places_are_reused_oldest_first() {
    let depot = Depot::builder().buckets_log2(4).budget_bytes(1 << 20).build_mmap().unwrap();
    let save = |n: u64| depot.save(&[n, 1], GET | GROW);
    // One place stays in the queue: of the two first free ones it gives the older away.
    let first = save(1000);
    assert_eq!(depot.put(first), Ok(Put::Evicted));
    let handles: Vec<_> = (0..8).map(save).collect();
    for handle in &handles {
        assert_eq!(depot.put(*handle), Ok(Put::Evicted));
    }
    let again: Vec<_> = (0..8).map(|n| save(100 + n)).collect();
    assert_eq!(again[1..], handles[..7]);
    assert_eq!(again[0], first);
}

/// Memory that is free but cannot be had at this moment (a lock that somebody keeps, readers that
/// are not done) must not be replaced by fresh memory: under churn that never ends, and is never
/// given back.
#[test]
fn what_is_free_is_used_before_fresh_memory() {
    let depot = Depot::builder().buckets_log2(4).budget_bytes(1 << 20).build_mmap().unwrap();
    let mut used = None;
    for round in 0..1000 {
        let handles: Vec<_> = (0..8).map(|n| depot.save(&[n, round], GET | GROW)).collect();
        assert!(handles.iter().all(|handle| depot.put(*handle) == Ok(Put::Evicted)));
        let now = depot.stats().pool_used_bytes;
        assert_eq!(*used.get_or_insert(now), now, "round {round}");
    }
}

/// A number that is no handle looks like one if the word that it names looks like a record's head,
/// as a frame of another record can: it is refused, and the frames are as they were.
#[test]
fn a_wild_handle_changes_nothing() {
    let depot = Depot::builder().budget_bytes(1 << 20).build_mmap().unwrap();
    // Low byte: a plausible depth. High half: plausible references, or persistent.
    let frames: Vec<u64> = (0..16).map(|i| 0x5555_0000_1002 + i * 0x100).collect();
    let kept: Vec<u64> = (0..16).map(|i| 0xffff_ffff_0000_1002 + i * 0x100).collect();
    let handles = [depot.save(&frames, GET | GROW), depot.save(&kept, GROW)];
    let mut buf = [0; 64];
    for handle in handles {
        for at in 1..17 {
            let wild = Handle::from_bits(handle.to_bits() + at);
            assert_eq!(depot.get(wild), Err(PutError::BadHandle));
            assert_eq!(depot.put(wild), Err(PutError::BadHandle));
        }
    }
    assert_eq!(depot.fetch(handles[0], &mut buf), Ok(&frames[..]));
    assert_eq!(depot.fetch(handles[1], &mut buf), Ok(&kept[..]));
    assert_eq!(depot.save(&frames, GET | GROW), handles[0]);
    assert_eq!(depot.put(handles[0]), Ok(Put::Released));
    assert_eq!(depot.put(handles[0]), Ok(Put::Evicted));
    assert_eq!((depot.stats().bad_puts, depot.stats().corrupt), (64, 0));
}

/// A stack whose frames are a whole record, checksum and all: still no handle.
#[test]
fn a_forged_record_inside_of_a_stack_is_no_record() {
    let memory = Mapping::private(1 << 16);
    let depot = Depot::builder().buckets_log2(2).build_in(memory.as_private()).unwrap();
    let inner = depot.save(&[7, 8, 9], GET | GROW);
    let head = memory.word(inner.to_bits() as usize).load(Ordering::Relaxed);
    let outer = depot.save(&[1, head, 7, 8, 9], GET | GROW);
    let forged = Handle::from_bits(outer.to_bits() + 2);
    let mut buf = [0; 8];
    assert_eq!(depot.fetch(forged, &mut buf), Ok(&[7, 8, 9][..]), "it looks like one");
    assert_eq!(depot.get(forged), Err(PutError::BadHandle));
    assert_eq!(depot.put(forged), Err(PutError::BadHandle));
    assert_eq!(depot.fetch(outer, &mut buf), Ok(&[1, head, 7, 8, 9][..]));
    assert_eq!(depot.put(inner), Ok(Put::Evicted));
}

/// A reader that stands on a record while it is unlinked and added elsewhere must not be led into
/// another bucket: what is there is always found.
#[test]
fn lookups_beside_churn_always_find_what_is_there() {
    let depot = Depot::builder().buckets_log2(1).budget_bytes(4 << 20).build_mmap().unwrap();
    let kept: Vec<_> = (0..20).map(|n| depot.save(&stack(n, 12), GROW)).collect();
    let stop = AtomicBool::new(false);
    thread::scope(|s| {
        for t in 0..3 {
            let (depot, stop) = (&depot, &stop);
            s.spawn(move || {
                let mut n = 1000 * (t + 1);
                while !stop.load(Ordering::Relaxed) {
                    n += 1;
                    let handle = depot.save(&stack(n % 50 + 1000 * (t + 1), 12), GET | GROW);
                    let _ = depot.put(handle);
                }
            });
        }
        for _ in 0..3000 {
            for (n, handle) in kept.iter().enumerate() {
                // May not grow, may not insert: has to be found.
                assert_eq!(depot.try_save(&stack(n as u64, 12), Flags::NONE), Ok(*handle));
            }
        }
        stop.store(true, Ordering::Relaxed);
    });
    assert_eq!((depot.stats().corrupt, depot.stats().bad_puts), (0, 0));
}

/// One global lock for all inserts: a stuck holder stops everybody. Here one bucket is stuck.
#[test]
fn a_stuck_bucket_stops_only_its_own_inserts() {
    const BUCKETS: usize = 16;
    let memory = Mapping::shared(1 << 20);
    let depot =
        Depot::builder().buckets_log2(4).no_eviction().build_in(memory.as_shared()).unwrap();
    let known: Vec<_> = (0..100).map(|n| depot.save(&stack(n, 12), GROW)).collect();
    // The table is the last thing before the pools. Bucket 3 is locked by this very process, as if
    // a handler had interrupted it there.
    let table = depot.stats().fixed_bytes as usize / 8 - BUCKETS * 8;
    let control = memory.word(table + 3 * 8 + 1);
    control.fetch_or(1 << 59, Ordering::Relaxed);

    let (mut saved, mut contended) = (0, 0);
    for n in 1000..1400 {
        match depot.try_save(&stack(n, 12), GROW) {
            Ok(_) => saved += 1,
            Err(miss) => {
                assert_eq!(miss, Miss::Contended);
                contended += 1;
            }
        }
    }
    assert!(saved > 300 && contended > 5, "{saved} saved, {contended} not");
    assert_eq!(depot.stats().contended, contended);
    for (n, handle) in known.iter().enumerate() {
        assert_eq!(
            depot.save(&stack(n as u64, 12), Flags::NONE),
            *handle,
            "what is there is found without a lock"
        );
    }
    control.fetch_and(!(31 << 59), Ordering::Relaxed);
    assert!((1000..1400).all(|n| depot.try_save(&stack(n, 12), GROW).is_ok()));
}

/// Too many puts are reported; the record is not freed twice.
#[test]
fn an_unbalanced_put_is_reported_and_frees_nothing() {
    let depot = Depot::builder().budget_bytes(1 << 20).build_mmap().unwrap();
    let handle = depot.save(&[5, 6, 7], GET | GROW);
    assert_eq!(depot.put(handle), Ok(Put::Evicted));
    for _ in 0..3 {
        assert_eq!(depot.put(handle), Err(PutError::Unbalanced));
    }
    let stats = depot.stats();
    assert_eq!((stats.bad_puts, stats.freed, stats.free_records), (3, 1, 1));
}

/// A count that overflows frees a record with four billion holders.
#[test]
fn the_count_saturates() {
    let memory = Mapping::private(1 << 16);
    let depot = Depot::builder().buckets_log2(2).build_in(memory.as_private()).unwrap();
    let handle = depot.save(&[1, 2], GET | GROW);
    let head = memory.word(handle.to_bits() as usize);
    head.fetch_add(u64::from(u32::MAX - 2) << 32, Ordering::Relaxed);
    assert_eq!(depot.iter().next().map(|e| e.refs), Some(Refs::Counted(u32::MAX - 1)));
    assert_eq!(depot.save(&[1, 2], GET), handle);
    assert_eq!(depot.iter().next().map(|e| e.refs), Some(Refs::Persistent));
    assert_eq!(depot.put(handle), Ok(Put::Persistent));
    assert_eq!(depot.save(&[1, 2], GET), handle);
    let stats = depot.stats();
    assert_eq!((stats.saturated, stats.promoted, stats.persistent, stats.in_use()), (1, 1, 1, 0));
}

/// What an evicted record held is gone at once (in builds with debug assertions): a stale use
/// shows.
#[test]
#[cfg(debug_assertions)]
fn evicted_records_are_poisoned() {
    let memory = Mapping::private(1 << 16);
    let depot = Depot::builder().buckets_log2(2).build_in(memory.as_private()).unwrap();
    let frames: Vec<u64> = (0x1000..0x1010).collect();
    let handle = depot.save(&frames, GET | GROW);
    depot.put(handle).unwrap();
    let at = handle.to_bits() as usize;
    assert!((at + 1..at + 17).all(|i| !frames.contains(&memory.word(i).load(Ordering::Relaxed))));
}
