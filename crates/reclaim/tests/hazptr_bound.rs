//! The bound on garbage, as the text of `Domain` states it.
#![cfg(not(loom))]
#![allow(clippy::multiple_unsafe_ops_per_block, reason = "one promise covers the calls of a test body")]

use reclaim::hazptr::{Domain, HazardPointer, Head, Policy};
use std::ptr;
use std::sync::atomic::{AtomicBool, AtomicPtr, AtomicUsize, Ordering};
use std::thread;

struct Tracked {
    head: Head,
    live: &'static AtomicUsize,
}
reclaim::retirable!(Tracked, head);

impl Drop for Tracked {
    fn drop(&mut self) {
        self.live.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Makes and retires objects; returns the most that were retired and not reclaimed at any time.
fn churn(domain: &Domain, live: &'static AtomicUsize, objects: usize) -> usize {
    let mut most = 0;
    for _ in 0..objects {
        let object = Box::into_raw(Box::new(Tracked { head: Head::new(), live }));
        most = most.max(live.fetch_add(1, Ordering::Relaxed) + 1);
        // SAFETY: never published, retired once.
        unsafe { domain.retire(object) };
    }
    most
}

fn leaked_counter() -> &'static AtomicUsize {
    Box::leak(Box::default())
}

#[test]
fn one_stalled_reader_and_300_000_retired_objects() {
    let domain = Domain::new();
    let live = leaked_counter();
    live.store(1, Ordering::Relaxed);
    let src = AtomicPtr::new(Box::into_raw(Box::new(Tracked { head: Head::new(), live })));
    let stop = AtomicBool::new(false);
    let started = AtomicBool::new(false);
    thread::scope(|s| {
        s.spawn(|| {
            let mut hp = HazardPointer::new();
            // SAFETY: `src` holds a live object, unlinked before it is retired.
            let held = unsafe { hp.protect(&src) }.unwrap();
            started.store(true, Ordering::Release);
            while !stop.load(Ordering::Acquire) {
                thread::yield_now();
            }
            assert!(held.live.load(Ordering::Relaxed) >= 1);
        });
        while !started.load(Ordering::Acquire) {
            thread::yield_now();
        }
        // SAFETY: unlinked, retired once.
        unsafe { domain.retire(src.swap(ptr::null_mut(), Ordering::AcqRel)) };
        let most = churn(&domain, live, 300_000);
        let limit = domain.limit();
        assert!(most <= limit && limit == 1000, "{most} unreclaimed, limit {limit}");
        stop.store(true, Ordering::Release);
    });
    domain.barrier();
    assert_eq!(live.load(Ordering::Relaxed), 0);
}

#[test]
fn several_threads_that_retire() {
    const THREADS: usize = 6;
    let domain = Domain::new();
    let live = leaked_counter();
    let most = thread::scope(|s| {
        let threads: Vec<_> = (0..THREADS).map(|_| s.spawn(|| churn(&domain, live, 100_000))).collect();
        threads.into_iter().map(|t| t.join().unwrap()).max().unwrap()
    });
    let limit = domain.limit();
    let bound = limit + (THREADS - 1) * limit / 8;
    assert!(most <= bound, "{most} unreclaimed, bound {bound}");
    domain.barrier();
    assert_eq!((live.load(Ordering::Relaxed), domain.stats().unreclaimed), (0, 0));
}

#[test]
fn a_helper_that_cannot_keep_up_is_helped() {
    static DOMAIN: Domain = Domain::with_policy(Policy::Helper);
    let live = leaked_counter();
    let helper = DOMAIN.spawn_helper().unwrap();
    let most = churn(&DOMAIN, live, 300_000);
    let bound = 2 * DOMAIN.limit() + DOMAIN.limit() / 8;
    drop(helper);
    assert!(most <= bound, "{most} unreclaimed, bound {bound}");
    DOMAIN.barrier();
    assert_eq!(live.load(Ordering::Relaxed), 0);
}
