//! No allocation between building a pool and dropping it: a counting allocator, every free list,
//! hits, misses, steals, visits, waits and close.
#![cfg(not(loom))]

mod common;

use common::{ALL, give, take, wait, wait_for};
use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::Duration;

struct Counting;

static ALLOCATIONS: AtomicU64 = AtomicU64::new(0);

// SAFETY: everything is passed on to the system's allocator.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        ALLOCATIONS.fetch_add(1, Ordering::Relaxed);
        // SAFETY: the caller's promise.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, p: *mut u8, layout: Layout) {
        ALLOCATIONS.fetch_add(1, Ordering::Relaxed);
        // SAFETY: the caller's promise.
        unsafe { System.dealloc(p, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

#[test]
fn pop_and_push_allocate_nothing() {
    for kind in ALL {
        let pool = kind.pool(32, 16);
        let go = AtomicBool::new(false);
        let (ready, done) = (AtomicU64::new(0), AtomicU64::new(0));
        thread::scope(|s| {
            let start = |who| {
                let (pool, go, ready, done) = (&*pool, &go, &ready, &done);
                s.spawn(move || {
                    ready.fetch_add(1, Ordering::Release);
                    while !go.load(Ordering::Acquire) {
                        thread::yield_now();
                    }
                    for _ in 0..2000 {
                        let mut mine = [const { None }; 20];
                        mine.iter_mut().for_each(|place| *place = take(pool, who));
                        mine.into_iter().flatten().for_each(|owned| give(pool, owned));
                    }
                    done.fetch_add(1, Ordering::Release);
                    // Stays until the count is read: the end of a thread allocates and frees.
                    while go.load(Ordering::Acquire) {
                        thread::yield_now();
                    }
                })
            };
            let threads = [1, 2, 3].map(start);
            // The threads run: whatever starting them allocates has been allocated.
            while ready.load(Ordering::Acquire) != 3 {
                thread::yield_now();
            }
            let before = ALLOCATIONS.load(Ordering::Relaxed);
            go.store(true, Ordering::Release);
            while done.load(Ordering::Acquire) != 3 {
                thread::yield_now();
            }
            let late = take(&*pool, 9).expect("32 are free");
            let mut rest = [const { None }; 31];
            rest.iter_mut().for_each(|place| *place = wait(&*pool, 9));
            assert!(wait_for(&*pool, 9, Duration::from_micros(1)).is_none());
            rest.into_iter().flatten().for_each(|owned| give(&*pool, owned));
            pool.close();
            give(&*pool, late);
            let after = ALLOCATIONS.load(Ordering::Relaxed);
            go.store(false, Ordering::Release);
            // To their ends, which the scope does not wait for: those of the next kind count.
            threads.into_iter().for_each(|thread| thread.join().expect("no panic"));
            assert_eq!(after - before, 0, "{kind:?}");
        });
    }
}
