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
        let pool: ObjectPool<Counted<'_>> = ObjectPool::new(1, |_| Counted::new(&alive)).expect("memory");
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
        ObjectPool::from_builder(ObjectPool::<Counted<'_>, CasLifo>::builder(9), |index| {
            if index < 4 { Ok(Counted::new(&alive)) } else { Err("full") }
        });
    assert_eq!(result.err(), Some(InitError::Init { index: 4, error: "full" }));
    assert_eq!(alive.load(Ordering::Relaxed), 0);
    let panicked = std::panic::catch_unwind(|| {
        let _ =
            ObjectPool::<Counted<'_>, CasLifo>::new(9, |index| if index < 4 { Counted::new(&alive) } else { panic!("as the test wants") });
    });
    assert!(panicked.is_err());
    assert_eq!(alive.load(Ordering::Relaxed), 0);
}

#[test]
fn sizes_of_nothing_are_refused() {
    assert_eq!(ObjectPool::<()>::new(1, |_| ()).err(), Some(BuildError::ObjectSize(0)));
    assert_eq!(ObjectPool::<u8>::new(0, |_| 0).err(), Some(BuildError::Capacity(0)));
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
    let pool: ObjectPool<Counted<'_>, RingArray> = ObjectPool::new(6, |_| Counted::new(&alive)).expect("memory");
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
    let pool: ObjectPool<Counted<'_>> = ObjectPool::new(3, |_| Counted::new(&alive)).expect("memory");
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
    let threads: Vec<_> = guards.into_iter().map(|mut guard| thread::spawn(move || guard.push(1))).collect();
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
