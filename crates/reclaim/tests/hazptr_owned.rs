//! `AtomicOwned`: who has an object when, and that nobody loses it or has it twice.
#![cfg(not(loom))]

use reclaim::hazptr::{AtomicOwned, Domain, HazardPointer, Owned, scope};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::thread;

const ALIVE: u64 = 0xA11C_E5A1_1CE5_A11C;

#[derive(Debug)]
struct Object {
    canary: AtomicU64,
    value: u64,
    drops: Arc<AtomicUsize>,
}

impl Object {
    fn new(value: u64, drops: &Arc<AtomicUsize>) -> Self {
        Self { canary: AtomicU64::new(ALIVE), value, drops: Arc::clone(drops) }
    }

    fn check(&self) -> u64 {
        assert_eq!(self.canary.load(Ordering::Relaxed), ALIVE, "dropped under a reader");
        self.value
    }
}

impl Drop for Object {
    fn drop(&mut self) {
        assert_eq!(self.canary.swap(0, Ordering::Relaxed), ALIVE, "dropped twice");
        self.drops.fetch_add(1, Ordering::SeqCst);
    }
}

fn count(drops: &Arc<AtomicUsize>) -> usize {
    drops.load(Ordering::SeqCst)
}

#[test]
fn swap_gives_what_was_there() {
    let (d, domain) = (Arc::default(), Domain::new());
    let cell = AtomicOwned::null();
    assert!(cell.is_null() && cell.take().is_none());
    assert!(cell.swap(Some(Owned::new(Object::new(1, &d)))).is_none());
    let old = cell.swap(Some(Object::new(2, &d).into())).unwrap();
    assert_eq!((old.check(), count(&d)), (1, 0));
    old.retire_to(&domain);
    assert_eq!((domain.reclaim(), count(&d)), (1, 1));
    let last = cell.take().unwrap().wait().unwrap();
    let last = last.into_inner();
    assert_eq!((last.check(), count(&d)), (2, 1));
    drop(last);
    assert_eq!(count(&d), 2);
}

#[test]
fn what_is_protected_outlives_its_cell() {
    let (d, domain) = (Arc::default(), Domain::new());
    let cell = AtomicOwned::new(Object::new(1, &d));
    let mut hp = HazardPointer::new();
    let seen = cell.load(&mut hp).unwrap();
    cell.take().unwrap().retire_to(&domain);
    drop(cell);
    assert_eq!((domain.reclaim(), seen.check(), count(&d)), (0, 1, 0));
    hp.reset();
    assert_eq!((domain.reclaim(), count(&d)), (1, 1));
}

#[test]
fn compare_exchange_means_the_object_and_not_its_value() {
    let d = Arc::default();
    let cell = AtomicOwned::new(Object::new(1, &d));
    let (mut a, mut b) = (HazardPointer::new(), HazardPointer::new());
    let seen = cell.load(&mut a);
    // An equal object elsewhere, and null, are not it; `new` comes back.
    let other = Object::new(1, &d);
    let new = cell.compare_exchange(Some(&other), Some(Object::new(2, &d).into())).unwrap_err();
    let new = cell.compare_exchange(None, new).unwrap_err();
    let old = cell.compare_exchange(seen, new).unwrap().unwrap();
    assert!(std::ptr::eq(&*old, seen.unwrap()));
    assert_eq!(cell.load(&mut b).unwrap().check(), 2);
    // It was replaced: the same comparison fails now.
    assert!(cell.compare_exchange(seen, None).is_err());
    let old = old.wait().expect_err("this thread protects it");
    a.reset();
    drop(old.wait().expect("nobody does"));
    let seen = cell.load(&mut a);
    assert!(cell.compare_exchange(seen, None).unwrap().is_some() && cell.is_null());
    assert!(cell.compare_exchange(None, Some(Object::new(3, &d).into())).unwrap().is_none());
    drop((cell, other));
    Domain::global().barrier();
    // The second is still protected, by `a` and `b`.
    assert_eq!(count(&d), 3);
    drop((a, b));
    Domain::global().barrier();
    assert_eq!(count(&d), 4);
}

#[test]
fn values_of_size_zero() {
    static DROPS: AtomicUsize = AtomicUsize::new(0);
    struct Nothing;
    impl Drop for Nothing {
        fn drop(&mut self) {
            DROPS.fetch_add(1, Ordering::SeqCst);
        }
    }
    let cell = AtomicOwned::new(Nothing);
    let mut hp = HazardPointer::new();
    let seen = cell.load(&mut hp);
    let old = cell.compare_exchange(seen, Some(Owned::new(Nothing))).ok().unwrap().unwrap();
    let old = old.wait().err().expect("this thread protects it");
    assert_eq!(DROPS.load(Ordering::SeqCst), 0);
    drop(old);
    hp.reset();
    drop(cell);
    Domain::global().barrier();
    assert_eq!(DROPS.load(Ordering::SeqCst), 2);
}

/// More threads than CPUs add to one number by `update`, others read, one takes and waits.
#[test]
fn nothing_is_lost_or_had_twice() {
    const WRITERS: u64 = 6;
    const ADDS: u64 = 3000;
    let d = Arc::<AtomicUsize>::default();
    let made = AtomicUsize::new(1);
    let cell = AtomicOwned::new(Object::new(0, &d));
    let done = AtomicUsize::new(0);
    thread::scope(|s| {
        for _ in 0..WRITERS {
            s.spawn(|| {
                let mut hp = HazardPointer::new();
                for i in 0..ADDS {
                    let old = cell.update(&mut hp, |seen| {
                        made.fetch_add(1, Ordering::Relaxed);
                        Some(Object::new(seen.unwrap().check() + 1, &d).into())
                    });
                    let old = old.unwrap();
                    // Each number is replaced once. Some are waited for, the others retired.
                    if i % 64 == 0 {
                        drop(old.wait().expect("`update` has let go of it"));
                    }
                }
                done.fetch_add(1, Ordering::SeqCst);
            });
        }
        for _ in 0..2 {
            s.spawn(|| {
                let mut last = 0;
                while done.load(Ordering::SeqCst) < WRITERS as usize {
                    let now = scope(|hp| cell.load(hp).unwrap().check());
                    assert!(now >= last, "{now} after {last}");
                    last = now;
                }
            });
        }
    });
    assert_eq!(scope(|hp| cell.load(hp).unwrap().check()), WRITERS * ADDS);
    drop(cell);
    Domain::global().barrier();
    assert_eq!(count(&d), made.load(Ordering::Relaxed));
}

/// An object may own others: its end retires them, from a deleter, and a barrier goes down the
/// chain.
#[test]
fn a_list_of_nodes_that_own_each_other() {
    struct Node {
        object: Object,
        next: AtomicOwned<Node>,
    }
    let d = Arc::default();
    let mut top: Option<Owned<Node>> = None;
    for value in 0..1000 {
        let node = Owned::new(Node { object: Object::new(value, &d), next: AtomicOwned::null() });
        assert!(node.next.swap(top).is_none());
        top = Some(node);
    }
    let list = AtomicOwned::from(top.unwrap());
    let mut holders: [HazardPointer; 2] = HazardPointer::array();
    let [first, second] = &mut holders;
    // Hand over hand: a node is protected while the next one is loaded from it.
    let top = list.load(first).unwrap();
    let next = top.next.load(second).unwrap();
    assert_eq!((top.object.check(), next.object.check()), (999, 998));
    drop(list);
    Domain::global().barrier();
    assert_eq!((count(&d), top.object.check(), next.object.check()), (0, 999, 998));
    // The first node goes, the second is still protected, and what it owns is its.
    first.reset();
    Domain::global().barrier();
    assert_eq!((count(&d), next.object.check()), (1, 998));
    drop(holders);
    Domain::global().barrier();
    assert_eq!(count(&d), 1000);
}
