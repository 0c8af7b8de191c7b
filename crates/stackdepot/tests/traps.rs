//! One test for each known way to get a stack depot wrong.
#![cfg(not(loom))]

mod common;

use common::{Mapping, stack};
use stackdepot::{Depot, Entry, FetchError, Flags, GracePeriod, Handle, Miss, Put, PutError, Refs};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Barrier, Mutex};
use std::thread;

const GET: Flags = Flags::GET;
const GROW: Flags = Flags::CAN_GROW;

/// Grace periods by hand: stamps count up, and the test says which have elapsed.
#[derive(Default)]
struct ByHand {
    next: AtomicU64,
    elapsed: Mutex<Vec<u64>>,
}

impl GracePeriod for &ByHand {
    const EVICTS: bool = true;
    type Section<'a>
        = ()
    where
        Self: 'a;

    fn enter(&self) -> Option<()> {
        Some(())
    }

    fn now(&self) -> u64 {
        self.next.fetch_add(1, Ordering::SeqCst)
    }

    fn elapsed(&self, stamp: u64) -> bool {
        self.elapsed.lock().unwrap().contains(&stamp)
    }
}

fn by_hand(hand: &ByHand) -> Depot<&ByHand> {
    Depot::builder().buckets_log2(4).budget_bytes(1 << 20).grace_period(hand).build_mmap().unwrap()
}

/// Cut after hashing, an over-long stack is stored under a hash that the stored frames do not have: it never finds itself, and leaks a record a save.
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

/// A save that lost the race gives its record back without taking a lock that it holds, and the record is not lost.
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
    assert!(stats.pool_used_bytes <= (300 + stats.free_records) * record + buckets, "every place is a stack or free for reuse: {stats:?}");
}

/// Most recently freed first maximises the chance that a stale handle names somebody else's stack.
#[test]
fn places_are_reused_oldest_first() {
    let hand = ByHand::default();
    let depot = by_hand(&hand);
    let handles: Vec<_> = (0..8).map(|n| depot.save(&[n, 1], GET | GROW)).collect();
    for handle in &handles {
        assert_eq!(depot.put(*handle), Ok(Put::Evicted));
    }
    hand.elapsed.lock().unwrap().extend(0..8);
    let again: Vec<_> = (0..8).map(|n| depot.save(&[100 + n, 1], GET | GROW)).collect();
    assert_eq!(again, handles);
}

/// One record that has not elapsed, at the head of the list, blocks all that have.
#[test]
fn a_head_that_has_not_elapsed_does_not_block_the_others() {
    let hand = ByHand::default();
    let depot = by_hand(&hand);
    let handles: Vec<_> = (0..4).map(|n| depot.save(&[n, 1], GET | GROW)).collect();
    for handle in &handles {
        assert_eq!(depot.put(*handle), Ok(Put::Evicted));
    }
    hand.elapsed.lock().unwrap().extend([1, 3]);
    assert_eq!(depot.save(&[101, 1], GET | GROW), handles[1]);
    assert_eq!(depot.save(&[102, 1], GET | GROW), handles[3]);
    let fresh = depot.save(&[103, 1], GET | GROW);
    assert!(!handles.contains(&fresh), "the other two are still waiting");
    hand.elapsed.lock().unwrap().extend([0, 2]);
    assert_eq!(depot.save(&[104, 1], GET | GROW), handles[0]);
    assert_eq!(depot.save(&[105, 1], GET | GROW), handles[2]);
    assert_eq!(depot.stats().free_records, 0);
}

/// Without elapsed grace periods nothing is reused and nobody waits.
#[test]
fn an_allocation_never_waits_for_a_grace_period() {
    let hand = ByHand::default();
    let depot = by_hand(&hand);
    let mut seen = Vec::new();
    for n in 0..50 {
        let handle = depot.save(&[n, 1], GET | GROW);
        assert!(!seen.contains(&handle));
        seen.push(handle);
        assert_eq!(depot.put(handle), Ok(Put::Evicted));
    }
    assert_eq!((depot.stats().reused, depot.stats().free_records), (0, 50));
}

/// A reader that stands on a record while it is unlinked and added elsewhere must not be led into another bucket: what is there is always found.
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
    let depot = Depot::builder().buckets_log2(4).no_eviction().build_in(memory.as_shared()).unwrap();
    let known: Vec<_> = (0..100).map(|n| depot.save(&stack(n, 12), GROW)).collect();
    // The table is the last thing before the pools. Bucket 3 is locked by this very process, as if a handler had interrupted it there.
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
        assert_eq!(depot.save(&stack(n as u64, 12), Flags::NONE), *handle, "what is there is found without a lock");
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

/// What an evicted record held is gone at once (in builds with debug assertions): a stale use shows.
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
