//! Panics of callbacks, deleters and drops. The rule, on every path: the others run, then the first
//! panic goes on where a caller asked for the work, and is counted where none did.
#![cfg(not(loom))]
#![allow(
    clippy::multiple_unsafe_ops_per_block,
    reason = "one promise covers the calls of a test body"
)]

use reclaim::cached::{self, CachedArc};
use reclaim::hazptr::{self, HazardPointer, Head, Owner, Policy};
use reclaim::percpu_ref::PercpuRef;
use reclaim::rcu;
use reclaim::srcu::{Srcu, SrcuFast};
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::ptr::NonNull;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicPtr, AtomicUsize, Ordering};
use std::thread;

/// What is thrown, without a message on the terminal: the number of the object.
fn throw(number: u32) -> ! {
    resume_unwind(Box::new(number))
}

/// The number that `f` threw.
fn thrown<R>(f: impl FnOnce() -> R) -> Option<u32> {
    let payload = catch_unwind(AssertUnwindSafe(f)).err()?;
    Some(*payload.downcast::<u32>().expect("a number was thrown"))
}

struct Bomb {
    head: Head,
    number: u32,
    explodes: bool,
    drops: Arc<AtomicUsize>,
}
reclaim::retirable!(Bomb, head);

impl Drop for Bomb {
    fn drop(&mut self) {
        self.drops.fetch_add(1, Ordering::SeqCst);
        if self.explodes {
            throw(self.number);
        }
    }
}

struct Bombs(Arc<AtomicUsize>);

impl Bombs {
    fn new() -> Self {
        Self(Arc::default())
    }

    /// Of ten, numbers 3, 4 and 9 throw, so that the first, a neighbour and the last do.
    fn ten(&self) -> impl Iterator<Item = Box<Bomb>> {
        let drops = Arc::clone(&self.0);
        (0..10).map(move |number| {
            let explodes = matches!(number, 3 | 4 | 9);
            Box::new(Bomb { head: Head::new(), number, explodes, drops: Arc::clone(&drops) })
        })
    }

    fn drops(&self) -> usize {
        self.0.load(Ordering::SeqCst)
    }
}

/// A stack that is used again: what a barrier left on it would be overwritten.
#[inline(never)]
fn scribble(n: u64) -> u64 {
    let mut words = [n; 512];
    for (i, word) in words.iter_mut().enumerate() {
        *word = word.wrapping_mul(0x4141_4141_4141_4141).wrapping_add(i as u64);
    }
    std::hint::black_box(&mut words).iter().fold(0, |all, word| all ^ word)
}

/// The same for each queue of callbacks.
macro_rules! callbacks {
    ($name:ident, $domain:expr) => {
        mod $name {
            use super::*;

            #[test]
            fn barrier_runs_all_and_leaves_nothing_queued() {
                let (domain, bombs) = ($domain, Bombs::new());
                bombs.ten().for_each(|b| domain.defer_drop(b));
                assert_eq!(thrown(|| domain.barrier()), Some(3));
                for i in 0..100 {
                    std::hint::black_box(scribble(i));
                }
                assert_eq!((bombs.drops(), domain.has_callbacks()), (10, false));
                assert_eq!((domain.run_callbacks(), domain.panicked_callbacks()), (0, 3));
            }

            #[test]
            fn drain_runs_all() {
                let (domain, bombs) = ($domain, Bombs::new());
                bombs.ten().for_each(|b| domain.defer_drop(b));
                assert_eq!(thrown(|| domain.drain()), Some(3));
                assert_eq!((bombs.drops(), domain.has_callbacks()), (10, false));
            }

            #[test]
            fn run_callbacks_runs_all() {
                let (domain, bombs) = ($domain, Bombs::new());
                bombs.ten().for_each(|b| domain.defer_drop(b));
                let mut first = None;
                while domain.has_callbacks() {
                    first = first.or(thrown(|| domain.run_callbacks()));
                }
                assert_eq!((first, bombs.drops(), domain.panicked_callbacks()), (Some(3), 10, 3));
            }

            #[test]
            fn defer_drop_that_runs_others_runs_all() {
                let (domain, bombs) = ($domain, Bombs::new());
                bombs.ten().for_each(|b| domain.defer_drop(b));
                let mut first = None;
                for _ in 0..300 {
                    first = first.or(thrown(|| domain.defer_drop(Box::new(0_u8))));
                }
                assert_eq!((first, bombs.drops()), (Some(3), 10));
            }

            #[test]
            fn drop_runs_all() {
                let (domain, bombs) = ($domain, Bombs::new());
                bombs.ten().for_each(|b| domain.defer_drop(b));
                assert_eq!(thrown(|| drop(domain)), Some(3));
                assert_eq!(bombs.drops(), 10);
            }

            #[test]
            fn drop_while_unwinding_does_not_abort() {
                let (domain, bombs) = ($domain, Bombs::new());
                bombs.ten().for_each(|b| domain.defer_drop(b));
                let unwinding = || {
                    let _domain = domain;
                    throw(100);
                };
                assert_eq!(thrown(unwinding), Some(100));
                assert_eq!(bombs.drops(), 10);
            }
        }
    };
}

callbacks!(rcu_domain, rcu::Domain::new());
callbacks!(srcu, Srcu::new());
callbacks!(srcu_fast, SrcuFast::new());

#[test]
fn rcu_helper_goes_on() {
    static DOMAIN: rcu::Domain = rcu::Domain::new();
    let bombs = Bombs::new();
    let helper = rcu::Helper::spawn(&DOMAIN).unwrap();
    for round in 1..=3 {
        bombs.ten().for_each(|b| DOMAIN.defer_drop(b));
        while bombs.drops() < 10 * round {
            thread::yield_now();
        }
    }
    drop(helper);
    assert_eq!(DOMAIN.panicked_callbacks(), 9);
    assert_eq!(thrown(|| DOMAIN.barrier()), None, "the helper's panics are not this caller's");
}

#[test]
fn a_callback_that_queues_and_panics_is_drained() {
    #[repr(C)]
    struct Again {
        head: rcu::Head,
        rest: AtomicUsize,
    }
    static DOMAIN: rcu::Domain = rcu::Domain::new();
    unsafe fn again(head: NonNull<rcu::Head>) {
        // SAFETY: the head of a leaked `Again`.
        let this = unsafe { head.cast::<Again>().as_ref() };
        if this.rest.fetch_sub(1, Ordering::Relaxed) > 1 {
            // SAFETY: leaked, and just off the queue.
            unsafe { DOMAIN.call(head, again) };
        }
        throw(7);
    }
    let object: &Again =
        Box::leak(Box::new(Again { head: rcu::Head::new(), rest: AtomicUsize::new(50) }));
    // SAFETY: leaked, and in no queue.
    unsafe { DOMAIN.call(NonNull::from(object).cast(), again) };
    assert_eq!(thrown(|| DOMAIN.drain()), Some(7));
    assert_eq!((object.rest.load(Ordering::Relaxed), DOMAIN.panicked_callbacks()), (0, 50));
}

fn retire_ten(domain: &hazptr::Domain, bombs: &Bombs) {
    // SAFETY: never published, retired once.
    bombs.ten().for_each(|b| unsafe { domain.retire(Box::into_raw(b)) });
}

fn is_over(domain: &hazptr::Domain, bombs: &Bombs) {
    let stats = domain.stats();
    assert_eq!((bombs.drops(), stats.unreclaimed, stats.panicked), (10, 0, 3));
}

#[test]
fn hazptr_reclaim_and_barriers_run_all() {
    let calls: [fn(&hazptr::Domain); 3] = [|d| _ = d.reclaim(), |d| d.barrier(), |d| d.drain()];
    for call in calls {
        let (domain, bombs) = (hazptr::Domain::new(), Bombs::new());
        retire_ten(&domain, &bombs);
        // The lists are stacks, one per CPU: which is first is not said.
        assert!(matches!(thrown(|| call(&domain)), Some(3 | 4 | 9)));
        is_over(&domain, &bombs);
        assert_eq!(thrown(|| call(&domain)), None);
    }
}

#[test]
fn hazptr_retire_that_reclaims_runs_all() {
    let (domain, bombs) = (hazptr::Domain::new(), Bombs::new());
    retire_ten(&domain, &bombs);
    let mut seen = 0;
    for i in 0..5000_u64 {
        // SAFETY: from a box, never published, retired once.
        let retire = || unsafe { domain.retire_box(Box::into_raw(Box::new(i))) };
        seen += usize::from(thrown(retire).is_some());
    }
    assert_eq!((seen, bombs.drops(), domain.stats().panicked), (1, 10, 3));
}

#[test]
fn hazptr_owner_is_reclaimed_to_the_end() {
    let (domain, bombs, owner) = (hazptr::Domain::new(), Bombs::new(), Owner::new());
    // SAFETY: never published, retired once.
    bombs.ten().for_each(|b| unsafe { domain.retire_for(Box::into_raw(b), &owner) });
    assert!(thrown(|| domain.reclaim_owner(&owner)).is_some());
    assert_eq!(owner.pending(), 0);
    is_over(&domain, &bombs);
}

#[test]
fn hazptr_domain_drop_runs_all_and_hands_over_what_is_protected() {
    let (domain, bombs) = (hazptr::Domain::new(), Bombs::new());
    retire_ten(&domain, &bombs);
    let kept = Bombs::new();
    let object = Bomb { head: Head::new(), number: 0, explodes: false, drops: Arc::clone(&kept.0) };
    let src = AtomicPtr::new(Box::into_raw(Box::new(object)));
    let mut hp = HazardPointer::new();
    // SAFETY: `src` holds a live object.
    assert!(unsafe { hp.protect(&src) }.is_some());
    // SAFETY: unlinked, retired once.
    unsafe { domain.retire(src.swap(std::ptr::null_mut(), Ordering::AcqRel)) };
    assert!(thrown(|| drop(domain)).is_some());
    assert_eq!((bombs.drops(), kept.drops()), (10, 0));
    hp.reset();
    hazptr::Domain::global().barrier();
    assert_eq!(kept.drops(), 1);
}

#[test]
fn hazptr_helper_goes_on() {
    static DOMAIN: hazptr::Domain = hazptr::Domain::with_policy(Policy::Helper);
    let bombs = Bombs::new();
    let helper = DOMAIN.spawn_helper().unwrap();
    for round in 1..=3 {
        retire_ten(&DOMAIN, &bombs);
        // Enough for the objects above to be counted.
        for i in 0..64_u64 {
            // SAFETY: from a box, never published, retired once.
            unsafe { DOMAIN.retire_box(Box::into_raw(Box::new(i))) };
        }
        while bombs.drops() < 10 * round {
            thread::yield_now();
        }
    }
    assert!(DOMAIN.spawn_helper().is_err(), "it is still there");
    drop(helper);
    assert_eq!(DOMAIN.stats().panicked, 9);
}

struct Thrower(bool, Arc<AtomicUsize>);

impl Drop for Thrower {
    fn drop(&mut self) {
        self.1.fetch_add(1, Ordering::SeqCst);
        if self.0 {
            throw(1);
        }
    }
}

/// Many objects that this thread has cached and nobody refers to: at most one for each entry is
/// left.
fn cache(drops: &Arc<AtomicUsize>, throws: bool) -> usize {
    let objects: Vec<_> =
        (0..64).map(|_| CachedArc::new(Thrower(throws, Arc::clone(drops)))).collect();
    objects.iter().for_each(|o| drop(CachedArc::clone(o)));
    let mut thrown_here = 0;
    for object in objects {
        thrown_here += usize::from(thrown(|| drop(object)).is_some());
    }
    thrown_here
}

#[test]
fn cached_objects_are_all_dropped() {
    thread::spawn(|| {
        let drops = Arc::<AtomicUsize>::default();
        cache(&drops, true);
        assert!(drops.load(Ordering::SeqCst) < 64, "some are kept by the cache");
        assert_eq!(thrown(cached::flush_thread), Some(1));
        assert_eq!(drops.load(Ordering::SeqCst), 64);
        assert_eq!(thrown(cached::flush_thread), None);
    })
    .join()
    .unwrap();
}

#[test]
fn cached_objects_of_a_thread_that_ends_are_all_dropped() {
    let drops = Arc::<AtomicUsize>::default();
    let there = Arc::clone(&drops);
    thread::spawn(move || cache(&there, true)).join().unwrap();
    assert_eq!(drops.load(Ordering::SeqCst), 64);
}

#[test]
fn percpu_ref_is_put_when_confirm_panics() {
    let released = Arc::<AtomicBool>::default();
    let there = Arc::clone(&released);
    let refs = PercpuRef::new(move || there.store(true, Ordering::SeqCst));
    assert_eq!(thrown(|| refs.kill_and_confirm(|| throw(5))), Some(5));
    assert!(refs.is_zero() && released.load(Ordering::SeqCst));
}

#[test]
fn percpu_ref_release_that_panics_has_released() {
    let refs = PercpuRef::new(|| throw(6));
    refs.get().unwrap();
    assert_eq!(refs.kill(), Ok(false));
    assert_eq!(thrown(|| refs.put()), Some(6));
    assert!(refs.is_zero());
    assert!(refs.put().is_err(), "nothing is left to put");
}
