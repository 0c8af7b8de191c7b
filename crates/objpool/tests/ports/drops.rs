//! Every value is dropped once, wherever it is when its pool ends: what crossbeam's `drops` and
//! `into_iter_drop` and folly's recycling tests count.

use crate::common::Random;
use objpool::{
    Bitmap, CasLifo, FlagArray, FlatArray, FreeList, ObjectPool, PerCpuList, RingArray, RseqLifo,
};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;

const CAPACITY: usize = 40;

/// Counts its drops by number.
struct Counted {
    number: usize,
    drops: Arc<Vec<AtomicUsize>>,
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.drops[self.number].fetch_add(1, Ordering::Relaxed);
    }
}

fn counters() -> Arc<Vec<AtomicUsize>> {
    Arc::new((0..CAPACITY).map(|_| AtomicUsize::new(0)).collect())
}

fn pool<L: FreeList>(drops: &Arc<Vec<AtomicUsize>>) -> ObjectPool<Counted, L> {
    ObjectPool::with_list(CAPACITY, |number| Counted { number, drops: Arc::clone(drops) })
        .expect("memory")
}

/// Threads pop, push, take out for good, forget; then the pool ends. What was forgotten is never
/// dropped, all else once.
fn each_once<L: FreeList>(closes: bool) {
    for seed in 0..6 {
        let drops = counters();
        let pool = pool::<L>(&drops);
        let (kept, forgotten) = (Mutex::new(Vec::new()), Mutex::new(Vec::new()));
        thread::scope(|s| {
            for who in 0..4 {
                let (pool, kept, forgotten) = (&pool, &kept, &forgotten);
                s.spawn(move || {
                    let mut random = Random::new(seed * 10 + who);
                    let mut mine = Vec::new();
                    for step in 0..400 {
                        mine.extend(pool.pop());
                        match random.below(200) {
                            0 => {
                                let value = mine.pop().map(objpool::Pooled::into_inner);
                                kept.lock().expect("no panic").extend(value);
                            }
                            1 => {
                                if let Some(guard) = mine.pop() {
                                    forgotten.lock().expect("no panic").push(guard.number);
                                    std::mem::forget(guard);
                                }
                            }
                            2..100 => drop(mine.pop()),
                            100..110 => mine.clear(),
                            _ => {}
                        }
                        if closes && who == 0 && step == 300 {
                            pool.close();
                        }
                    }
                });
            }
        });
        let (kept, forgotten) =
            (kept.into_inner().expect("no panic"), forgotten.into_inner().expect("no panic"));
        let count = |number: usize| drops[number].load(Ordering::Relaxed);
        kept.iter().for_each(|value| assert_eq!(count(value.number), 0, "it lives"));
        drop(pool);
        kept.iter().for_each(|value| assert_eq!(count(value.number), 0, "beyond its pool"));
        drop(kept);
        for number in 0..CAPACITY {
            let expected = usize::from(!forgotten.contains(&number));
            assert_eq!(count(number), expected, "{} value {number}", L::NAME);
        }
    }
}

/// Every list, twice.
macro_rules! every_list {
    ($($list:ty),*) => {$(
        each_once::<$list>(false);
        each_once::<$list>(true);
    )*};
}

#[test]
fn each_value_once() {
    every_list!(RseqLifo, FlagArray, Bitmap, PerCpuList, RingArray, FlatArray, CasLifo);
}

/// The last share of a pool is that of a guard on another thread: everything ends there.
#[test]
fn the_last_guard_ends_the_pool() {
    let drops = counters();
    let pool = Arc::new(pool::<RseqLifo>(&drops));
    let guards: Vec<_> = (0..5).map(|_| pool.pop_owned().expect("free")).collect();
    drop(pool);
    let all = |n: usize| drops.iter().all(|count| count.load(Ordering::Relaxed) == n);
    assert!(all(0), "guards keep it");
    thread::spawn(move || drop(guards)).join().expect("no panic");
    assert!(all(1));
}
