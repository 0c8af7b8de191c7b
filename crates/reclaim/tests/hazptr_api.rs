//! What the hazard-pointer calls promise, one test per promise; the traps of the kernel series by name.
#![cfg(not(loom))]
#![allow(clippy::multiple_unsafe_ops_per_block, reason = "one promise covers the calls of a test body")]

use reclaim::hazptr::{self, Domain, HazardPointer, Head, Owner, Policy, Shared};
use std::ptr;
use std::sync::atomic::{AtomicPtr, AtomicUsize, Ordering};
use std::sync::{Arc, Barrier, mpsc};
use std::thread;
use std::time::{Duration, Instant};

/// Counts its drops in a counter of the test's.
struct Counted {
    head: Head,
    value: u64,
    drops: Arc<AtomicUsize>,
}
reclaim::retirable!(Counted, head);

impl Drop for Counted {
    fn drop(&mut self) {
        self.drops.fetch_add(1, Ordering::SeqCst);
    }
}

struct Fixture {
    domain: &'static Domain,
    drops: Arc<AtomicUsize>,
}

impl Fixture {
    fn new(policy: Policy) -> Self {
        Self { domain: Box::leak(Box::new(Domain::with_policy(policy))), drops: Arc::default() }
    }

    fn object(&self, value: u64) -> *mut Counted {
        Box::into_raw(Box::new(Counted { head: Head::new(), value, drops: Arc::clone(&self.drops) }))
    }

    fn retire(&self, object: *mut Counted) {
        // SAFETY: the tests retire objects from `object` once, after unlinking them.
        unsafe { self.domain.retire(object) };
    }

    fn drops(&self) -> usize {
        self.drops.load(Ordering::SeqCst)
    }
}

fn inline() -> Fixture {
    Fixture::new(Policy::Inline)
}

/// Unlinks what `src` holds.
fn unlink<T>(src: &AtomicPtr<T>) -> *mut T {
    src.swap(ptr::null_mut(), Ordering::AcqRel)
}

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
    // Nor do the next few retirements each pay for a round because of the one object that cannot go.
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

/// A deleter that waits until another deleter runs elsewhere: with one lock, or one worker, for all of them it would wait for ever.
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
            let object = Box::into_raw(Box::new(Meets { head: Head::new(), place: Arc::clone(&place) }));
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
    assert!(f.domain.limit() <= 2000, "300 threads one after the other made slots for a limit of {}", f.domain.limit());
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
        let object = Box::into_raw(Box::new(Named { head: Head::new(), wrong: Arc::clone(&wrong), drops: Arc::clone(&drops) }));
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
                let next = Chain { head: Head::new(), rest: self.rest - 1, domain: self.domain, drops: Arc::clone(&self.drops) };
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
    assert!(f.drops() < 100);
    f.domain.reclaim();
    assert_eq!((f.drops(), f.domain.stats().unreclaimed, owner.pending()), (100, 0, 0));
}

#[test]
fn a_dropped_domain_hands_protected_objects_over() {
    let drops = Arc::<AtomicUsize>::default();
    let domain = Domain::new();
    let object = |value| Box::into_raw(Box::new(Counted { head: Head::new(), value, drops: Arc::clone(&drops) }));
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

/// Blocks its deleter until the test lets it go.
struct Slow {
    head: Head,
    entered: mpsc::Sender<()>,
    go: mpsc::Receiver<()>,
}
reclaim::retirable!(Slow, head);

impl Drop for Slow {
    fn drop(&mut self) {
        self.entered.send(()).unwrap();
        self.go.recv().unwrap();
    }
}

fn slow() -> (*mut Slow, mpsc::Receiver<()>, mpsc::Sender<()>) {
    let ((entered, entered_rx), (go_tx, go)) = (mpsc::channel(), mpsc::channel());
    (Box::into_raw(Box::new(Slow { head: Head::new(), entered, go })), entered_rx, go_tx)
}

#[test]
fn barrier_waits_for_rounds_of_other_threads() {
    let f = inline();
    let (object, entered, go) = slow();
    // SAFETY: never published, retired once.
    unsafe { f.domain.retire(object) };
    let passed = AtomicUsize::new(0);
    thread::scope(|s| {
        s.spawn(|| f.domain.reclaim());
        entered.recv().unwrap();
        s.spawn(|| {
            f.domain.barrier();
            passed.store(1, Ordering::SeqCst);
        });
        thread::sleep(Duration::from_millis(30));
        assert_eq!(passed.load(Ordering::SeqCst), 0, "a deleter is still running");
        go.send(()).unwrap();
    });
    assert_eq!(passed.load(Ordering::SeqCst), 1);
}

#[test]
fn barrier_reclaims_all_but_the_protected() {
    let f = inline();
    let src = AtomicPtr::new(f.object(1));
    let mut hp = HazardPointer::new();
    // SAFETY: as above.
    assert!(unsafe { hp.protect(&src) }.is_some());
    f.retire(unlink(&src));
    thread::scope(|s| {
        for _ in 0..4 {
            s.spawn(|| (0..77).for_each(|i| f.retire(f.object(i))));
        }
    });
    f.domain.barrier();
    assert_eq!((f.drops(), f.domain.stats().unreclaimed), (4 * 77, 1));
}

#[test]
fn barrier_in_a_deleter_panics_instead_of_waiting_for_itself() {
    struct Waits {
        head: Head,
        domain: &'static Domain,
    }
    reclaim::retirable!(Waits, head);
    impl Drop for Waits {
        fn drop(&mut self) {
            self.domain.barrier();
        }
    }
    let f = inline();
    // SAFETY: never published, retired once.
    unsafe { f.domain.retire(Box::into_raw(Box::new(Waits { head: Head::new(), domain: f.domain }))) };
    assert!(std::panic::catch_unwind(|| f.domain.reclaim()).is_err());
}

#[test]
fn reclaim_owner_waits_for_its_readers_and_takes_nobody_elses_word() {
    let f = inline();
    let (mine, others) = (Owner::new(), Owner::new());
    let src = AtomicPtr::new(f.object(1));
    let held = AtomicPtr::new(f.object(2));
    let mut hp = HazardPointer::new();
    // SAFETY: as above.
    assert!(unsafe { hp.protect(&held) }.is_some());
    // SAFETY: unlinked, retired once.
    unsafe { f.domain.retire_for(unlink(&held), &others) };
    let (ready_tx, ready_rx) = mpsc::channel();
    thread::scope(|s| {
        let src = &src;
        s.spawn(move || {
            let mut hp = HazardPointer::new();
            // SAFETY: as above.
            assert!(unsafe { hp.protect(src) }.is_some());
            ready_tx.send(()).unwrap();
            thread::sleep(Duration::from_millis(50));
        });
        ready_rx.recv().unwrap();
        // SAFETY: unlinked, retired once.
        unsafe { f.domain.retire_for(unlink(src), &mine) };
        for i in 0..50 {
            // SAFETY: never published, retired once.
            unsafe { f.domain.retire_for(f.object(i), &mine) };
        }
        assert_eq!(mine.pending(), 51);
        let since = Instant::now();
        f.domain.reclaim_owner(&mine);
        assert!(since.elapsed() >= Duration::from_millis(20), "it had a reader to wait for");
    });
    assert_eq!((mine.pending(), others.pending()), (0, 1));
    drop(hp);
    f.domain.reclaim_owner(&others);
    assert_eq!(f.drops(), 52);
}

#[test]
fn an_owner_may_go_before_its_objects() {
    let f = inline();
    let owner = Owner::new();
    // SAFETY: never published, retired once.
    unsafe { f.domain.retire_for(f.object(1), &owner) };
    drop(owner);
    assert_eq!(f.domain.reclaim(), 1);
}

#[test]
fn synchronize_waits_for_one_address() {
    let object = Box::into_raw(Box::new(1_u64));
    let other = Box::into_raw(Box::new(2_u64));
    let (src, unrelated) = (AtomicPtr::new(object), AtomicPtr::new(other));
    let (ready_tx, ready_rx) = mpsc::channel();
    let released = AtomicUsize::new(0);
    thread::scope(|s| {
        let (src, released) = (&src, &released);
        s.spawn(move || {
            let mut hp = HazardPointer::new();
            // SAFETY: as above.
            assert!(unsafe { hp.protect(src) }.is_some());
            ready_tx.send(()).unwrap();
            thread::sleep(Duration::from_millis(30));
            released.store(1, Ordering::SeqCst);
        });
        ready_rx.recv().unwrap();
        let mut hp = HazardPointer::new();
        // SAFETY: as above.
        assert!(unsafe { hp.protect(&unrelated) }.is_some());
        hazptr::synchronize(unlink(src));
        assert_eq!(released.load(Ordering::SeqCst), 1);
    });
    // SAFETY: from a box; nobody protects it.
    drop(unsafe { Box::from_raw(object) });
    // SAFETY: likewise.
    drop(unsafe { Box::from_raw(other) });
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
