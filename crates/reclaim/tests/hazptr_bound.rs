//! The bound on garbage, as the text of `Domain` states it.
#![cfg(not(loom))]
#![allow(clippy::multiple_unsafe_ops_per_block, reason = "one promise covers the calls of a test body")]

#[path = "hazptr_common/garbage.rs"]
mod garbage;

use garbage::{Tracked, churn, leaked_counter};
use reclaim::hazptr::{Domain, HazardPointer, Head, Policy};
use std::ptr;
use std::sync::atomic::{AtomicBool, AtomicPtr, Ordering};
use std::thread;

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
