//! Who runs deleters, when, and what they may do.
#![cfg(not(loom))]
#![allow(
    clippy::multiple_unsafe_ops_per_block,
    reason = "one promise covers the calls of a test body"
)]

mod hazptr_common;

use hazptr_common::{Counted, Fixture, inline, unlink};
use reclaim::hazptr::{self, Domain, HazardPointer, Head, Owner, Policy};
use std::ptr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicPtr, AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

#[test]
fn a_custom_deleter_takes_the_place_of_drop() {
    static RETURNED: AtomicPtr<Counted> = AtomicPtr::new(ptr::null_mut());
    let f = inline();
    let object = f.object(1);
    // SAFETY: never published, retired once; the deleter keeps the object.
    unsafe { f.domain.retire_with(object, |o| RETURNED.store(o, Ordering::Release)) };
    assert_eq!((f.domain.reclaim(), f.drops()), (1, 0));
    let back = RETURNED.load(Ordering::Acquire);
    assert_eq!(back, object);
    // It can be used and retired again.
    f.retire(back);
    assert_eq!((f.domain.reclaim(), f.drops()), (1, 1));
}

#[test]
fn a_boxed_object_needs_no_head() {
    let f = inline();
    let src = AtomicPtr::new(Box::into_raw(Box::new(Arc::clone(&f.drops))));
    let mut hp = HazardPointer::new();
    // SAFETY: as above.
    assert!(unsafe { hp.protect(&src) }.is_some());
    // SAFETY: from a box, unlinked, retired once.
    unsafe { f.domain.retire_box(unlink(&src)) };
    assert_eq!((f.domain.reclaim(), Arc::strong_count(&f.drops)), (0, 2));
    hp.reset();
    assert_eq!((f.domain.reclaim(), Arc::strong_count(&f.drops)), (1, 1));
}

#[test]
fn the_manual_policy_leaves_it_to_the_program() {
    let f = Fixture::new(Policy::Manual);
    (0..5000).for_each(|i| f.retire(f.object(i)));
    assert_eq!((f.drops(), f.domain.stats().unreclaimed), (0, 5000));
    assert_eq!(f.domain.reclaim(), 5000);
    assert_eq!(f.domain.stats().unreclaimed, 0);
}

#[test]
fn retire_deferred_runs_no_deleter() {
    let f = inline();
    for i in 0..5000 {
        // SAFETY: never published, retired once.
        unsafe { f.domain.retire_deferred(f.object(i)) };
    }
    assert_eq!(f.drops(), 0);
    // The next ordinary retirement that counts sees that it is due.
    (0..100).for_each(|i| f.retire(f.object(i)));
    assert!(f.drops() >= 5000);
}

#[test]
fn a_helper_runs_the_deleters() {
    struct Named {
        head: Head,
        wrong: Arc<AtomicUsize>,
        drops: Arc<AtomicUsize>,
    }
    reclaim::retirable!(Named, head);
    impl Drop for Named {
        fn drop(&mut self) {
            let helper = thread::current().name() == Some("hazptr-helper");
            self.wrong.fetch_add(usize::from(!helper), Ordering::SeqCst);
            self.drops.fetch_add(1, Ordering::SeqCst);
        }
    }
    static DOMAIN: Domain = Domain::with_policy(Policy::Helper);
    let (wrong, drops) = (Arc::<AtomicUsize>::default(), Arc::<AtomicUsize>::default());
    let retire = || {
        let object = Box::into_raw(Box::new(Named {
            head: Head::new(),
            wrong: Arc::clone(&wrong),
            drops: Arc::clone(&drops),
        }));
        // SAFETY: never published, retired once.
        unsafe { DOMAIN.retire(object) };
    };
    let helper = DOMAIN.spawn_helper().unwrap();
    assert!(DOMAIN.spawn_helper().is_err(), "one helper per domain");
    for _ in 0..20 {
        // Below twice the limit, so that the retiring thread never has to do it.
        (0..900).for_each(|_| retire());
        let since = Instant::now();
        while DOMAIN.stats().unreclaimed > 100 && since.elapsed() < Duration::from_secs(10) {
            thread::sleep(Duration::from_millis(1));
        }
    }
    drop(helper);
    assert_eq!(drops.load(Ordering::SeqCst), 18_000);
    assert_eq!(wrong.load(Ordering::SeqCst), 0, "deleters ran on a retiring thread");
    // Without a helper the retiring threads do it themselves.
    (0..3000).for_each(|_| retire());
    assert!(wrong.load(Ordering::SeqCst) > 0);
}

#[test]
fn what_deleters_retire_is_reclaimed_later_and_does_not_recurse() {
    struct Chain {
        head: Head,
        rest: u32,
        domain: &'static Domain,
        drops: Arc<AtomicUsize>,
    }
    reclaim::retirable!(Chain, head);
    impl Drop for Chain {
        fn drop(&mut self) {
            self.drops.fetch_add(1, Ordering::SeqCst);
            assert_eq!(self.domain.reclaim(), 0, "a round inside of a round");
            if self.rest > 0 {
                let next = Chain {
                    head: Head::new(),
                    rest: self.rest - 1,
                    domain: self.domain,
                    drops: Arc::clone(&self.drops),
                };
                // SAFETY: never published, retired once.
                unsafe { self.domain.retire(Box::into_raw(Box::new(next))) };
            }
        }
    }
    let f = inline();
    let first = Chain { head: Head::new(), rest: 9, domain: f.domain, drops: Arc::clone(&f.drops) };
    // SAFETY: never published, retired once.
    unsafe { f.domain.retire(Box::into_raw(Box::new(first))) };
    for round in 1..=10 {
        assert_eq!((f.domain.reclaim(), f.drops()), (1, round));
    }
    assert_eq!(f.domain.stats().unreclaimed, 0);

    // A barrier goes down the chain, and so does the end of a domain.
    let first =
        Chain { head: Head::new(), rest: 1999, domain: f.domain, drops: Arc::clone(&f.drops) };
    // SAFETY: never published, retired once.
    unsafe { f.domain.retire(Box::into_raw(Box::new(first))) };
    f.domain.barrier();
    assert_eq!((f.drops(), f.domain.stats().unreclaimed), (2010, 0));
}

#[test]
fn drain_follows_chains_that_other_threads_reclaim() {
    struct Chain {
        head: Head,
        rest: u32,
        domain: &'static Domain,
        drops: Arc<AtomicUsize>,
    }
    reclaim::retirable!(Chain, head);
    impl Drop for Chain {
        fn drop(&mut self) {
            self.drops.fetch_add(1, Ordering::SeqCst);
            if self.rest > 0 {
                let next = Chain {
                    head: Head::new(),
                    rest: self.rest - 1,
                    domain: self.domain,
                    drops: Arc::clone(&self.drops),
                };
                // SAFETY: never published, retired once.
                unsafe { self.domain.retire(Box::into_raw(Box::new(next))) };
            }
        }
    }
    let f = inline();
    let done = AtomicBool::new(false);
    thread::scope(|s| {
        for _ in 0..2 {
            s.spawn(|| {
                while !done.load(Ordering::Relaxed) {
                    f.domain.reclaim();
                }
            });
        }
        for round in 1..=5 {
            for _ in 0..10 {
                let first = Chain {
                    head: Head::new(),
                    rest: 9,
                    domain: f.domain,
                    drops: Arc::clone(&f.drops),
                };
                // SAFETY: never published, retired once.
                unsafe { f.domain.retire(Box::into_raw(Box::new(first))) };
            }
            f.domain.drain();
            assert_eq!((f.drops(), f.domain.stats().unreclaimed), (round * 100, 0));
        }
        done.store(true, Ordering::Relaxed);
    });
}

/// Small ones lie at addresses that could mean something else.
#[test]
fn objects_of_size_zero_are_protected_like_others() {
    static DROPS: AtomicUsize = AtomicUsize::new(0);
    macro_rules! check {
        ($($align:literal)*) => {$({
            #[repr(align($align))]
            struct Nothing;
            impl Drop for Nothing {
                fn drop(&mut self) {
                    DROPS.fetch_add(1, Ordering::SeqCst);
                }
            }
            let f = inline();
            let src = AtomicPtr::new(Box::into_raw(Box::new(Nothing)));
            let mut hp = HazardPointer::new();
            let before = DROPS.load(Ordering::SeqCst);
            // SAFETY: `src` holds a live object.
            assert!(unsafe { hp.protect(&src) }.is_some());
            // SAFETY: from a box, unlinked, retired once.
            unsafe { f.domain.retire_box(unlink(&src)) };
            let now = (f.domain.reclaim(), DROPS.load(Ordering::SeqCst));
            assert_eq!(now, (0, before), "align {}", $align);
            // It holds up nothing else, least of all everything.
            (0..5000).for_each(|i| f.retire(f.object(i)));
            assert!(f.domain.stats().unreclaimed <= 1000, "align {}", $align);
            hp.reset();
            f.domain.barrier();
            assert_eq!((f.drops(), DROPS.load(Ordering::SeqCst)), (5000, before + 1));
            assert_eq!(f.domain.stats().wildcard_rounds, 0);
        })*};
    }
    check!(1 2 4 8 16 4096);
}

/// `announce` is safe, so no pointer may mean "everything", or that the slot is free.
#[test]
fn an_announcement_of_anything_protects_that_and_nothing_else() {
    let addresses = (0..usize::BITS).map(|bit| 1_usize << bit).chain([
        0,
        3,
        usize::MAX - 2,
        usize::MAX - 1,
        usize::MAX,
    ]);
    for address in addresses {
        let f = inline();
        let mut hp = HazardPointer::new();
        hp.announce(ptr::without_provenance::<u8>(address));
        (0..2000).for_each(|i| f.retire(f.object(i)));
        f.domain.barrier();
        assert_eq!((f.drops(), f.domain.stats().wildcard_rounds), (2000, 0), "{address:#x}");
        hazptr::scope(|inner| {
            inner.announce(ptr::without_provenance::<u8>(address));
            // The slot is still this scope's: one inside takes another.
            hazptr::scope(|other| other.reset());
            let seen = format!("{inner:?}");
            assert!(address == 0 || address >= usize::MAX - 1 || seen.contains("Object"), "{seen}");
        });
    }
}

#[test]
fn generic_types_are_retired() {
    struct Pair<A, const N: usize> {
        _values: [A; N],
        head: Head,
    }
    reclaim::retirable!(impl[A: Send + 'static, const N: usize] Pair<A, N>, head);
    let f = inline();
    let values = [Arc::clone(&f.drops), Arc::clone(&f.drops)];
    // SAFETY: from a box, never published, retired once.
    unsafe {
        f.domain.retire(Box::into_raw(Box::new(Pair { _values: values, head: Head::new() })))
    };
    assert_eq!((f.domain.reclaim(), Arc::strong_count(&f.drops)), (1, 1));
}

#[test]
fn a_panicking_deleter_loses_nothing_else() {
    struct Panics {
        head: Head,
        drops: Arc<AtomicUsize>,
        panics: bool,
    }
    reclaim::retirable!(Panics, head);
    impl Drop for Panics {
        fn drop(&mut self) {
            self.drops.fetch_add(1, Ordering::SeqCst);
            if self.panics {
                std::panic::resume_unwind(Box::new("deleter"));
            }
        }
    }
    let f = inline();
    let owner = Owner::new();
    for i in 0..100 {
        let object = Panics { head: Head::new(), drops: Arc::clone(&f.drops), panics: i == 50 };
        // SAFETY: never published, retired once.
        unsafe { f.domain.retire_for(Box::into_raw(Box::new(object)), &owner) };
    }
    assert!(std::panic::catch_unwind(|| f.domain.reclaim()).is_err());
    assert_eq!((f.drops(), f.domain.stats().unreclaimed, owner.pending()), (100, 0, 0));
}

#[test]
fn a_dropped_domain_hands_protected_objects_over() {
    let drops = Arc::<AtomicUsize>::default();
    let domain = Domain::new();
    let object = |value| {
        Box::into_raw(Box::new(Counted { head: Head::new(), value, drops: Arc::clone(&drops) }))
    };
    let src = AtomicPtr::new(object(4));
    let mut hp = HazardPointer::new();
    // SAFETY: as above.
    let seen = unsafe { hp.protect(&src) }.unwrap();
    // SAFETY: unlinked, retired once.
    unsafe { domain.retire(unlink(&src)) };
    // SAFETY: never published, retired once.
    unsafe { domain.retire(object(5)) };
    drop(domain);
    assert_eq!((drops.load(Ordering::SeqCst), seen.value), (1, 4));
    hp.reset();
    Domain::global().barrier();
    assert_eq!(drops.load(Ordering::SeqCst), 2);
}
