//! The promises of `Pool`, for every free list.
#![cfg(not(loom))]

mod common;

use common::{ALL, Kind, Owned, Random, check_full, give, layout, pin, take};
use objpool::{
    BuildError, Builder, InitError, MAX_CAPACITY, MAX_OBJECT_SIZE, Pool, PushError, RseqLifo,
    Statistics,
};
use std::alloc::Layout;
use std::ptr::NonNull;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, mpsc};
use std::thread;
use std::time::{Duration, Instant};

/// How long a stress test of one pool runs.
const STRESS: Duration = Duration::from_millis(400);

fn each(test: impl Fn(Kind)) {
    ALL.into_iter().for_each(|kind| {
        println!("{kind:?}");
        test(kind);
    });
}

#[test]
fn every_object_once_and_then_none() {
    each(|kind| {
        for capacity in [1, 2, 3, 7, 8, 31, 32, 33, 64, 100, 1000, 4097] {
            let pool = kind.pool(capacity, 16);
            check_full(&*pool);
            check_full(&*pool);
            let s = pool.statistics();
            assert_eq!(
                (s.hits, s.misses, s.high_water),
                (2 * capacity as u64, 2, capacity),
                "{kind:?} {capacity}"
            );
        }
    });
}

#[test]
fn bad_sizes_are_errors() {
    each(|kind| {
        let build = |capacity, object: Layout| kind.build(Builder::new(capacity, object)).err();
        assert_eq!(build(0, layout(8)), Some(BuildError::Capacity(0)));
        assert_eq!(
            build(MAX_CAPACITY + 1, layout(8)),
            Some(BuildError::Capacity(MAX_CAPACITY + 1))
        );
        assert_eq!(build(usize::MAX, layout(8)), Some(BuildError::Capacity(usize::MAX)));
        assert_eq!(build(1, layout(0)), None);
        assert_eq!(
            build(1, layout(MAX_OBJECT_SIZE + 1)),
            Some(BuildError::ObjectSize(MAX_OBJECT_SIZE + 1))
        );
        assert_eq!(build(1, layout(MAX_OBJECT_SIZE)), None);
        assert_eq!(build(1, layout(1)), None);
        let wide = Layout::from_size_align(64, 2 * MAX_OBJECT_SIZE).expect("a layout");
        assert_eq!(build(1, wide), Some(BuildError::ObjectSize(2 * MAX_OBJECT_SIZE)));
    });
}

#[test]
fn a_terabyte_is_an_error_or_works() {
    // 2^24 objects of 64 KiB: whether the kernel promises that much is its business; a panic or an
    // overflow would be ours.
    match Builder::new(MAX_CAPACITY, layout(MAX_OBJECT_SIZE)).build::<objpool::CasLifo>() {
        Ok(pool) => assert!(pool.pop().is_some()),
        Err(error) => assert_eq!(error, BuildError::OutOfMemory),
    }
}

#[test]
fn a_failed_initialiser_is_undone() {
    fn check<L: objpool::FreeList>() {
        let alive = Arc::new(AtomicUsize::new(0));
        let undo = Arc::clone(&alive);
        let result = Builder::new(10, layout(8)).build_with::<L, &str>(
            |_, index| {
                if index == 6 {
                    return Err("enough");
                }
                alive.fetch_add(1, Ordering::Relaxed);
                Ok(())
            },
            move |_| {
                undo.fetch_sub(1, Ordering::Relaxed);
            },
        );
        assert_eq!(result.err(), Some(InitError::Init { index: 6, error: "enough" }));
        assert_eq!(alive.load(Ordering::Relaxed), 0);
    }
    check::<RseqLifo>();
    check::<objpool::CasLifo>();
    check::<objpool::Bitmap>();
}

#[test]
fn double_and_foreign_pushes_are_refused() {
    each(|kind| {
        let (pool, other) = (kind.pool(8, 24), kind.pool(8, 24));
        let object = pool.pop().expect("8 are free");
        // SAFETY: refused; nobody uses these addresses.
        let push = |p: &dyn Pool, object: NonNull<u8>| unsafe { p.push(object) };
        assert_eq!(push(&*other, object), Err(PushError::Foreign));
        assert_eq!(
            push(&*pool, object.map_addr(|a| a.saturating_add(8))),
            Err(PushError::Foreign),
            "inside an object"
        );
        assert_eq!(push(&*pool, NonNull::from(&kind).cast()), Err(PushError::Foreign));
        assert_eq!(push(&*pool, object), Ok(()));
        assert_eq!(push(&*pool, object), Err(PushError::NotOut));
        let never_popped = pool.pop().expect("8 are free");
        push(&*pool, never_popped).expect("it is out");
        check_full(&*pool);
    });
}

#[test]
fn close_drops_each_object_once_and_releases_once() {
    fn check<L: objpool::FreeList>(rseq: bool) {
        let (dropped, released) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
        let (d, r) = (Arc::clone(&dropped), Arc::clone(&released));
        let pool = Builder::new(20, layout(8))
            .rseq(rseq)
            .on_release(move || {
                r.fetch_add(1, Ordering::Relaxed);
            })
            .build_with::<L, ()>(
                |_, _| Ok(()),
                move |_| {
                    d.fetch_add(1, Ordering::Relaxed);
                },
            )
            .expect("memory");
        let out: Vec<_> = (0..5).map(|_| pool.pop().expect("20 are free")).collect();
        let again = pool.pop().expect("15 are free");
        // SAFETY: just popped.
        unsafe { pool.push(again) }.expect("out");
        pool.close();
        pool.close();
        assert!(pool.is_closed());
        assert_eq!(dropped.load(Ordering::Relaxed), 15);
        assert_eq!(pool.pop(), None, "closed");
        for (n, object) in out.into_iter().enumerate() {
            assert_eq!(released.load(Ordering::Relaxed), 0);
            assert_eq!(dropped.load(Ordering::Relaxed), 15 + n);
            // SAFETY: popped before the close.
            unsafe { pool.push(object) }.expect("out");
            assert_eq!(pool.pop(), None, "closed");
        }
        assert_eq!((dropped.load(Ordering::Relaxed), released.load(Ordering::Relaxed)), (20, 1));
        assert_eq!(pool.statistics().in_use, 0);
        drop(pool);
        assert_eq!((dropped.load(Ordering::Relaxed), released.load(Ordering::Relaxed)), (20, 1));
    }
    check::<RseqLifo>(true);
    check::<RseqLifo>(false);
    check::<objpool::Bitmap>(true);
    check::<objpool::FlagArray>(true);
    check::<objpool::PerCpuList>(true);
    check::<objpool::RingArray>(true);
    check::<objpool::FlatArray>(true);
    check::<objpool::CasLifo>(true);
}

#[test]
fn close_while_others_pop_and_push() {
    each(|kind| {
        for _ in 0..20 {
            let released = Arc::new(AtomicUsize::new(0));
            let r = Arc::clone(&released);
            let builder = Builder::new(16, layout(16)).on_release(move || {
                r.fetch_add(1, Ordering::Relaxed);
            });
            let pool = kind.build(builder).expect("memory");
            thread::scope(|s| {
                for who in 1..=4 {
                    let pool = &*pool;
                    s.spawn(move || {
                        loop {
                            match take(pool, who) {
                                Some(owned) => give(pool, owned),
                                None if pool.is_closed() => break,
                                None => {}
                            }
                        }
                    });
                }
                thread::sleep(Duration::from_millis(2));
                pool.close();
            });
            assert_eq!(released.load(Ordering::Relaxed), 1, "{kind:?}: every object came back");
        }
    });
}

/// Threads that hold at most one object each, and as many objects: one is free whenever somebody
/// asks.
#[test]
fn none_is_never_spurious() {
    each(|kind| {
        for threads in [2u64, 6, 24] {
            let pool = kind.pool(threads as usize, 16);
            let end = Instant::now() + STRESS / 2;
            thread::scope(|s| {
                for who in 1..=threads {
                    let pool = &*pool;
                    s.spawn(move || {
                        let mut random = Random::new(who);
                        while Instant::now() < end {
                            for _ in 0..32 {
                                let owned = take(pool, who)
                                    .unwrap_or_else(|| panic!("{kind:?}: None with a free object"));
                                if random.below(64) == 0 {
                                    thread::yield_now();
                                }
                                give(pool, owned);
                            }
                        }
                    });
                }
            });
            check_full(&*pool);
            assert_eq!(pool.statistics().misses, 1, "{kind:?}: the drain's own");
        }
    });
}

/// The same where threads take, pass on to each other and give back on another thread.
#[test]
fn objects_pushed_by_other_threads() {
    each(|kind| {
        let pool = kind.pool(64, 16);
        let end = Instant::now() + STRESS;
        thread::scope(|s| {
            for pair in 0..4u64 {
                let (to, from) = mpsc::sync_channel::<Owned>(8);
                let pool = &*pool;
                s.spawn(move || {
                    while Instant::now() < end {
                        if let Some(owned) = take(pool, pair + 1) {
                            to.send(owned).expect("the other side lives");
                        }
                    }
                });
                s.spawn(move || from.into_iter().for_each(|owned| give(pool, owned)));
            }
        });
        check_full(&*pool);
    });
}

/// Threads with a few objects each, in bulk, more threads than CPUs, too few objects for all.
#[test]
fn bulk_and_overrun() {
    each(|kind| {
        let pool = kind.pool(48, 32);
        let (hits, misses) = (AtomicU64::new(0), AtomicU64::new(0));
        let end = Instant::now() + STRESS;
        thread::scope(|s| {
            for who in 1..=16 {
                let (pool, hits, misses) = (&*pool, &hits, &misses);
                s.spawn(move || {
                    let mut random = Random::new(who);
                    let mut mine = Vec::new();
                    while Instant::now() < end {
                        for _ in 0..random.below(8) {
                            let counter = match take(pool, who) {
                                Some(owned) => {
                                    mine.push(owned);
                                    hits
                                }
                                None => misses,
                            };
                            counter.fetch_add(1, Ordering::Relaxed);
                        }
                        while random.below(8) != 0
                            && let Some(owned) = mine.pop()
                        {
                            give(pool, owned);
                        }
                        mine.reverse();
                    }
                    mine.into_iter().for_each(|owned| give(pool, owned));
                });
            }
        });
        let Statistics { hits: counted, misses: missed, in_use, high_water, .. } =
            pool.statistics();
        assert_eq!(
            (counted, missed, in_use),
            (hits.into_inner(), misses.into_inner(), 0),
            "{kind:?}: exact at rest"
        );
        assert!((1..=48).contains(&high_water));
        check_full(&*pool);
    });
}

#[test]
fn a_thread_exits_while_holding() {
    each(|kind| {
        let pool = kind.pool(8, 16);
        let held: Vec<Owned> = thread::scope(|s| {
            s.spawn(|| (0..5).map(|_| take(&*pool, 1).expect("8 are free")).collect())
                .join()
                .expect("no panic")
        });
        assert_eq!(pool.statistics().in_use, 5);
        assert_eq!(pool.statistics().high_water, 5);
        held.into_iter().for_each(|owned| give(&*pool, owned));
        check_full(&*pool);
    });
}

/// Without visits the pool misses what lies in other CPUs' private lists, and nothing worse.
#[test]
fn visits_can_be_forbidden() {
    let pool = Builder::new(64, layout(16)).visits(false).build::<RseqLifo>().expect("memory");
    let end = Instant::now() + STRESS;
    thread::scope(|s| {
        for who in 1..=8 {
            let pool = &pool;
            s.spawn(move || {
                let mut mine = Vec::new();
                while Instant::now() < end {
                    mine.extend(std::iter::from_fn(|| take(pool, who)).take(12));
                    mine.drain(..).for_each(|owned| give(pool, owned));
                }
            });
        }
    });
    assert_eq!(pool.statistics().in_use, 0);
    let reached = std::iter::from_fn(|| take(&pool, 9)).count();
    assert!(
        (32..=64).contains(&reached),
        "at least half of the objects are within reach: {reached}"
    );
}

#[test]
fn slots_count_what_crosses_them() {
    // Objects that a thread on one CPU pops and one on the other pushes are remote pushes, whatever
    // the list.
    each(|kind| {
        let pool = kind.pool(64, 16);
        let stop = AtomicBool::new(false);
        thread::scope(|s| {
            let (to, from) = mpsc::sync_channel::<Owned>(4);
            let pool = &*pool;
            let stop = &stop;
            s.spawn(move || {
                pin(0);
                for _ in 0..200 {
                    to.send(take(pool, 1).expect("64 objects, at most 7 on the way"))
                        .expect("the other side lives");
                }
            });
            s.spawn(move || {
                pin(1);
                from.into_iter().for_each(|owned| give(pool, owned));
                stop.store(true, Ordering::Relaxed);
            });
        });
        let two_cpus = thread::available_parallelism().is_ok_and(|n| n.get() > 1);
        let remote = pool.statistics().remote_pushes;
        if two_cpus && kind != Kind::DefaultWithoutRseq {
            assert_eq!(remote, 200, "{kind:?}");
        }
        check_full(&*pool);
    });
}

/// The default pool in a process whose C library registers no thread: the crates below do it at a
/// thread's first operation.
#[test]
fn with_our_own_registration() {
    const MARK: &str = "OBJPOOL_TEST_OWN_REGISTRATION";
    if std::env::var_os(MARK).is_some() {
        return;
    }
    let exe = std::env::current_exe().expect("path of this test");
    let out = std::process::Command::new(exe)
        .args([
            "none_is_never_spurious",
            "every_object_once_and_then_none",
            "close_while_others_pop_and_push",
            "slots_count_what_crosses_them",
        ])
        .env("GLIBC_TUNABLES", "glibc.pthread.rseq=0")
        .env(MARK, "1")
        .output()
        .expect("run this test again");
    assert!(
        out.status.success(),
        "{}{}",
        String::from_utf8_lossy(&out.stdout),
        String::from_utf8_lossy(&out.stderr)
    );
}
