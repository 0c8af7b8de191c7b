//! Many slots: the bound grows with them, and a round stays exact beyond what its table holds. A
//! file of its own, because slots are never unmade.
#![cfg(not(loom))]
#![allow(
    clippy::multiple_unsafe_ops_per_block,
    reason = "one promise covers the calls of a test body"
)]

#[path = "hazptr_common/garbage.rs"]
mod garbage;

use garbage::{Tracked, churn, leaked_counter};
use reclaim::hazptr::{Domain, HazardPointer, Head};
use std::ptr;
use std::sync::atomic::{AtomicPtr, AtomicUsize, Ordering};

fn tracked(live: &'static AtomicUsize) -> *mut Tracked {
    live.fetch_add(1, Ordering::Relaxed);
    Box::into_raw(Box::new(Tracked { head: Head::new(), live }))
}

#[test]
fn as_many_holders_as_wanted() {
    let domain = Domain::new();
    let live = leaked_counter();
    let sources: Vec<AtomicPtr<Tracked>> =
        (0..600).map(|_| AtomicPtr::new(tracked(live))).collect();
    let mut holders: Vec<HazardPointer> = sources.iter().map(|_| HazardPointer::new()).collect();
    for (hp, src) in holders.iter_mut().zip(&sources) {
        // SAFETY: `src` holds a live object, unlinked before it is retired.
        assert!(unsafe { hp.protect(src) }.is_some());
    }
    for src in &sources {
        // SAFETY: unlinked, retired once.
        unsafe { domain.retire(src.swap(ptr::null_mut(), Ordering::AcqRel)) };
    }
    domain.reclaim();
    assert_eq!(live.load(Ordering::Relaxed), 600);
    assert!(domain.limit() >= 1200, "the limit grows with the slots");
    // Beyond the snapshot's table: every second one goes, and exactly those.
    holders.iter_mut().step_by(2).for_each(|hp| hp.reset());
    assert_eq!(domain.reclaim(), 300);
    drop(holders);
    assert_eq!(domain.reclaim(), 300);
}

#[test]
fn readers_that_hold_as_much_as_they_can() {
    let domain = Domain::new();
    let live = leaked_counter();
    let mut holders: Vec<HazardPointer> = (0..700).map(|_| HazardPointer::new()).collect();
    for hp in &mut holders {
        let object = tracked(live);
        hp.announce(object);
        // SAFETY: never published, retired once.
        unsafe { domain.retire(object) };
    }
    domain.reclaim();
    let rounds = domain.stats().rounds;
    let most = churn(&domain, live, 100_000);
    let limit = domain.limit();
    assert!(limit >= 1400 && most <= limit, "{most} unreclaimed, limit {limit}");
    let rounds = domain.stats().rounds - rounds;
    assert!(
        rounds <= 100_000 / (limit as u64 / 4),
        "{rounds} rounds: the protected objects must not make each round a small one"
    );
    drop(holders);
    domain.barrier();
    assert_eq!(live.load(Ordering::Relaxed), 0);
}
