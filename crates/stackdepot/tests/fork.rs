//! Fork children: of private memory they own a copy, of shared memory they are another process.
#![cfg(not(loom))]

mod common;

use common::{Mapping, in_child, stack};
use stackdepot::{Depot, Flags, Handle, Miss, Put, PutError};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

const GET: Flags = Flags::GET;
const GROW: Flags = Flags::CAN_GROW;

#[test]
fn a_child_of_private_memory_goes_on_alone() {
    let depot = Depot::builder().buckets_log2(4).budget_bytes(4 << 20).build_mmap().unwrap();
    let handle = depot.save(&[1, 2, 3], GET | GROW);
    let code = in_child(|| {
        assert_eq!(depot.save(&[1, 2, 3], GET), handle);
        assert_eq!(depot.put(handle), Ok(Put::Released));
        assert_eq!(depot.put(handle), Ok(Put::Evicted));
        for n in 0..500 {
            let handle = depot.save(&stack(n, 20), GET | GROW);
            assert!(!handle.is_none());
            assert_eq!(depot.put(handle), Ok(Put::Evicted));
        }
        assert!(depot.stats().reused > 0);
        // A grandchild, too.
        in_child(|| if depot.save(&stack(1000, 20), GROW).is_none() { 1 } else { 0 })
    });
    assert_eq!(code, 0);
    assert_eq!(depot.stats().stacks(), 1, "the parent noticed nothing");
    assert_eq!(depot.put(handle), Ok(Put::Evicted));
}

/// The lock bits of threads that did not come along must not stop the child.
#[test]
fn locks_left_behind_by_a_fork_do_not_wedge_the_child() {
    let memory = Mapping::private(1 << 20);
    let depot = Depot::builder().buckets_log2(4).build_in(memory.as_private()).unwrap();
    let table = depot.stats().fixed_bytes as usize / 8 - 16 * 8;
    depot.save(&[1], GET | GROW);
    // Every bucket is locked by the parent's writer, slot 1, and so is every free list.
    (0..16).for_each(|b| _ = memory.word(table + b * 8 + 1).fetch_or(1 << 59, Ordering::Relaxed));
    (0..32).for_each(|c| memory.word(64 + c * 4 + 1).store(1, Ordering::Relaxed));
    assert_eq!(
        depot.try_save(&[2], GROW),
        Err(Miss::Contended),
        "the parent waits for its own holder"
    );
    let code = in_child(|| {
        for n in 0..300 {
            let handle = depot.try_save(&stack(n, 20), GET | GROW).unwrap();
            assert_eq!(depot.put(handle), Ok(Put::Evicted));
        }
        assert!(depot.stats().reused > 0, "free lists work again");
        0
    });
    assert_eq!(code, 0);
}

#[test]
fn forks_in_the_middle_of_everything() {
    let depot = Depot::builder().buckets_log2(1).budget_bytes(4 << 20).build_mmap().unwrap();
    let stop = AtomicBool::new(false);
    thread::scope(|s| {
        for t in 0..3 {
            let (depot, stop) = (&depot, &stop);
            s.spawn(move || {
                let mut n = t;
                while !stop.load(Ordering::Relaxed) {
                    n = (n + 1) % 40;
                    let handle = depot.save(&stack(n, 10), GET | GROW);
                    let _ = depot.put(handle);
                }
            });
        }
        for round in 0..40 {
            let code = in_child(|| {
                let mut buf = [0; 64];
                for n in 0..80 {
                    let frames = stack(n, 10);
                    let Ok(handle) = depot.try_save(&frames, GET | GROW) else { return 1 };
                    if depot.fetch(handle, &mut buf) != Ok(&frames[..]) {
                        return 2;
                    }
                    if depot.put(handle).is_err() {
                        return 3;
                    }
                }
                0
            });
            if code != 0 {
                stop.store(true, Ordering::Relaxed);
                panic!("child {round}: {code}");
            }
        }
        stop.store(true, Ordering::Relaxed);
    });
}

/// Thirty-one writer slots: the numbers come round.
#[test]
fn forty_generations() {
    fn generation(depot: &Depot, left: u64) -> i32 {
        if depot.save(&stack(left, 10), GROW).is_none() {
            return 1;
        }
        if left == 0 { 0 } else { in_child(|| generation(depot, left - 1)) }
    }
    let memory = Mapping::private(1 << 20);
    let depot = Depot::builder().buckets_log2(2).build_in(memory.as_private()).unwrap();
    let table = depot.stats().fixed_bytes as usize / 8 - 4 * 8;
    let code = in_child(|| {
        // Locks with the numbers that the generations will have.
        (0..4).for_each(|b| {
            _ = memory.word(table + b * 8 + 1).fetch_or((b as u64 * 9 + 1) << 59, Ordering::Relaxed)
        });
        generation(&depot, 40)
    });
    assert_eq!(code, 0);
}

/// The parent recycles the records and does not know the child's readers.
#[test]
fn a_child_of_shared_memory_with_eviction_is_refused() {
    let memory = Mapping::shared(1 << 20);
    let depot = Depot::builder().buckets_log2(4).build_in(memory.as_shared()).unwrap();
    let handle = depot.save(&[1, 2, 3], GET | GROW);
    let code = in_child(|| {
        assert_eq!(depot.try_save(&[1, 2, 3], GET), Err(Miss::Disabled));
        assert_eq!(depot.put(handle), Err(PutError::Disabled));
        assert_eq!(depot.get(handle), Err(PutError::Disabled));
        // Reading is always possible.
        let mut buf = [0; 64];
        assert_eq!(depot.fetch(handle, &mut buf), Ok(&[1, 2, 3][..]));
        assert_eq!(memory.reader().unwrap().fetch(handle, &mut buf), Ok(&[1, 2, 3][..]));
        // Not even when the parent's object goes away here: its claim on the region stays.
        // SAFETY: a second owner in the child only, which leaves by _exit.
        drop(unsafe { std::ptr::read(&depot) });
        0
    });
    assert_eq!(code, 0);
    assert_eq!(depot.stats().disabled, 1);
    assert!(
        matches!(in_child(|| Depot::builder().build_in(memory.as_shared()).map_or(7, |_| 8)), 7),
        "the parent still owns the region"
    );
    assert_eq!(depot.put(handle), Ok(Put::Evicted));
}

/// Nothing is recycled: parent and child write together.
#[test]
fn a_child_of_shared_memory_without_eviction_writes_along() {
    let memory = Mapping::shared(4 << 20);
    let depot =
        Depot::builder().buckets_log2(3).no_eviction().build_in(memory.as_shared()).unwrap();
    let save_all = || (0..2000).map(|n| depot.save(&stack(n, 20), GROW)).collect::<Vec<Handle>>();
    let children: Vec<_> = (0..3)
        .map(|_| {
            common::fork(|| {
                let mine = save_all();
                let again = save_all();
                let same =
                    mine.iter().zip(&again).all(|(a, b)| a.is_none() || b.is_none() || a == b);
                if same { 0 } else { 1 }
            })
        })
        .collect();
    save_all();
    assert!(children.into_iter().all(|pid| common::wait(pid) == 0));
    let handles = save_all();
    assert!(handles.iter().all(|h| !h.is_none()));
    assert_eq!(depot.iter().count(), 2000, "each stack once, whichever process came first");
    let mut buf = [0; 64];
    for (n, handle) in handles.iter().enumerate() {
        assert_eq!(depot.fetch(*handle, &mut buf), Ok(&stack(n as u64, 20)[..]));
    }
}
