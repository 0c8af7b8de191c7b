//! What the hazard-pointer calls promise, one test per promise.
#![cfg(not(loom))]
#![allow(
    clippy::multiple_unsafe_ops_per_block,
    reason = "one promise covers the calls of a test body"
)]

mod hazptr_common;

use hazptr_common::{Counted, Fixture, inline, unlink};
use reclaim::hazptr::{self, Domain, HazardPointer, Shared};
use std::ptr;
use std::sync::Arc;
use std::sync::atomic::AtomicPtr;
use std::thread;

#[test]
fn a_protected_object_stays_until_reset() {
    let f = inline();
    let src = AtomicPtr::new(f.object(7));
    let mut hp = HazardPointer::new();
    // SAFETY: `src` holds live objects, unlinked before they are retired.
    let seen = unsafe { hp.protect(&src) }.unwrap();
    f.retire(unlink(&src));
    assert_eq!(f.domain.reclaim(), 0);
    assert_eq!((seen.value, f.drops()), (7, 0));
    hp.reset();
    assert_eq!((f.domain.reclaim(), f.drops()), (1, 1));
}

#[test]
fn null_passes_and_ends_the_former_protection() {
    let f = inline();
    let src = AtomicPtr::new(f.object(7));
    let mut hp = HazardPointer::new();
    // SAFETY: as above.
    assert!(unsafe { hp.protect(&src) }.is_some());
    f.retire(unlink(&src));
    // SAFETY: as above.
    assert!(unsafe { hp.protect(&src) }.is_none());
    assert_eq!(f.domain.reclaim(), 1);
}

#[test]
fn try_protect_reports_the_new_pointer() {
    let f = inline();
    let (old, new) = (f.object(1), f.object(2));
    let src = AtomicPtr::new(new);
    let mut hp = HazardPointer::new();
    // SAFETY: as above; `old` is not dereferenced when it is not what `src` holds.
    assert_eq!(unsafe { hp.try_protect(old, &src) }.map(|o| o.map(|o| o.value)), Err(new));
    f.retire(old);
    assert_eq!(f.domain.reclaim(), 1, "a failed attempt protects nothing");
    // SAFETY: as above.
    assert_eq!(unsafe { hp.try_protect(new, &src) }.map(|o| o.map(|o| o.value)), Ok(Some(2)));
    f.retire(unlink(&src));
    assert_eq!(f.domain.reclaim(), 0);
}

#[test]
fn threads_that_come_and_go_reuse_slots() {
    let f = inline();
    let src = AtomicPtr::new(f.object(9));
    for _ in 0..300 {
        thread::scope(|s| {
            s.spawn(|| {
                let mut hp = HazardPointer::new();
                // SAFETY: as above.
                assert_eq!(unsafe { hp.protect(&src) }.unwrap().value, 9);
            });
        });
    }
    f.domain.reclaim();
    assert!(
        f.domain.limit() <= 2000,
        "300 threads one after the other made slots for a limit of {}",
        f.domain.limit()
    );
    f.retire(unlink(&src));
}

#[test]
fn swap_moves_a_protection_without_a_gap() {
    let f = inline();
    let src = AtomicPtr::new(f.object(1));
    let [mut a, mut b] = HazardPointer::array();
    // SAFETY: as above.
    assert!(unsafe { a.protect(&src) }.is_some());
    std::mem::swap(&mut a, &mut b);
    f.retire(unlink(&src));
    a.reset();
    drop(a);
    assert_eq!(f.domain.reclaim(), 0);
    b.reset();
    assert_eq!(f.domain.reclaim(), 1);
}

#[test]
fn a_protection_goes_to_another_thread_and_outlives_its_first() {
    let f = inline();
    let src = AtomicPtr::new(f.object(5));
    let token = thread::scope(|s| {
        s.spawn(|| {
            // SAFETY: as above.
            unsafe { HazardPointer::new().protect_owned(&src) }.unwrap().detach()
        })
        .join()
        .unwrap()
    });
    f.retire(unlink(&src));
    assert_eq!(f.domain.reclaim(), 0, "in transit, and its first thread is gone");
    let object = token.attach();
    assert_eq!((f.domain.reclaim(), object.value), (0, 5));
    // The slot is a slot like any other from now on.
    let mut hp = object.into_holder();
    assert_eq!(f.domain.reclaim(), 1);
    let next = AtomicPtr::new(f.object(6));
    // SAFETY: as above.
    assert!(unsafe { hp.protect(&next) }.is_some());
    f.retire(unlink(&next));
    assert_eq!(f.domain.reclaim(), 0);
    drop(hp);
    assert_eq!(f.domain.reclaim(), 1);
}

#[test]
fn dropping_a_token_ends_the_protection() {
    let f = inline();
    let src = AtomicPtr::new(f.object(5));
    // SAFETY: as above.
    let token = unsafe { HazardPointer::new().protect_owned(&src) }.unwrap().detach();
    f.retire(unlink(&src));
    thread::scope(|s| s.spawn(|| drop(token)).join().unwrap());
    assert_eq!(f.domain.reclaim(), 1);
}

#[test]
fn protect_owned_gives_the_holder_back_for_null() {
    let src = AtomicPtr::<Counted>::new(ptr::null_mut());
    // SAFETY: null only.
    assert!(unsafe { HazardPointer::new().protect_owned(&src) }.is_err());
}

#[test]
fn wait_free_protection_protects() {
    let f = inline();
    let src = AtomicPtr::new(f.object(3));
    let mut hp = HazardPointer::new();
    // SAFETY: as above.
    let seen = unsafe { hp.protect_wait_free(&src) }.unwrap();
    f.retire(unlink(&src));
    assert_eq!((f.domain.reclaim(), seen.value), (0, 3));
    // SAFETY: as above.
    assert!(unsafe { hp.protect_wait_free(&src) }.is_none());
    assert_eq!(f.domain.reclaim(), 1);
}

#[test]
fn an_announced_pointer_is_kept() {
    let f = inline();
    let object = f.object(3);
    let mut hp = HazardPointer::new();
    hp.announce(object);
    f.retire(object);
    assert_eq!(f.domain.reclaim(), 0);
    hp.announce(ptr::null::<Counted>());
    assert_eq!(f.domain.reclaim(), 1);
}

#[test]
fn scopes_nest_deeper_than_the_stack_of_slots() {
    fn nest(f: &Fixture, sources: &[AtomicPtr<Counted>]) {
        let Some((src, rest)) = sources.split_first() else {
            assert_eq!(f.domain.reclaim(), 0);
            return;
        };
        hazptr::scope(|hp| {
            // SAFETY: as above.
            let object = unsafe { hp.protect(src) }.unwrap();
            f.retire(unlink(src));
            nest(f, rest);
            assert_eq!(object.value, rest.len() as u64);
        });
    }
    let f = inline();
    let sources: Vec<_> = (0..10).rev().map(|i| AtomicPtr::new(f.object(i))).collect();
    nest(&f, &sources);
    assert_eq!(f.domain.reclaim(), 10);
}

#[test]
fn a_scope_keeps_its_slot_while_it_protects_nothing() {
    let f = inline();
    let (a, b) = (AtomicPtr::new(f.object(1)), AtomicPtr::new(f.object(2)));
    let null = AtomicPtr::<Counted>::new(ptr::null_mut());
    hazptr::scope(|outer| {
        // SAFETY: as above.
        assert!(unsafe { outer.protect(&null) }.is_none());
        outer.reset();
        hazptr::scope(|inner| {
            // SAFETY: as above.
            assert!(unsafe { outer.protect(&a) }.is_some());
            // SAFETY: as above.
            assert!(unsafe { inner.protect(&b) }.is_some());
            f.retire(unlink(&a));
            f.retire(unlink(&b));
            assert_eq!(f.domain.reclaim(), 0, "two scopes, two slots");
        });
        assert_eq!(f.domain.reclaim(), 1);
    });
    assert_eq!(f.domain.reclaim(), 1);
}

#[test]
fn reads_nest_and_end() {
    let f = inline();
    let (a, b) = (AtomicPtr::new(f.object(1)), AtomicPtr::new(f.object(2)));
    let null = AtomicPtr::<Counted>::new(ptr::null_mut());
    // SAFETY: as above, for all of them.
    unsafe {
        hazptr::read(&a, |a_seen| {
            f.retire(unlink(&a));
            hazptr::read(&null, |n| {
                assert!(n.is_none());
                hazptr::read(&b, |b_seen| {
                    f.retire(unlink(&b));
                    assert_eq!(f.domain.reclaim(), 0);
                    assert_eq!((a_seen.unwrap().value, b_seen.unwrap().value), (1, 2));
                });
            });
            assert_eq!(f.domain.reclaim(), 1);
        });
    }
    assert_eq!(f.domain.reclaim(), 1);
}

#[test]
fn a_panic_in_a_scope_frees_its_slots() {
    let f = inline();
    for _ in 0..10 {
        let src = AtomicPtr::new(f.object(1));
        let result = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            hazptr::scope_array(|[a, b]| {
                // SAFETY: as above.
                assert!(unsafe { a.protect(&src) }.is_some());
                // SAFETY: as above.
                assert!(unsafe { b.protect(&src) }.is_some());
                std::panic::resume_unwind(Box::new(()));
            })
        }));
        assert!(result.is_err());
        f.retire(unlink(&src));
        assert_eq!(f.domain.reclaim(), 1);
    }
}

#[test]
fn shared_updates_are_not_lost() {
    let cell = Arc::new(Shared::new(0_u64));
    thread::scope(|s| {
        for _ in 0..4 {
            let cell = Arc::clone(&cell);
            s.spawn(move || {
                let mut hp = HazardPointer::new();
                (0..5000).for_each(|_| cell.update(&mut hp, |v| v.map(|v| v + 1)));
            });
        }
    });
    let mut hp = HazardPointer::new();
    assert_eq!(cell.load(&mut hp), Some(&20_000));
    cell.clear();
    assert_eq!(cell.load(&mut hp), None);
    cell.update(&mut hp, |v| v.copied());
    assert_eq!(cell.load(&mut hp), None);
}

#[test]
fn a_value_outlives_its_shared_cell_while_it_is_read() {
    let mut hp = HazardPointer::new();
    let cell = Shared::new(String::from("kept"));
    let seen = cell.load(&mut hp).unwrap();
    drop(cell);
    Domain::global().reclaim();
    assert_eq!(seen, "kept");
}
