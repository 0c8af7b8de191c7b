//! The traps of the kernel series, one test each. (The wildcard's is beside `round.rs`, where a
//! reader can be stalled; the address dependency's is a model.)
#![cfg(not(loom))]
#![allow(
    clippy::multiple_unsafe_ops_per_block,
    reason = "one promise covers the calls of a test body"
)]

mod hazptr_common;

use hazptr_common::{inline, unlink};
use reclaim::hazptr::{Domain, HazardPointer, Head};
use std::sync::atomic::{AtomicPtr, AtomicUsize, Ordering};
use std::sync::{Arc, Barrier, mpsc};
use std::thread;
use std::time::{Duration, Instant};

#[test]
fn trap_an_emptied_slot_leaves_the_snapshot() {
    let f = inline();
    let src = AtomicPtr::new(f.object(1));
    let mut hp = HazardPointer::new();
    for round in 1..=100 {
        // SAFETY: as above.
        assert!(unsafe { hp.protect(&src) }.is_some());
        f.retire(src.swap(f.object(1), Ordering::AcqRel));
        assert_eq!(f.domain.reclaim(), 0);
        hp.reset();
        assert_eq!(f.domain.reclaim(), 1);
        assert_eq!(f.drops(), round);
    }
    f.retire(unlink(&src));
}

#[test]
fn trap_a_round_that_finds_protection_does_not_requeue_itself() {
    let f = inline();
    let src = AtomicPtr::new(f.object(1));
    let mut hp = HazardPointer::new();
    // SAFETY: as above.
    assert!(unsafe { hp.protect(&src) }.is_some());
    f.retire(unlink(&src));
    f.domain.reclaim();
    let before = f.domain.stats().rounds;
    thread::sleep(Duration::from_millis(20));
    assert_eq!(f.domain.stats().rounds, before);
    // Nor do the next few retirements each pay for a round because of the one object that cannot
    // go.
    (0..60).for_each(|i| f.retire(f.object(i)));
    assert_eq!(f.domain.stats().rounds, before);
}

#[test]
fn trap_a_concurrent_change_is_no_error_in_protect() {
    let f = inline();
    let src = AtomicPtr::new(f.object(0));
    let done = AtomicUsize::new(0);
    thread::scope(|s| {
        s.spawn(|| {
            (1..100_000).for_each(|i| f.retire(src.swap(f.object(i), Ordering::AcqRel)));
            done.store(1, Ordering::Release);
        });
        let mut hp = HazardPointer::new();
        let mut last = 0;
        while done.load(Ordering::Acquire) == 0 {
            // SAFETY: as above.
            let now = unsafe { hp.protect(&src) }.unwrap().value;
            assert!(now >= last, "the source went from {last} back to {now}");
            last = now;
        }
    });
    f.retire(unlink(&src));
}

/// A deleter that waits until another deleter runs elsewhere: with one lock, or one worker, for all
/// of them it would wait for ever.
#[test]
fn trap_deleters_run_in_parallel() {
    struct Meets {
        head: Head,
        place: Arc<Barrier>,
    }
    reclaim::retirable!(Meets, head);
    impl Drop for Meets {
        fn drop(&mut self) {
            self.place.wait();
        }
    }
    let domain = Domain::new();
    let place = Arc::new(Barrier::new(2));
    let (ready_tx, ready_rx) = mpsc::channel();
    thread::scope(|s| {
        for _ in 0..2 {
            let object =
                Box::into_raw(Box::new(Meets { head: Head::new(), place: Arc::clone(&place) }));
            // SAFETY: from a box, never published, retired once.
            unsafe { domain.retire(object) };
            let (domain, ready_tx) = (&domain, ready_tx.clone());
            s.spawn(move || {
                ready_tx.send(()).unwrap();
                assert_eq!(domain.reclaim(), 1);
            });
            ready_rx.recv().unwrap();
            // The round of this thread has its one object in hand before the next is retired.
            let since = Instant::now();
            while domain.stats().rounds == 0 || since.elapsed() < Duration::from_millis(20) {
                thread::yield_now();
            }
        }
    });
}

#[test]
fn trap_thread_exit_does_not_drop_a_live_protection() {
    let f = inline();
    let src = AtomicPtr::new(f.object(9));
    thread::scope(|s| {
        s.spawn(|| {
            let mut hp = HazardPointer::new();
            // SAFETY: as above.
            assert!(unsafe { hp.protect(&src) }.is_some());
            std::mem::forget(hp);
        });
    });
    f.retire(unlink(&src));
    assert_eq!(f.domain.reclaim(), 0, "the holder was leaked, so its protection goes on");
}
