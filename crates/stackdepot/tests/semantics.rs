//! What save, get, put, fetch and iter promise.
#![cfg(not(loom))]

mod common;

use common::{Rng, stack};
use stackdepot::{Depot, Entry, FetchError, Flags, Handle, Miss, Put, PutError, Refs};
use std::collections::HashMap;
use std::time::{Duration, Instant};

const GET: Flags = Flags::GET;
const GROW: Flags = Flags::CAN_GROW;

fn small() -> Depot {
    Depot::builder().buckets_log2(4).budget_bytes(1 << 20).build_mmap().unwrap()
}

fn fetch(depot: &Depot, handle: Handle) -> Result<Vec<u64>, FetchError> {
    let mut buf = [0; 255];
    depot.fetch(handle, &mut buf).map(<[u64]>::to_vec)
}

/// Saves in a depot whose room is all waiting for a grace period: the other tests' threads may hold
/// one up for a while.
fn save_patiently(depot: &Depot, frames: &[u64]) -> Handle {
    let deadline = Instant::now() + Duration::from_secs(20);
    loop {
        match depot.try_save(frames, GET | GROW) {
            Ok(handle) => return handle,
            Err(miss) => assert!(miss == Miss::Full && Instant::now() < deadline, "{miss}"),
        }
        std::thread::yield_now();
    }
}

#[test]
fn equal_stacks_have_equal_handles_and_others_do_not() {
    let depot = Depot::builder().expected_stacks(5000).budget_bytes(4 << 20).build_mmap().unwrap();
    let mut handles = HashMap::new();
    for n in 0..5000 {
        let s = stack(n, 40);
        let handle = depot.save(&s, GROW);
        assert!(!handle.is_none());
        assert_eq!(handles.insert(handle, s), None, "a handle of its own");
    }
    for (handle, s) in &handles {
        assert_eq!(depot.save(s, Flags::NONE), *handle);
        assert_eq!(fetch(&depot, *handle).as_ref(), Ok(s));
    }
    assert_eq!(depot.stats().stacks(), 5000);
}

#[test]
fn a_prefix_is_another_stack() {
    let depot = small();
    let s = stack(1, 1).repeat(20);
    let handles: Vec<_> = (1..=s.len()).map(|n| depot.save(&s[..n], GROW)).collect();
    for (i, a) in handles.iter().enumerate() {
        assert_eq!(fetch(&depot, *a).unwrap().len(), i + 1);
        assert!(handles[..i].iter().all(|b| a != b));
    }
}

#[test]
fn references_are_counted_until_the_last_put() {
    let depot = small();
    let handle = depot.save(&[1, 2, 3], GET | GROW);
    assert_eq!(depot.save(&[1, 2, 3], GET), handle);
    assert_eq!(depot.get(handle), Ok(()));
    assert_eq!(depot.iter().next(), Some(Entry { handle, refs: Refs::Counted(3), depth: 3 }));
    assert_eq!(depot.put(handle), Ok(Put::Released));
    assert_eq!(depot.put(handle), Ok(Put::Released));
    assert_eq!(fetch(&depot, handle), Ok(vec![1, 2, 3]));
    assert_eq!(depot.put(handle), Ok(Put::Evicted));
    assert_eq!(fetch(&depot, handle), Err(FetchError::Evicted));
    assert_eq!(depot.get(handle), Err(PutError::Unbalanced));
    assert_eq!(depot.iter().next(), None);
    let stats = depot.stats();
    assert_eq!((stats.allocated, stats.freed, stats.in_use(), stats.free_records), (1, 1, 0, 1));
}

#[test]
fn an_evicted_stack_can_be_saved_again() {
    let depot = small();
    for round in 0..100 {
        let handle = depot.save(&[7, 8, 9], GET | GROW);
        assert_eq!(fetch(&depot, handle), Ok(vec![7, 8, 9]), "round {round}");
        assert_eq!(depot.put(handle), Ok(Put::Evicted));
    }
    let stats = depot.stats();
    assert!(stats.reused > 0, "places are used again: {stats:?}");
    assert_eq!(stats.corrupt, 0);
}

#[test]
fn churn_stays_within_a_small_budget() {
    let depot =
        Depot::builder().buckets_log2(4).budget_bytes(64 << 10).max_depth(16).build_mmap().unwrap();
    for n in 0..20_000 {
        let s = stack(n, 16);
        let handle = save_patiently(&depot, &s);
        assert_eq!(
            fetch(&depot, handle),
            Ok(s),
            "save {n} of a depot that holds one stack at a time"
        );
        assert_eq!(depot.put(handle), Ok(Put::Evicted));
    }
    assert_eq!(depot.stats().misses(), depot.stats().full);
}

#[test]
fn persistent_stacks_ignore_puts() {
    let depot = small();
    let handle = depot.save(&[1], GROW);
    assert_eq!(depot.put(handle), Ok(Put::Persistent));
    assert_eq!(depot.save(&[1], GET), handle);
    assert_eq!(depot.put(handle), Ok(Put::Persistent));
    assert_eq!(depot.iter().next().map(|e| e.refs), Some(Refs::Persistent));
}

#[test]
fn without_eviction_everything_is_persistent() {
    let depot = Depot::builder().budget_bytes(1 << 20).no_eviction().build_mmap().unwrap();
    let handle = depot.save(&[1, 2], GET | GROW);
    assert_eq!(depot.put(handle), Ok(Put::Persistent));
    assert_eq!(depot.iter().next().map(|e| e.refs), Some(Refs::Persistent));
    assert_eq!((depot.stats().persistent, depot.stats().persistent_bytes), (1, 24));
}

#[test]
fn nothing_saved_is_handle_none_with_a_reason() {
    let depot = small();
    assert_eq!(depot.try_save(&[], GROW), Err(Miss::Empty));
    depot.set_enabled(false);
    assert_eq!(depot.try_save(&[1], GROW), Err(Miss::Disabled));
    assert_eq!(depot.save(&[1], GROW), Handle::NONE);
    depot.set_enabled(true);
    assert!(depot.try_save(&[1], GROW).is_ok());
    let stats = depot.stats();
    assert_eq!((stats.empty, stats.disabled, stats.misses()), (1, 2, 3));
}

#[test]
fn a_full_depot_says_so_and_keeps_what_it_has() {
    let depot = Depot::builder().buckets_log2(4).budget_bytes(64 << 10).build_mmap().unwrap();
    let mut saved = Vec::new();
    let mut n = 0;
    let miss = loop {
        match depot.try_save(&stack(n, 30), GROW) {
            Ok(handle) => saved.push((handle, n)),
            Err(miss) => break miss,
        }
        n += 1;
    };
    assert_eq!(miss, Miss::Full);
    assert!(saved.len() > 200);
    for (handle, n) in &saved {
        assert_eq!(fetch(&depot, *handle), Ok(stack(*n, 30)));
        assert_eq!(depot.save(&stack(*n, 30), Flags::NONE), *handle);
    }
    let stats = depot.stats();
    assert_eq!((stats.full, stats.stacks()), (1, saved.len() as u64));
    assert!(stats.fixed_bytes + stats.pool_used_bytes <= stats.budget_bytes);
}

#[test]
fn a_full_depot_goes_on_with_evicted_places() {
    // Enough buckets: one that is full needs fresh memory to go on.
    let depot = Depot::builder().buckets_log2(8).budget_bytes(64 << 10).build_mmap().unwrap();
    let frames = |n: u64| [n, 2, 3, 4, 5, 6, 7, 8];
    let saved: Vec<_> =
        (0..).map(|n| depot.save(&frames(n), GET | GROW)).take_while(|h| !h.is_none()).collect();
    for handle in &saved {
        assert_eq!(depot.put(*handle), Ok(Put::Evicted));
    }
    for n in 0..saved.len() as u64 {
        save_patiently(&depot, &frames(10_000 + n));
    }
}

#[test]
fn growth_only_with_permission() {
    let depot = Depot::builder()
        .buckets_log2(2)
        .budget_bytes(1 << 20)
        .pool_bytes(64 << 10)
        .build_mmap()
        .unwrap();
    let mut n = 0;
    let miss = loop {
        match depot.try_save(&stack(n, 30), Flags::NONE) {
            Ok(_) => n += 1,
            Err(miss) => break miss,
        }
    };
    assert_eq!(miss, Miss::GrowthRefused);
    let before = depot.stats();
    assert_eq!(before.growth_refused, 1);
    assert!(!depot.save(&stack(n, 30), GROW).is_none());
    assert!(depot.stats().pool_bytes > before.pool_bytes);
    assert!(!depot.save(&stack(n + 1, 30), Flags::NONE).is_none(), "there is room again");
}

#[test]
fn pools_are_mapped_ahead_of_need() {
    let depot = Depot::builder()
        .buckets_log2(6)
        .budget_bytes(4 << 20)
        .pool_bytes(64 << 10)
        .build_mmap()
        .unwrap();
    // Whoever may grow leaves room behind for a few who may not.
    for n in 0..4000 {
        assert!(!depot.save(&stack(2 * n, 30), GROW).is_none());
        assert!(
            !depot.save(&stack(2 * n + 1, 30), Flags::NONE).is_none(),
            "save {n} without permission"
        );
    }
}

#[test]
fn overflowing_buckets_keep_every_stack() {
    let depot = Depot::builder().buckets_log2(0).budget_bytes(2 << 20).build_mmap().unwrap();
    let handles: Vec<_> = (0..600).map(|n| depot.save(&stack(n, 20), GET | GROW)).collect();
    for (n, handle) in handles.iter().enumerate() {
        assert_eq!(depot.save(&stack(n as u64, 20), Flags::NONE | GET), *handle);
    }
    assert_eq!(depot.stats().overflow_buckets, 49, "one bucket and 49 more hold 600 stacks");
    assert_eq!(depot.iter().count(), 600);
    for handle in &handles {
        assert_eq!(depot.put(*handle), Ok(Put::Released));
        assert_eq!(depot.put(*handle), Ok(Put::Evicted));
    }
    assert_eq!(depot.iter().count(), 0);
    // Emptied slots are used again.
    (0..600).for_each(|n| assert!(!depot.save(&stack(1000 + n, 20), GET | GROW).is_none()));
    assert_eq!(depot.stats().overflow_buckets, 49);
}

#[test]
fn fetch_says_what_is_wrong() {
    let depot = small();
    let handle = depot.save(&[1, 2, 3, 4, 5], GROW);
    let mut buf = [0; 64];
    assert_eq!(depot.fetch(Handle::NONE, &mut buf), Err(FetchError::NoHandle));
    assert_eq!(depot.fetch(handle, &mut buf[..4]), Err(FetchError::BufferTooShort(5)));
    assert_eq!(depot.fetch(handle, &mut buf[..5]), Ok(&[1, 2, 3, 4, 5][..]));
    for bits in [
        1,
        2,
        handle.to_bits() + 1,
        handle.to_bits() - 1,
        handle.to_bits() + 2,
        0x07ff_ffff,
        0xffff_ffff,
    ] {
        assert!(depot.fetch(Handle::from_bits(bits), &mut buf).is_err(), "{bits:#x}");
    }
}

#[test]
fn user_bits_do_not_matter() {
    let depot = small();
    let handle = depot.save(&[1, 2, 3], GET | GROW);
    for extra in 0..32 {
        let marked = handle.with_extra(extra);
        assert_eq!(marked.extra(), extra);
        assert_eq!(fetch(&depot, marked), Ok(vec![1, 2, 3]));
        depot.get(marked).unwrap();
        assert_eq!(depot.put(marked), Ok(Put::Released));
    }
    assert_eq!(depot.put(handle.with_extra(9)), Ok(Put::Evicted));
}

#[test]
fn wild_puts_are_refused() {
    let depot = small();
    let handle = depot.save(&[1, 2, 3], GET | GROW);
    assert_eq!(depot.put(Handle::NONE), Ok(Put::Ignored));
    for bits in [1, 0x07ff_ffff, u32::MAX, 64] {
        assert!(depot.put(Handle::from_bits(bits)).is_err(), "{bits:#x}");
        assert!(depot.get(Handle::from_bits(bits)).is_err(), "{bits:#x}");
    }
    assert_eq!(depot.get(Handle::NONE), Err(PutError::BadHandle));
    assert_eq!(fetch(&depot, handle), Ok(vec![1, 2, 3]));
    assert_eq!(depot.stats().bad_puts, 9);
}

#[test]
fn iteration_and_counters_agree_after_random_use() {
    let depot = small();
    let mut rng = Rng(1);
    // The oracle: references by stack number; u64::MAX when persistent.
    let mut expected: HashMap<u64, (Handle, u64)> = HashMap::new();
    for _ in 0..20_000 {
        let n = rng.below(300);
        match rng.below(20) {
            0..9 => {
                let handle = depot.save(&stack(n, 20), GET | GROW);
                let e = expected.entry(n).or_insert((handle, 0));
                assert_eq!(e.0, handle);
                e.1 = e.1.saturating_add(1);
            }
            9 if n < 20 => {
                let handle = depot.save(&stack(n, 20), GROW);
                let e = expected.entry(n).or_insert((handle, 0));
                assert_eq!(e.0, handle);
                e.1 = u64::MAX;
            }
            _ => {
                let Some((handle, refs)) = expected.get_mut(&n) else { continue };
                let put = depot.put(*handle).unwrap();
                match *refs {
                    u64::MAX => assert_eq!(put, Put::Persistent),
                    1 => {
                        assert_eq!(put, Put::Evicted);
                        expected.remove(&n);
                    }
                    _ => {
                        assert_eq!(put, Put::Released);
                        *refs -= 1;
                    }
                }
            }
        }
    }
    let found: HashMap<Handle, Refs> = depot.iter().map(|e| (e.handle, e.refs)).collect();
    assert_eq!(found.len(), expected.len());
    for (n, (handle, refs)) in &expected {
        let want = if *refs == u64::MAX { Refs::Persistent } else { Refs::Counted(*refs as u32) };
        assert_eq!(found.get(handle), Some(&want));
        assert_eq!(fetch(&depot, *handle), Ok(stack(*n, 20)));
    }
    let stats = depot.stats();
    assert_eq!(stats.stacks() as usize, expected.len());
    assert_eq!(stats.persistent as usize, expected.values().filter(|e| e.1 == u64::MAX).count());
    assert_eq!((stats.misses(), stats.bad_puts, stats.corrupt), (0, 0, 0));
}

#[test]
fn stacks_as_text() {
    let depot = small();
    let handle = depot.save(&[0x1000, 0x2abc], GROW);
    let names = |addr: u64, f: &mut std::fmt::Formatter<'_>| {
        if addr == 0x1000 { f.write_str("main") } else { f.write_str("?") }
    };
    assert_eq!(
        depot.display(handle, names).to_string(),
        "#0   0x0000000000001000 main\n#1   0x0000000000002abc ?"
    );
    assert_eq!(depot.display(Handle::NONE, names).to_string(), "<no stack was saved>");
}

#[test]
fn the_layout_costs_what_the_documentation_says() {
    let log2 = |stacks| {
        let bytes = Depot::builder()
            .expected_stacks(stacks)
            .budget_bytes(600 << 20)
            .build_mmap()
            .unwrap()
            .stats()
            .fixed_bytes;
        (bytes / 64).ilog2()
    };
    assert_eq!([1_000, 100_000, 1_000_000].map(log2), [7, 14, 17]);
    // The emptiest and the fullest table that `expected_stacks` makes.
    for stacks in [47_514, 47_515, 95_000] {
        let depot = Depot::builder()
            .expected_stacks(stacks)
            .budget_bytes(64 << 20)
            .no_eviction()
            .build_mmap()
            .unwrap();
        let mut frames = [0; 16];
        for n in 0..stacks as u64 {
            frames[3] = n;
            assert!(!depot.save(&frames, GROW).is_none());
        }
        let stats = depot.stats();
        let bytes = (stats.fixed_bytes + stats.pool_used_bytes) as f64 / stacks as f64;
        assert!(bytes <= 1.15 * 128.0, "{stacks} stacks: {bytes} bytes for each of 16 frames");
    }
}
