//! Cached references: what they promise, under threads, flushes, exit and fork.
#![cfg(not(loom))]
#![allow(
    clippy::multiple_unsafe_ops_per_block,
    reason = "one promise covers the calls of a test body"
)]

use reclaim::cached::{self, CachedArc};
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Barrier, Mutex, MutexGuard, mpsc};
use std::thread;
use std::time::{Duration, Instant};

/// `flush_all` and fork are the whole process's: one test at a time.
fn one_at_a_time() -> MutexGuard<'static, ()> {
    static ONE: Mutex<()> = Mutex::new(());
    ONE.lock().unwrap_or_else(|e| e.into_inner())
}

const ALIVE: u64 = 0xA11C_E5A1_1CE5_A11C;

struct Object {
    canary: AtomicU64,
    drops: Arc<AtomicUsize>,
}

impl Object {
    fn new(drops: &Arc<AtomicUsize>) -> CachedArc<Self> {
        CachedArc::new(Self { canary: AtomicU64::new(ALIVE), drops: Arc::clone(drops) })
    }

    fn check(&self) {
        assert_eq!(
            self.canary.load(Ordering::Relaxed),
            ALIVE,
            "dropped while there was a reference"
        );
    }
}

impl Drop for Object {
    fn drop(&mut self) {
        assert_eq!(self.canary.swap(0, Ordering::Relaxed), ALIVE, "dropped twice");
        self.drops.fetch_add(1, Ordering::SeqCst);
    }
}

fn drops(d: &Arc<AtomicUsize>) -> usize {
    d.load(Ordering::SeqCst)
}

#[test]
fn a_cached_object_lives_until_its_thread_lets_go() {
    let _one = one_at_a_time();
    let d = Arc::default();
    let a = Object::new(&d);
    let b = a.clone();
    assert_eq!(CachedArc::references(&a), None, "this thread has it cached");
    drop(a);
    b.check();
    drop(b);
    assert_eq!(drops(&d), 0, "no reference, but cached");
    cached::flush_thread();
    assert_eq!(drops(&d), 1);
}

#[test]
fn without_the_cache_it_is_an_arc() {
    let _one = one_at_a_time();
    let d = Arc::default();
    let a = Object::new(&d);
    let b = CachedArc::clone_uncached(&a);
    assert_eq!(CachedArc::references(&a), Some(2));
    assert!(CachedArc::ptr_eq(&a, &b));
    drop(a);
    b.check();
    drop(b);
    assert_eq!(drops(&d), 1);
}

#[test]
fn switched_off_it_is_an_arc_too() {
    let _one = one_at_a_time();
    let d = Arc::default();
    let a = Object::new(&d);
    let b = a.clone();
    CachedArc::set_caching(&a, false);
    let c = a.clone();
    assert_eq!(
        CachedArc::references(&a),
        Some(3),
        "the touch found the request, and cached nothing anew"
    );
    drop((b, c, a));
    assert_eq!(drops(&d), 1);
}

#[test]
fn replacing_an_entry_settles_the_object_before() {
    let _one = one_at_a_time();
    let d = Arc::default();
    // More objects than entries.
    let objects: Vec<_> = (0..40).map(|_| Object::new(&d)).collect();
    for _ in 0..3 {
        for o in &objects {
            o.clone().check();
        }
    }
    drop(objects);
    assert!(drops(&d) >= 36, "at most four are cached; {} dropped", drops(&d));
    cached::flush_thread();
    assert_eq!(drops(&d), 40);
}

#[test]
fn negative_deltas_and_counts_cancel_out() {
    let _one = one_at_a_time();
    let d = Arc::default();
    let a = Object::new(&d);
    let (tx, rx) = mpsc::channel::<CachedArc<Object>>();
    thread::scope(|s| {
        s.spawn(move || {
            // This thread only takes away.
            let own = rx.recv().unwrap().clone();
            let mut n = 0;
            for got in rx {
                got.check();
                n += 1;
            }
            assert_eq!(n, 1000);
            own.check();
        });
        (0..1001).for_each(|_| tx.send(a.clone()).unwrap());
        drop(tx);
    });
    CachedArc::flush(&a);
    assert_eq!(CachedArc::references(&a), Some(1));
    drop(a);
    assert_eq!(drops(&d), 1);
}

#[test]
fn a_request_makes_the_next_touch_let_go() {
    let _one = one_at_a_time();
    let d = Arc::default();
    let a = Object::new(&d);
    let b = a.clone();
    CachedArc::request_flush(&a);
    assert_eq!(CachedArc::references(&a), None, "only asked");
    drop(b);
    assert_eq!(CachedArc::references(&a), Some(1));
    drop(a);
    assert_eq!(drops(&d), 1);
}

#[test]
fn a_sleeping_thread_is_flushed() {
    let _one = one_at_a_time();
    let d = Arc::default();
    let a = Object::new(&d);
    let (touched_tx, touched_rx) = mpsc::channel();
    let (go_tx, go_rx) = mpsc::channel::<()>();
    thread::scope(|s| {
        let theirs = CachedArc::clone_uncached(&a);
        let thread = s.spawn(move || {
            let second = theirs.clone();
            drop(second);
            touched_tx.send(()).unwrap();
            go_rx.recv().unwrap();
            // It holds one reference, which was its to hold all the time.
            theirs.check();
            theirs.clone().check();
        });
        touched_rx.recv().unwrap();
        assert_eq!(CachedArc::references(&a), None);
        CachedArc::flush(&a);
        assert_eq!(CachedArc::references(&a), Some(2));
        go_tx.send(()).unwrap();
        // The end of the scope alone would not wait for the thread's exit functions.
        thread.join().unwrap();
    });
    assert_eq!(CachedArc::references(&a), Some(1), "thread exit settles");
    drop(a);
    assert_eq!(drops(&d), 1);
}

#[test]
fn flush_all_frees_what_idle_threads_keep() {
    let _one = one_at_a_time();
    let d = Arc::default();
    let (kept_tx, kept_rx) = mpsc::channel();
    let (go_tx, go_rx) = mpsc::channel::<()>();
    thread::scope(|s| {
        let d = &d;
        let thread = s.spawn(move || {
            let a = Object::new(d);
            drop(a.clone());
            drop(a);
            kept_tx.send(()).unwrap();
            go_rx.recv().unwrap();
            // The entry that was emptied behind its back is as good as new.
            let a = Object::new(d);
            drop(a.clone());
        });
        kept_rx.recv().unwrap();
        assert_eq!(drops(d), 0);
        cached::flush_all();
        assert_eq!(drops(d), 1);
        go_tx.send(()).unwrap();
        thread.join().unwrap();
    });
    assert_eq!(drops(&d), 2);
}

#[test]
fn objects_may_hold_objects() {
    struct Node {
        next: Option<CachedArc<Node>>,
        _object: CachedArc<Object>,
    }
    let _one = one_at_a_time();
    let d = Arc::default();
    let object = Object::new(&d);
    let mut list = None;
    for _ in 0..50 {
        let next: Option<CachedArc<Node>> = list.as_ref().cloned();
        list = Some(CachedArc::new(Node { next, _object: object.clone() }));
    }
    assert!(list.as_ref().unwrap().next.is_some());
    drop((list, object));
    for _ in 0..60 {
        cached::flush_all();
    }
    assert_eq!(drops(&d), 1);
}

#[test]
fn a_drop_that_panics_leaves_the_rest_in_order() {
    struct Panics;
    impl Drop for Panics {
        fn drop(&mut self) {
            std::panic::resume_unwind(Box::new("drop"));
        }
    }
    let _one = one_at_a_time();
    let d = Arc::default();
    let (a, b) = (CachedArc::new(Panics), Object::new(&d));
    // The panic comes out of the flush, or out of the drop of `b` if that shares its entry with
    // `a`.
    let result = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
        drop(a.clone());
        drop(a);
        drop(b.clone());
        drop(b);
        cached::flush_all();
    }));
    assert!(result.is_err());
    cached::flush_all();
    assert_eq!(drops(&d), 1);
}

/// With `Arc` a clone never runs the program's code, and callers hold locks that drops take.
#[test]
fn a_clone_runs_no_drop() {
    thread_local!(static CLONING: std::cell::Cell<bool> = const { std::cell::Cell::new(false) });
    struct NotInClone(Arc<AtomicUsize>);
    impl Drop for NotInClone {
        fn drop(&mut self) {
            self.0.fetch_add(1, Ordering::SeqCst);
            assert!(!CLONING.get(), "a clone has dropped another object");
        }
    }
    let cloned = |object: &CachedArc<NotInClone>| {
        CLONING.set(true);
        let clone = object.clone();
        CLONING.set(false);
        clone
    };
    let _one = one_at_a_time();
    let d = Arc::<AtomicUsize>::default();
    let objects =
        || (0..64).map(|_| CachedArc::new(NotInClone(Arc::clone(&d)))).collect::<Vec<_>>();
    for round in 0..10 {
        // What stays in the entries with no reference left has to give way to these.
        let keep = objects();
        let clones: Vec<_> = keep.iter().map(&cloned).collect();
        let more: Vec<_> = keep.iter().map(&cloned).collect();
        drop((clones, more));
        drop(keep);
        let most_alive = 64 * (round + 1) - d.load(Ordering::SeqCst);
        assert!(most_alive <= 5, "{most_alive} objects without a reference are kept");
    }
    // Marked entries are settled by clones, too.
    let a = CachedArc::new(NotInClone(Arc::clone(&d)));
    drop(cloned(&a));
    CachedArc::request_flush(&a);
    drop(cloned(&a));
    drop(a);
    cached::flush_all();
    assert_eq!(d.load(Ordering::SeqCst), 641);
}

/// Threads clone, hand around and drop; others flush all the time; objects come and go.
#[test]
fn stress() {
    let _one = one_at_a_time();
    let d = Arc::<AtomicUsize>::default();
    let made = AtomicUsize::new(0);
    let stop = AtomicBool::new(false);
    let make = || {
        made.fetch_add(1, Ordering::SeqCst);
        Object::new(&d)
    };
    let current: [Mutex<CachedArc<Object>>; 6] = std::array::from_fn(|_| Mutex::new(make()));
    let bag: Mutex<Vec<CachedArc<Object>>> = Mutex::default();
    thread::scope(|s| {
        for t in 0..6 {
            let (current, bag, stop) = (&current, &bag, &stop);
            s.spawn(move || {
                let mut i = t;
                while !stop.load(Ordering::Relaxed) {
                    i += 1;
                    let object = current[(i / 50) % current.len()].lock().unwrap().clone();
                    for _ in 0..20 {
                        let more = object.clone();
                        more.check();
                    }
                    let mut bag = bag.lock().unwrap();
                    if i % 3 == 0 && bag.len() < 100 {
                        bag.push(object);
                    } else if i % 3 == 1 {
                        let other = bag.pop();
                        drop(bag);
                        if let Some(other) = other {
                            other.check();
                        }
                    }
                }
            });
        }
        s.spawn(|| {
            while !stop.load(Ordering::Relaxed) {
                let old = std::mem::replace(
                    &mut *current[made.load(Ordering::SeqCst) % 6].lock().unwrap(),
                    make(),
                );
                CachedArc::flush(&old);
                drop(old);
            }
        });
        s.spawn(|| {
            while !stop.load(Ordering::Relaxed) {
                cached::flush_all();
                let some = current[0].lock().unwrap().clone();
                CachedArc::request_flush(&some);
                CachedArc::set_caching(&some, false);
                CachedArc::set_caching(&some, true);
            }
        });
        // Threads that come and go with something cached.
        let since = Instant::now();
        while since.elapsed() < Duration::from_secs(3) {
            let object = current[1].lock().unwrap().clone();
            s.spawn(move || object.clone().check()).join().unwrap();
        }
        stop.store(true, Ordering::Relaxed);
    });
    drop((current, bag));
    cached::flush_all();
    assert_eq!(drops(&d), made.load(Ordering::SeqCst));
}

/// Two threads drop the last two references at once, again and again: exactly one frees.
#[test]
fn racing_droppers() {
    let _one = one_at_a_time();
    let d = Arc::default();
    let barrier = Barrier::new(2);
    let pairs: Vec<_> = (0..2000).map(|_| Object::new(&d)).map(|a| (a.clone(), a)).collect();
    cached::flush_thread();
    let (left, right): (Vec<_>, Vec<_>) = pairs.into_iter().unzip();
    thread::scope(|s| {
        for half in [left, right] {
            let barrier = &barrier;
            s.spawn(move || {
                for (i, a) in half.into_iter().enumerate() {
                    barrier.wait();
                    if i % 2 == 0 {
                        drop(a.clone());
                    }
                    drop(a);
                    cached::flush_thread();
                }
            });
        }
    });
    assert_eq!(drops(&d), 2000);
}

fn in_child(f: impl FnOnce() -> bool) -> bool {
    // SAFETY: the child calls `f` and `_exit`; glibc makes malloc usable in it.
    let child = unsafe { libc::fork() };
    if child == 0 {
        let ok = std::panic::catch_unwind(std::panic::AssertUnwindSafe(f)).unwrap_or(false);
        // SAFETY: ends the child, with entries that nobody settles.
        unsafe { libc::_exit(if ok { 0 } else { 1 }) };
    }
    let mut status = 0;
    // SAFETY: `status` is writable.
    assert_eq!(unsafe { libc::waitpid(child, &mut status, 0) }, child);
    libc::WIFEXITED(status) && libc::WEXITSTATUS(status) == 0
}

#[test]
fn a_fork_child_settles_for_the_threads_left_behind() {
    let _one = one_at_a_time();
    let d = Arc::default();
    let a = Object::new(&d);
    let (touched_tx, touched_rx) = mpsc::channel();
    let (go_tx, go_rx) = mpsc::channel::<()>();
    thread::scope(|s| {
        let theirs = CachedArc::clone_uncached(&a);
        s.spawn(move || {
            drop(theirs.clone());
            drop(theirs);
            touched_tx.send(()).unwrap();
            go_rx.recv().unwrap();
        });
        touched_rx.recv().unwrap();
        let a = a.clone();
        assert!(in_child(|| {
            // Cached by a thread that is not here, and by this one.
            CachedArc::flush(&a);
            assert_eq!(CachedArc::references(&a), Some(2));
            let there = a.clone();
            thread::spawn(move || there.clone().check()).join().is_ok()
        }));
        go_tx.send(()).unwrap();
    });
    drop(a);
    cached::flush_all();
    assert_eq!(drops(&d), 1);
}

#[test]
fn fork_in_the_middle_of_everything() {
    let _one = one_at_a_time();
    let d = Arc::default();
    let a = Object::new(&d);
    let stop = AtomicBool::new(false);
    thread::scope(|s| {
        for _ in 0..3 {
            s.spawn(|| {
                let mine = CachedArc::clone_uncached(&a);
                while !stop.load(Ordering::Relaxed) {
                    mine.clone().check();
                }
            });
        }
        s.spawn(|| {
            while !stop.load(Ordering::Relaxed) {
                cached::flush_all();
            }
        });
        for _ in 0..20 {
            thread::sleep(Duration::from_millis(3));
            assert!(in_child(|| {
                for _ in 0..1000 {
                    a.clone().check();
                    CachedArc::flush(&a);
                }
                let new = Object::new(&Arc::default());
                drop(new.clone());
                cached::flush_all();
                a.check();
                CachedArc::references(&new) == Some(1)
            }));
        }
        stop.store(true, Ordering::Relaxed);
    });
    drop(a);
    cached::flush_all();
    assert_eq!(drops(&d), 1);
}
