//! The bound on garbage, as the text of `Domain` states it. `hazptr_loads` has the table.
#![cfg(not(loom))]
#![allow(
    clippy::multiple_unsafe_ops_per_block,
    reason = "one promise covers the calls of a test body"
)]

#[path = "hazptr_common/garbage.rs"]
mod garbage;

use garbage::{Tracked, churn, leaked_counter};
use reclaim::hazptr::{Domain, HazardPointer, Head, Policy};
use std::ptr;
use std::sync::atomic::{AtomicBool, AtomicPtr, AtomicU64, AtomicUsize, Ordering};
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
        assert!(most <= limit && limit >= 1000, "{most} unreclaimed, limit {limit}");
        stop.store(true, Ordering::Release);
    });
    domain.barrier();
    assert_eq!(live.load(Ordering::Relaxed), 0);
}

/// A thread is preempted, or stopped, in the middle of a deleter: it keeps what it had in hand, and
/// the others stay within the bound for as long as they like.
#[test]
fn threads_that_hang_in_their_deleters() {
    const HANGING: usize = 16;
    static DOMAIN: Domain = Domain::new();
    static HELD: AtomicU64 = AtomicU64::new(0);
    static GO_ON: AtomicBool = AtomicBool::new(false);
    struct Hangs {
        head: Head,
        live: &'static AtomicUsize,
    }
    reclaim::retirable!(Hangs, head);
    impl Drop for Hangs {
        fn drop(&mut self) {
            HELD.fetch_add(1, Ordering::SeqCst);
            while !GO_ON.load(Ordering::Acquire) {
                thread::yield_now();
            }
            self.live.fetch_sub(1, Ordering::Relaxed);
        }
    }
    let live = leaked_counter();
    let most = thread::scope(|s| {
        let mut most = 0;
        for hanging in 1..=HANGING {
            s.spawn(move || {
                live.fetch_add(1, Ordering::Relaxed);
                // SAFETY: never published, retired once.
                unsafe {
                    DOMAIN.retire(Box::into_raw(Box::new(Hangs { head: Head::new(), live })))
                };
                // Whichever thread comes to the object above hangs; until one does, retire.
                while HELD.load(Ordering::SeqCst) < hanging as u64 {
                    churn(&DOMAIN, live, 100);
                }
            });
            while HELD.load(Ordering::SeqCst) < hanging as u64 {
                thread::yield_now();
            }
        }
        for _ in 0..50 {
            most = most.max(churn(&DOMAIN, live, 10_000));
        }
        GO_ON.store(true, Ordering::Release);
        most
    });
    let limit = DOMAIN.limit();
    let bound = limit + HANGING * limit / 8;
    assert!(most <= bound, "{most} unreclaimed, bound {bound}");
    DOMAIN.barrier();
    assert_eq!(live.load(Ordering::Relaxed), 0);
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
