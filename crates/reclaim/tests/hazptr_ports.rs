//! What others check of hazard pointers, in their behaviour, on ours.
//!
//! | from | what it checks | here |
//! |---|---|---|
//! | folly `HazptrTest` | construction and destruction of holders, empty and not | `holders_come_and_go` |
//! | folly | moving and swapping holders, with what they protect | `moved_and_swapped_holders_protect` |
//! | folly | holder arrays and local scopes, nested | `arrays_and_nested_scopes` |
//! | folly | `try_protect` failing on change, and the new value | `try_protect_reports_the_change` |
//! | folly | destruction while linked structures retire their children (`recursive_destruction`) | `deleters_retire_children` |
//! | folly | cohorts: reclaimed together, also while others are protected | `cohorts` |
//! | folly | `cleanup` while other threads retire | `barrier_beside_traffic` |
//! | folly | lists and stacks under concurrent readers and writers (`SwmrList`, `WideCAS`, `MRMW`) | `single_writer_list`, `wide_exchange` |
//! | folly | domains apart from each other | `domains_are_apart` |
//! | haphazard `lib`, `feels_good` | protected objects survive, are reclaimed after reset, drops counted | `drops_are_counted_once` |
//! | haphazard | retiring from many threads, all reclaimed at the end | `all_of_many_threads_is_reclaimed` |
//! | haphazard | dropping a domain reclaims | `dropping_a_domain_reclaims` |
//! | seize `recursive_retire`, `reclaim_all` | chains of retires, reclaiming all at once | `deleters_retire_children` |
//! | seize `single_thread`, `stress`, `delayed_retire` | a stack with concurrent push and pop | `treiber_stack` |
//! | seize | retiring on another thread than the one that made it | `retired_elsewhere` |
//! | libcds, C++26 `hazard_pointer` | `reset_protection`, empty holders, protection of null | `holders_come_and_go` |
#![cfg(not(loom))]
#![allow(
    clippy::multiple_unsafe_ops_per_block,
    reason = "one promise covers the calls of a test body"
)]

mod hazptr_common;

use hazptr_common::{Counted, inline, unlink};
use reclaim::hazptr::{
    self, AtomicOwned, Domain, HazardPointer, Head, Owned, Owner, SelfProtected,
};
use std::mem;
use std::ptr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicPtr, AtomicU64, AtomicUsize, Ordering};
use std::thread;

#[test]
fn holders_come_and_go() {
    let f = inline();
    let src = AtomicPtr::new(ptr::null_mut::<Counted>());
    for _ in 0..100 {
        let mut holders: Vec<_> = (0..20).map(|_| HazardPointer::new()).collect();
        for hp in &mut holders {
            // SAFETY: null.
            assert!(unsafe { hp.protect(&src) }.is_none());
            hp.reset();
            hp.reset();
        }
        // Given back in another order than they were taken.
        holders.swap(0, 13);
        drop(holders);
    }
    src.store(f.object(1), Ordering::Release);
    let mut hp = HazardPointer::new();
    // SAFETY: `src` holds a live object, unlinked before it is retired.
    assert_eq!(unsafe { hp.protect(&src) }.map(|o| o.value), Some(1));
    f.retire(unlink(&src));
    assert_eq!(f.domain.reclaim(), 0);
    // A holder that is dropped ends the protection, as a reset does.
    drop(hp);
    assert_eq!((f.domain.reclaim(), f.drops()), (1, 1));
}

#[test]
fn moved_and_swapped_holders_protect() {
    let f = inline();
    let (a, b) = (AtomicPtr::new(f.object(1)), AtomicPtr::new(f.object(2)));
    let (mut first, mut second) = (HazardPointer::new(), HazardPointer::new());
    // SAFETY: live objects, unlinked before they are retired.
    unsafe {
        assert!(first.protect(&a).is_some());
        assert!(second.protect(&b).is_some());
    }
    f.retire(unlink(&a));
    f.retire(unlink(&b));
    mem::swap(&mut first, &mut second);
    let moved = Box::new(first);
    assert_eq!(f.domain.reclaim(), 0);
    // `second` has what was the first's: object 1.
    drop(second);
    assert_eq!((f.domain.reclaim(), f.drops()), (1, 1));
    drop(moved);
    assert_eq!((f.domain.reclaim(), f.drops()), (1, 2));
}

#[test]
fn arrays_and_nested_scopes() {
    let f = inline();
    let sources: [_; 8] = std::array::from_fn(|i| AtomicPtr::new(f.object(i as u64)));
    hazptr::scope_array(|[a, b, c]| {
        // SAFETY: live objects, unlinked before they are retired.
        let seen =
            unsafe { [a.protect(&sources[0]), b.protect(&sources[1]), c.protect(&sources[2])] };
        hazptr::scope_array(|[d, e]| {
            // SAFETY: as above.
            let inner = unsafe { [d.protect(&sources[3]), e.protect(&sources[4])] };
            let mut kept = HazardPointer::array::<3>();
            for (hp, src) in kept.iter_mut().zip(&sources[5..]) {
                // SAFETY: as above.
                assert!(unsafe { hp.protect(src) }.is_some());
            }
            sources.iter().for_each(|src| f.retire(unlink(src)));
            assert_eq!(f.domain.reclaim(), 0);
            assert_eq!(inner.map(|o| o.unwrap().value), [3, 4]);
            drop(kept);
            assert_eq!(f.domain.reclaim(), 3);
        });
        assert_eq!(f.domain.reclaim(), 2);
        assert_eq!(seen.map(|o| o.unwrap().value), [0, 1, 2]);
    });
    assert_eq!((f.domain.reclaim(), f.drops()), (3, 8));
}

#[test]
fn try_protect_reports_the_change() {
    let f = inline();
    let (old, new) = (f.object(1), f.object(2));
    let src = AtomicPtr::new(new);
    let mut hp = HazardPointer::new();
    // SAFETY: `src` holds a live object; `old` is only compared.
    assert_eq!(unsafe { hp.try_protect(old, &src) }.map(|o| o.is_some()), Err(new));
    f.retire(old);
    assert_eq!(f.domain.reclaim(), 1, "a failed attempt protects nothing");
    // SAFETY: as above.
    assert_eq!(unsafe { hp.try_protect(new, &src) }.map(|o| o.unwrap().value), Ok(2));
    f.retire(unlink(&src));
    assert_eq!(f.domain.reclaim(), 0);
    hp.reset();
    assert_eq!(f.domain.reclaim(), 1);
}

/// A tree whose nodes retire their children from their deleters.
#[test]
fn deleters_retire_children() {
    struct Tree {
        head: Head,
        depth: u32,
        domain: &'static Domain,
        drops: Arc<AtomicUsize>,
    }
    reclaim::retirable!(Tree, head);
    impl Tree {
        fn retire(depth: u32, domain: &'static Domain, drops: &Arc<AtomicUsize>) {
            let tree = Self { head: Head::new(), depth, domain, drops: Arc::clone(drops) };
            // SAFETY: from a box, never published, retired once.
            unsafe { domain.retire(Box::into_raw(Box::new(tree))) };
        }
    }
    impl Drop for Tree {
        fn drop(&mut self) {
            self.drops.fetch_add(1, Ordering::SeqCst);
            for _ in 0..3 * u32::from(self.depth > 0) {
                Self::retire(self.depth - 1, self.domain, &self.drops);
            }
        }
    }
    let nodes = (3_usize.pow(8) - 1) / 2;
    for end in [Domain::barrier, Domain::drain] {
        let f = inline();
        Tree::retire(7, f.domain, &f.drops);
        end(f.domain);
        assert_eq!((f.drops(), f.domain.stats().unreclaimed), (nodes, 0));
    }
}

#[test]
fn cohorts() {
    let f = inline();
    let (mine, theirs) = (Owner::new(), Owner::new());
    let src = AtomicPtr::new(f.object(0));
    let mut hp = HazardPointer::new();
    // SAFETY: a live object, unlinked before it is retired.
    assert!(unsafe { hp.protect(&src) }.is_some());
    // SAFETY: unlinked or never published; retired once.
    unsafe { f.domain.retire_for(unlink(&src), &theirs) };
    for i in 1..=50 {
        // SAFETY: as above.
        unsafe { f.domain.retire_for(f.object(i), &mine) };
    }
    // Others' protections do not hold up this owner, nor its own objects another's.
    f.domain.reclaim_owner(&mine);
    assert_eq!((f.drops(), mine.pending(), theirs.pending()), (50, 0, 1));

    // One's own protection is an error and not a hang.
    assert_eq!(f.domain.try_reclaim_owner(&theirs), Err(SelfProtected));
    let panicked =
        std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| f.domain.reclaim_owner(&theirs)));
    assert!(panicked.is_err());
    let address = f.object(51);
    hp.announce(address);
    assert_eq!(hazptr::try_synchronize(address), Err(SelfProtected));
    hp.reset();
    assert_eq!(hazptr::try_synchronize(address), Ok(()));
    f.retire(address);
    assert_eq!(f.domain.try_reclaim_owner(&theirs), Ok(()));
    assert_eq!(theirs.pending(), 0);

    // A protection that came from another thread is this thread's, one that has gone there is not.
    let src = AtomicPtr::new(f.object(52));
    // SAFETY: as above.
    let here = unsafe { HazardPointer::new().protect_owned(&src) }.unwrap();
    let object = unlink(&src);
    // SAFETY: unlinked, retired once.
    unsafe { f.domain.retire_for(object, &mine) };
    let token = here.detach();
    thread::scope(|s| {
        let there = s.spawn(|| {
            let attached = token.attach();
            assert_eq!(f.domain.try_reclaim_owner(&mine), Err(SelfProtected));
            drop(attached);
        });
        f.domain.reclaim_owner(&mine);
        there.join().unwrap();
    });
    assert_eq!(mine.pending(), 0);
}

#[test]
fn barrier_beside_traffic() {
    let f = inline();
    let done = AtomicBool::new(false);
    thread::scope(|s| {
        for _ in 0..3 {
            s.spawn(|| {
                while !done.load(Ordering::Relaxed) {
                    f.retire(f.object(0));
                }
            });
        }
        for _ in 0..200 {
            let drops = Arc::<AtomicUsize>::default();
            let object = Counted { head: Head::new(), value: 1, drops: Arc::clone(&drops) };
            f.retire(Box::into_raw(Box::new(object)));
            f.domain.barrier();
            assert_eq!(drops.load(Ordering::SeqCst), 1);
        }
        done.store(true, Ordering::Relaxed);
    });
}

/// One writer adds and removes at random places, readers walk hand over hand and see a sorted list
/// of live nodes.
#[test]
fn single_writer_list() {
    struct Node {
        key: u64,
        alive: AtomicU64,
        next: AtomicOwned<Node>,
    }
    impl Drop for Node {
        fn drop(&mut self) {
            assert_eq!(self.alive.swap(0, Ordering::Relaxed), 1, "dropped twice");
        }
    }
    let node = |key| Owned::new(Node { key, alive: AtomicU64::new(1), next: AtomicOwned::null() });
    let list = AtomicOwned::<Node>::null();
    let done = AtomicBool::new(false);
    thread::scope(|s| {
        for _ in 0..3 {
            s.spawn(|| {
                while !done.load(Ordering::Relaxed) {
                    hazptr::scope_array(|[first, second]| {
                        let (mut here, mut ahead) = (first, second);
                        let (mut last, mut len) = (0, 0);
                        let mut next = list.load(here).map(ptr::from_ref);
                        // A walk that starts anew after four nodes is enough to be between the
                        // writer's steps; each node is read only while it is protected.
                        while let (Some(at), true) = (next, len < 4) {
                            // SAFETY: protected by `here`, which is not used before `at` was.
                            let at = unsafe { &*at };
                            assert_eq!(
                                at.alive.load(Ordering::Relaxed),
                                1,
                                "dropped under a reader"
                            );
                            assert!(at.key > last, "{} after {last}", at.key);
                            (last, len) = (at.key, len + 1);
                            next = at.next.load(ahead).map(ptr::from_ref);
                            mem::swap(&mut here, &mut ahead);
                        }
                    });
                }
            });
        }
        // Whole lists are built aside and exchanged: nothing in them changes while readers are
        // there.
        for round in 0..3000_u64 {
            let mut top = None;
            for key in (1..=1 + round % 5).rev() {
                let new = node(key * (1 + round));
                assert!(new.next.swap(top).is_none());
                top = Some(new);
            }
            drop(list.swap(top));
        }
        done.store(true, Ordering::Relaxed);
    });
}

/// Pairs that have to belong together, exchanged by all threads.
#[test]
fn wide_exchange() {
    const THREADS: u64 = 4;
    const EACH: u64 = 2000;
    let cell = AtomicOwned::new((0_u64, !0_u64));
    thread::scope(|s| {
        for _ in 0..THREADS {
            s.spawn(|| {
                let mut hp = HazardPointer::new();
                for _ in 0..EACH {
                    loop {
                        let seen = cell.load(&mut hp);
                        let (value, check) = *seen.unwrap();
                        assert_eq!(check, !value);
                        if cell
                            .compare_exchange(seen, Some((value + 1, !(value + 1)).into()))
                            .is_ok()
                        {
                            break;
                        }
                    }
                }
            });
        }
    });
    assert_eq!(hazptr::scope(|hp| cell.load(hp).unwrap().0), THREADS * EACH);
}

#[test]
fn domains_are_apart() {
    let (a, b) = (inline(), inline());
    (0..10).for_each(|i| a.retire(a.object(i)));
    (0..20).for_each(|i| b.retire(b.object(i)));
    b.domain.barrier();
    assert_eq!((a.drops(), b.drops()), (0, 20));
    assert_eq!((a.domain.stats().unreclaimed, b.domain.stats().unreclaimed), (10, 0));
    a.domain.barrier();
    assert_eq!(a.drops(), 10);
}

#[test]
fn drops_are_counted_once() {
    let f = inline();
    let src = AtomicPtr::new(f.object(42));
    let (mut a, mut b) = (HazardPointer::new(), HazardPointer::new());
    // SAFETY: a live object, unlinked before it is retired.
    let (seen_a, seen_b) = unsafe { (a.protect(&src).unwrap(), b.protect(&src).unwrap()) };
    f.retire(src.swap(f.object(9001), Ordering::AcqRel));
    assert_eq!((f.domain.reclaim(), seen_a.value, seen_b.value), (0, 42, 42));
    a.reset();
    assert_eq!((f.domain.reclaim(), seen_b.value), (0, 42));
    // SAFETY: as above.
    assert_eq!(unsafe { b.protect(&src) }.unwrap().value, 9001);
    assert_eq!((f.domain.reclaim(), f.drops()), (1, 1));
    f.retire(unlink(&src));
    drop((a, b));
    f.domain.barrier();
    assert_eq!(f.drops(), 2);
}

#[test]
fn all_of_many_threads_is_reclaimed() {
    let f = inline();
    thread::scope(|s| {
        for t in 0..16 {
            let f = &f;
            s.spawn(move || (0..500).for_each(|i| f.retire(f.object(t * 500 + i))));
        }
    });
    f.domain.barrier();
    assert_eq!((f.drops(), f.domain.stats().unreclaimed), (8000, 0));
}

#[test]
fn dropping_a_domain_reclaims() {
    let (domain, drops) = (Domain::new(), Arc::<AtomicUsize>::default());
    for value in 0..100 {
        let object = Counted { head: Head::new(), value, drops: Arc::clone(&drops) };
        // SAFETY: from a box, never published, retired once.
        unsafe { domain.retire(Box::into_raw(Box::new(object))) };
    }
    drop(domain);
    assert_eq!(drops.load(Ordering::SeqCst), 100);
}

#[test]
fn retired_elsewhere() {
    let f = inline();
    for i in 0..50 {
        let object = AtomicPtr::new(f.object(i));
        let made = object.load(Ordering::Relaxed);
        thread::scope(|s| {
            s.spawn(|| f.retire(unlink(&object)));
        });
        assert!(!made.is_null());
    }
    f.domain.barrier();
    assert_eq!(f.drops(), 50);
}

/// Push and pop by all threads; every value comes out once.
#[test]
fn treiber_stack() {
    struct Node {
        head: Head,
        value: u64,
        next: *mut Node,
    }
    // SAFETY: `next` is only followed under a protection.
    unsafe impl Send for Node {}
    reclaim::retirable!(Node, head);
    const THREADS: u64 = 6;
    const EACH: u64 = 2000;
    let domain = Domain::new();
    let top = AtomicPtr::<Node>::new(ptr::null_mut());
    let push = |value| {
        let node =
            Box::into_raw(Box::new(Node { head: Head::new(), value, next: ptr::null_mut() }));
        loop {
            let next = top.load(Ordering::Relaxed);
            // SAFETY: not published yet.
            unsafe { (*node).next = next };
            if top.compare_exchange(next, node, Ordering::Release, Ordering::Relaxed).is_ok() {
                return;
            }
        }
    };
    let pop = |hp: &mut HazardPointer| loop {
        // SAFETY: nodes are unlinked before they are retired.
        let node = unsafe { hp.protect(&top) }?;
        let (old, next, value) = (ptr::from_ref(node).cast_mut(), node.next, node.value);
        // Protected, so that it is not another node at the same address.
        if top.compare_exchange(old, next, Ordering::Acquire, Ordering::Relaxed).is_ok() {
            hp.reset();
            // SAFETY: from a box, unlinked, retired once.
            unsafe { domain.retire(old) };
            return Some(value);
        }
    };
    let (sum, popped) = (AtomicU64::new(0), AtomicU64::new(0));
    thread::scope(|s| {
        for t in 0..THREADS {
            let (push, pop, sum, popped) = (&push, &pop, &sum, &popped);
            s.spawn(move || {
                let mut hp = HazardPointer::new();
                for i in 0..EACH {
                    push(t * EACH + i);
                    if i % 3 != 0
                        && let Some(value) = pop(&mut hp)
                    {
                        sum.fetch_add(value, Ordering::Relaxed);
                        popped.fetch_add(1, Ordering::Relaxed);
                    }
                }
            });
        }
    });
    let mut hp = HazardPointer::new();
    let rest: Vec<u64> = std::iter::from_fn(|| pop(&mut hp)).collect();
    let all = THREADS * EACH;
    assert_eq!(popped.load(Ordering::Relaxed) + rest.len() as u64, all);
    assert_eq!(sum.load(Ordering::Relaxed) + rest.iter().sum::<u64>(), all * (all - 1) / 2);
    domain.barrier();
    assert_eq!(domain.stats().reclaimed, all);
}
