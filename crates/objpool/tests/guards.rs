//! Typed pools and their guards.
#![cfg(not(loom))]

use objpool::{BuildError, CasLifo, InitError, ObjectPool, RingArray};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

/// Counts the living ones.
struct Counted<'a>(&'a AtomicUsize, u32);

impl<'a> Counted<'a> {
    fn new(alive: &'a AtomicUsize) -> Self {
        alive.fetch_add(1, Ordering::Relaxed);
        Self(alive, 0)
    }
}

impl Drop for Counted<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

#[test]
fn values_keep_their_contents_and_are_dropped_once() {
    let alive = AtomicUsize::new(0);
    {
        let pool: ObjectPool<Counted<'_>> =
            ObjectPool::new(1, |_| Counted::new(&alive)).expect("memory");
        pool.pop().expect("one is free").1 = 7;
        {
            let guard = pool.pop().expect("one is free");
            assert_eq!(guard.1, 7);
            assert!(pool.pop().is_none());
        }
        assert_eq!(alive.load(Ordering::Relaxed), 1);
    }
    assert_eq!(alive.load(Ordering::Relaxed), 0);
}

#[test]
fn a_failed_or_panicking_initialiser_drops_what_it_made() {
    let alive = AtomicUsize::new(0);
    let result: Result<ObjectPool<Counted<'_>, CasLifo>, _> =
        ObjectPool::with_list_from(ObjectPool::<Counted<'_>>::builder(9), |index| {
            if index < 4 { Ok(Counted::new(&alive)) } else { Err("full") }
        });
    assert_eq!(result.err(), Some(InitError::Init { index: 4, error: "full" }));
    assert_eq!(alive.load(Ordering::Relaxed), 0);
    let panicked = std::panic::catch_unwind(|| {
        let _ = ObjectPool::<Counted<'_>, CasLifo>::with_list(9, |index| {
            if index < 4 { Counted::new(&alive) } else { panic!("as the test wants") }
        });
    });
    assert!(panicked.is_err());
    assert_eq!(alive.load(Ordering::Relaxed), 0);
}

#[test]
fn a_pool_of_nothing_is_refused() {
    assert_eq!(ObjectPool::new(0, |_| 0_u8).err(), Some(BuildError::Capacity(0)));
}

/// Values without size are counted, dropped and told apart as others are.
#[test]
fn values_without_size_are_values() {
    static DROPS: AtomicUsize = AtomicUsize::new(0);
    #[repr(align(64))]
    struct Token;
    impl Drop for Token {
        fn drop(&mut self) {
            DROPS.fetch_add(1, Ordering::Relaxed);
        }
    }
    let pool = ObjectPool::new(3, |_| Token).expect("memory");
    {
        let all: Vec<_> = std::iter::from_fn(|| pool.pop()).collect();
        let mut addresses: Vec<_> = all.iter().map(|token| (&raw const **token).addr()).collect();
        addresses.sort_unstable();
        addresses.dedup();
        assert_eq!(addresses.len(), 3, "three of them, each somewhere else");
        assert!(addresses.iter().all(|address| address % 64 == 0));
        assert_eq!(pool.statistics().in_use, 3);
    }
    assert_eq!((pool.statistics().in_use, DROPS.load(Ordering::Relaxed)), (0, 0));
    drop(pool.pop().expect("all are back").into_inner());
    assert_eq!(DROPS.load(Ordering::Relaxed), 1);
    drop(pool);
    assert_eq!(DROPS.load(Ordering::Relaxed), 3);
}

/// `ObjectPool::new` and `from_builder` need no type but the value's.
#[test]
fn the_default_free_list_is_inferred() {
    let pool = ObjectPool::new(4, |_| Vec::<u8>::new()).expect("memory");
    assert!(pool.pop().is_some());
    let pool = ObjectPool::from_builder(ObjectPool::<u32>::builder(2), |_| Ok::<_, ()>(7));
    assert_eq!(*pool.expect("memory").pop().expect("free"), 7);
}

#[test]
fn a_value_taken_out_is_the_taker_s() {
    let (alive, released) = (AtomicUsize::new(0), Arc::new(AtomicUsize::new(0)));
    let r = Arc::clone(&released);
    let builder = ObjectPool::<Counted<'_>>::builder(3).on_release(move || {
        r.fetch_add(1, Ordering::Relaxed);
    });
    let pool = ObjectPool::from_builder(builder, |_| Ok::<_, ()>(Counted::new(&alive)));
    let pool = Arc::new(pool.expect("memory"));
    let mine = pool.pop().expect("free").into_inner();
    let other = pool.pop_owned().expect("free").into_inner();
    assert_eq!(Arc::strong_count(&pool), 1, "the share went back");
    let statistics = pool.statistics();
    assert_eq!((statistics.in_use, statistics.detached), (0, 2));
    {
        let last = pool.pop().expect("one is left");
        assert!(pool.pop().is_none());
        pool.close();
        assert_eq!(released.load(Ordering::Relaxed), 0, "one is out");
        drop(last);
    }
    assert_eq!(released.load(Ordering::Relaxed), 1, "the last of the pool is gone");
    drop(pool);
    assert_eq!(alive.load(Ordering::Relaxed), 2);
    drop((mine, other));
    assert_eq!((alive.load(Ordering::Relaxed), released.load(Ordering::Relaxed)), (0, 1));
}

/// The callback does not wait for values that are no longer the pool's.
#[test]
fn a_pool_whose_values_were_all_taken_out_is_released_by_close() {
    let released = Arc::new(AtomicUsize::new(0));
    let r = Arc::clone(&released);
    let builder = ObjectPool::<u8>::builder(2).on_release(move || {
        r.fetch_add(1, Ordering::Relaxed);
    });
    let pool = ObjectPool::from_builder(builder, |_| Ok::<_, ()>(1)).expect("memory");
    assert_eq!(std::iter::from_fn(|| pool.pop().map(|v| v.into_inner())).sum::<u8>(), 2);
    assert_eq!(released.load(Ordering::Relaxed), 0, "the pool is open");
    pool.close();
    assert_eq!(released.load(Ordering::Relaxed), 1);
}

/// Panics in one value's drop, as for a `Vec`: the others are dropped, and the callback runs.
#[test]
fn a_panicking_drop_keeps_no_other_from_being_dropped() {
    struct Bomb<'a>(#[expect(dead_code, reason = "counts by its drop")] Counted<'a>, bool);
    impl Drop for Bomb<'_> {
        fn drop(&mut self) {
            assert!(!self.1, "as the test wants");
        }
    }
    let alive = AtomicUsize::new(0);
    let released = Arc::new(AtomicUsize::new(0));
    let make = |armed: usize| {
        let r = Arc::clone(&released);
        let builder = ObjectPool::<Bomb<'_>>::builder(100).on_release(move || {
            r.fetch_add(1, Ordering::Relaxed);
        });
        let init = |index| Ok::<_, ()>(Bomb(Counted::new(&alive), index == armed));
        ObjectPool::from_builder(builder, init).expect("memory")
    };
    let fails = |f: &mut dyn FnMut()| {
        let caught = std::panic::catch_unwind(std::panic::AssertUnwindSafe(f));
        assert!(caught.is_err(), "the panic is passed on");
    };
    let check = |rounds: usize| {
        assert_eq!(alive.load(Ordering::Relaxed), 0, "all 100 are gone");
        assert_eq!(released.load(Ordering::Relaxed), rounds, "and the pool is released");
    };
    for armed in [0, 50, 99] {
        released.store(0, Ordering::Relaxed);
        let mut pool = Some(make(armed));
        fails(&mut || drop(pool.take()));
        check(1);
        let pool = make(armed);
        fails(&mut || pool.close());
        check(2);
        drop(pool);
        check(2);
        // One is out while the pool closes, and drops last.
        let pool = make(usize::MAX);
        let mut guard = pool.pop();
        guard.as_mut().expect("free").1 = true;
        pool.close();
        fails(&mut || drop(guard.take()));
        check(3);
    }
    // Values that are undone because a later one could not be made.
    let result = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
        let builder = ObjectPool::<Bomb<'_>>::builder(9);
        ObjectPool::from_builder(builder, |index| {
            if index < 6 { Ok(Bomb(Counted::new(&alive), index == 3)) } else { Err("no more") }
        })
        .map(drop)
    }));
    assert!(result.is_err());
    assert_eq!(alive.load(Ordering::Relaxed), 0);
}

#[test]
fn aligned_values_stay_aligned() {
    #[repr(align(128))]
    struct Wide(u8);
    let pool: ObjectPool<Wide> = ObjectPool::new(5, |index| Wide(index as u8)).expect("memory");
    let guards: Vec<_> = std::iter::from_fn(|| pool.pop()).collect();
    assert_eq!(guards.len(), 5);
    assert!(guards.iter().all(|guard| (&raw const **guard).addr().is_multiple_of(128)));
    let mut numbers: Vec<u8> = guards.iter().map(|guard| guard.0).collect();
    numbers.sort_unstable();
    assert_eq!(numbers, [0, 1, 2, 3, 4]);
}

#[test]
fn closed_with_guards_out() {
    let alive = AtomicUsize::new(0);
    let pool: ObjectPool<Counted<'_>, RingArray> =
        ObjectPool::with_list(6, |_| Counted::new(&alive)).expect("memory");
    let (a, b) = (pool.pop().expect("free"), pool.pop().expect("free"));
    pool.close();
    assert_eq!(alive.load(Ordering::Relaxed), 2);
    assert!(pool.pop().is_none());
    drop(a);
    assert_eq!(alive.load(Ordering::Relaxed), 1);
    drop(b);
    assert_eq!(alive.load(Ordering::Relaxed), 0);
}

#[test]
fn a_forgotten_guard_costs_its_value_only() {
    let alive = AtomicUsize::new(0);
    let pool: ObjectPool<Counted<'_>> =
        ObjectPool::new(3, |_| Counted::new(&alive)).expect("memory");
    std::mem::forget(pool.pop());
    assert_eq!(std::iter::from_fn(|| pool.pop().map(std::mem::forget)).count(), 2);
    drop(pool);
    assert_eq!(alive.load(Ordering::Relaxed), 3, "forgotten is forgotten");
}

#[test]
fn owned_guards_outlive_their_pool() {
    let (made, released) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
    let (m, r) = (Arc::clone(&made), Arc::clone(&released));
    let builder = ObjectPool::<Vec<u8>>::builder(4).on_release(move || {
        r.fetch_add(1, Ordering::Relaxed);
    });
    let pool: ObjectPool<Vec<u8>> = ObjectPool::from_builder(builder, |index| {
        m.fetch_add(1, Ordering::Relaxed);
        Ok::<_, ()>(vec![index as u8; 100])
    })
    .expect("memory");
    let pool = Arc::new(pool);
    let guards: Vec<_> = (0..3).map(|_| pool.pop_owned().expect("4 are free")).collect();
    pool.close();
    drop(pool);
    let threads: Vec<_> =
        guards.into_iter().map(|mut guard| thread::spawn(move || guard.push(1))).collect();
    assert!(threads.into_iter().all(|t| t.join().is_ok()));
    assert_eq!((made.load(Ordering::Relaxed), released.load(Ordering::Relaxed)), (4, 1));
}

#[test]
fn guards_travel_between_threads() {
    let pool: ObjectPool<u64> = ObjectPool::new(16, |_| 0).expect("memory");
    thread::scope(|s| {
        for _ in 0..4 {
            s.spawn(|| {
                for _ in 0..500 {
                    if let Some(mut guard) = pool.pop() {
                        *guard += 1;
                        thread::scope(|inner| {
                            if *guard % 50 == 0 {
                                inner.spawn(move || drop(guard));
                            }
                        });
                    }
                }
            });
        }
    });
    let sum: u64 = std::iter::from_fn(|| {
        pool.pop().map(|g| {
            let v = *g;
            std::mem::forget(g);
            v
        })
    })
    .sum();
    assert_eq!(sum, 2000);
}
