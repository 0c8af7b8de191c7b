//! Another process maps the region: while the writer works, after it was killed, and as its
//! successor.
#![cfg(not(loom))]

mod common;

use common::{Mapping, fork, in_child, kill, stack, wait};
use stackdepot::{Depot, Error, FetchError, Flags, Handle, Put, Refs};
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

const GET: Flags = Flags::GET;
const GROW: Flags = Flags::CAN_GROW;
const UNIVERSE: u64 = 200;
const DEPTH: u64 = 30;

/// Saves and puts for ever with three threads; tells when it has started.
fn churn(memory: &Mapping, started: &AtomicU64) -> ! {
    let depot = Depot::builder().buckets_log2(2).build_in(memory.as_shared()).unwrap();
    for n in 0..UNIVERSE / 4 {
        depot.save(&stack(n, DEPTH), GROW);
    }
    thread::scope(|s| {
        for t in 0..3 {
            let depot = &depot;
            s.spawn(move || {
                let mut rng = common::Rng(t);
                loop {
                    let handle = depot.save(&stack(rng.below(UNIVERSE), DEPTH), GET | GROW);
                    depot.put(handle).unwrap();
                    started.fetch_add(1, Ordering::Relaxed);
                }
            });
        }
    });
    unreachable!()
}

/// A writing child, and a page on which it counts its rounds.
fn writing_child(memory: &Mapping) -> i32 {
    let progress = Mapping::shared(4096);
    let pid = fork(|| churn(memory, progress.word(0)));
    let deadline = Instant::now() + Duration::from_secs(120);
    while progress.word(0).load(Ordering::Relaxed) < 1000 {
        assert!(Instant::now() < deadline, "the writer does not get going");
        thread::yield_now();
    }
    pid
}

#[test]
fn a_reader_sees_whole_stacks_while_another_process_writes() {
    let memory = Mapping::shared(2 << 20);
    let pid = writing_child(&memory);
    let reader = memory.reader().unwrap();
    let whole: std::collections::HashSet<Vec<u64>> =
        (0..UNIVERSE).map(|n| stack(n, DEPTH)).collect();
    let deadline = Instant::now() + Duration::from_secs(2);
    let mut buf = [0; 64];
    let mut fetched = 0u64;
    while Instant::now() < deadline || fetched < 1000 {
        for entry in reader.iter() {
            match reader.fetch(entry.handle, &mut buf) {
                Ok(frames) => {
                    assert!(whole.contains(frames), "a torn copy: {frames:x?}");
                    fetched += 1;
                }
                Err(FetchError::Evicted | FetchError::BadHandle) => {}
                Err(e) => panic!("{e}"),
            }
        }
    }
    kill(pid);
    wait(pid);
}

#[test]
fn a_killed_writer_leaves_a_readable_region_and_a_successor_takes_over() {
    for round in 0..6 {
        let memory = Mapping::shared(2 << 20);
        let pid = writing_child(&memory);
        assert!(matches!(
            Depot::builder().build_in(memory.as_shared()).map(drop),
            Err(Error::Busy(p)) if p == pid as u32
        ));
        thread::sleep(Duration::from_millis(7 * round));
        kill(pid);
        wait(pid);

        // Dead in the middle of whatever it did: everything persistent is there.
        let reader = memory.reader().unwrap();
        let mut buf = [0; 64];
        let persistent: Vec<_> = reader.iter().filter(|e| e.refs == Refs::Persistent).collect();
        assert_eq!(persistent.len() as u64, UNIVERSE / 4);
        for entry in &persistent {
            let frames = reader.fetch(entry.handle, &mut buf).unwrap();
            assert!((0..UNIVERSE).any(|n| stack(n, DEPTH) == frames));
        }

        let depot = Depot::builder().build_in(memory.as_shared()).unwrap();
        for n in 0..UNIVERSE / 4 {
            let handle = depot.try_save(&stack(n, DEPTH), GROW).unwrap();
            assert!(persistent.iter().any(|e| e.handle == handle), "found, not saved again");
        }
        for n in 0..2000 {
            let frames = stack(10_000 + n, DEPTH);
            let handle = depot.try_save(&frames, GET | GROW).unwrap();
            assert_eq!(depot.fetch(handle, &mut buf), Ok(&frames[..]));
            assert_eq!(depot.put(handle), Ok(Put::Evicted));
        }
        let stats = depot.stats();
        assert!(stats.reused > 0);
        assert_eq!(stats.corrupt, 0);
    }
}

#[test]
fn locks_of_a_killed_writer_are_taken_over_without_eviction() {
    let memory = Mapping::shared(1 << 20);
    let table = {
        let depot =
            Depot::builder().buckets_log2(4).no_eviction().build_in(memory.as_shared()).unwrap();
        depot.stats().fixed_bytes as usize / 8 - 16 * 8
    };
    // Slot 7 belongs to a process that is gone.
    let dead = fork(|| 0);
    wait(dead);
    memory.word(32 + 7).store(dead as u64, Ordering::Relaxed);
    (0..16).for_each(|b| _ = memory.word(table + b * 8 + 1).fetch_or(7 << 59, Ordering::Relaxed));
    let depot = Depot::builder().no_eviction().build_in(memory.as_shared()).unwrap();
    for n in 0..200 {
        assert!(depot.try_save(&stack(n, DEPTH), GROW).is_ok());
    }
}

#[test]
fn a_reader_works_on_read_only_memory() {
    let memory = Mapping::shared(1 << 20);
    let handle = {
        let depot = Depot::builder().build_in(memory.as_shared()).unwrap();
        depot.save(&[1, 2, 3], GET | GROW)
    };
    memory.protect();
    let code = in_child(|| {
        let reader = memory.reader().unwrap();
        let mut buf = [0; 64];
        assert_eq!(reader.fetch(handle, &mut buf), Ok(&[1, 2, 3][..]));
        assert_eq!(reader.fetch(Handle::from_bits(99), &mut buf), Err(FetchError::BadHandle));
        assert_eq!(reader.iter().count(), 1);
        assert_eq!(reader.stats().allocated, 1);
        assert_eq!(reader.display(handle, |_, _| Ok(())).to_string().lines().count(), 3);
        0
    });
    assert_eq!(code, 0);
}

#[test]
fn handles_mean_the_same_at_another_address() {
    let memory = Mapping::private(1 << 20);
    let depot = Depot::builder().build_in(memory.as_private()).unwrap();
    let handles: Vec<_> = (0..300).map(|n| depot.save(&stack(n, DEPTH), GROW)).collect();
    drop(depot);
    let moved = memory.copy();
    drop(memory);
    let depot = Depot::builder().build_in(moved.as_private()).unwrap();
    for (n, handle) in handles.iter().enumerate() {
        assert_eq!(depot.save(&stack(n as u64, DEPTH), Flags::NONE), *handle);
    }
}

#[test]
fn a_region_is_opened_as_it_was_made() {
    let memory = Mapping::shared(1 << 20);
    let depot =
        Depot::builder().buckets_log2(3).max_depth(20).build_in(memory.as_shared()).unwrap();
    assert!(matches!(
        Depot::builder().build_in(memory.as_shared()),
        Err(Error::Busy(p)) if p == std::process::id()
    ));
    drop(depot);
    assert!(matches!(
        Depot::builder().no_eviction().build_in(memory.as_shared()),
        Err(Error::Flavour)
    ));
    let depot =
        Depot::builder().buckets_log2(9).max_depth(60).build_in(memory.as_shared()).unwrap();
    assert_eq!(depot.max_depth(), 20, "the region's own shape counts");
    // The caller knows better than the process table.
    std::mem::forget(depot);
    assert!(Depot::builder().build_in(memory.as_shared()).is_err());
    assert!(Depot::builder().take_over(true).build_in(memory.as_shared()).is_ok());
}

#[test]
fn a_half_made_region_is_refused_until_taken_over() {
    let memory = Mapping::shared(1 << 20);
    drop(Depot::builder().build_in(memory.as_shared()).unwrap());
    let magic = memory.word(0).load(Ordering::Relaxed);
    memory.word(0).store(magic + (1 << 56), Ordering::Relaxed);
    assert!(matches!(Depot::builder().build_in(memory.as_shared()), Err(Error::Unfinished)));
    assert!(matches!(memory.reader(), Err(Error::Unfinished)));
    assert!(Depot::builder().take_over(true).build_in(memory.as_shared()).is_ok());
}

/// An executed program has the process id of the one before it, and none of its memory: that one's
/// claims, and its locks, are nobody's.
#[test]
fn a_program_goes_on_after_the_one_that_executed_it() {
    let memory = Mapping::shared(1 << 20);
    for program in 0..40 {
        let depot = Depot::builder()
            .after_exec(true)
            .build_in(memory.as_shared())
            .expect("it is free again");
        let handle = depot.save(&[1, 2, 3], Flags::GET | GROW);
        assert!(!handle.is_none(), "program {program}");
        // As an exec leaves it.
        std::mem::forget(depot);
    }
    assert!(matches!(
        Depot::builder().build_in(memory.as_shared()),
        Err(Error::Busy(p)) if p == std::process::id()
    ));
}

#[test]
fn creators_race_for_one_region() {
    for _ in 0..20 {
        let memory = Mapping::shared(1 << 20);
        let made: Vec<_> = thread::scope(|s| {
            let threads: Vec<_> = (0..4)
                .map(|_| {
                    s.spawn(|| {
                        Depot::builder().no_eviction().buckets_log2(2).build_in(memory.as_shared())
                    })
                })
                .collect();
            threads.into_iter().map(|t| t.join().unwrap()).collect()
        });
        let depots: Vec<_> = made.iter().filter_map(|d| d.as_ref().ok()).collect();
        assert!(!depots.is_empty());
        assert!(made.iter().all(|d| matches!(d, Ok(_) | Err(Error::Unfinished))));
        let handles: Vec<_> = depots.iter().map(|d| d.save(&[1, 2], GROW)).collect();
        assert!(handles.iter().all(|h| !h.is_none() && *h == handles[0]));
    }
}
