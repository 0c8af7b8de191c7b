//! Fork in the middle of everything: the child has neither the sections of the threads that did not
//! come along, nor their half-done work.
#![cfg(not(loom))]

use reclaim::percpu_ref::PercpuRef;
use reclaim::rcu::{self, Domain};
use reclaim::srcu::{Srcu, SrcuFast};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;
use std::time::Duration;

/// One fork at a time: the tests of this file are threads of one process.
static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());

/// Runs `in_child` in a fork child and panics here if it panicked there, or took longer than ten
/// seconds.
fn fork_and(in_child: impl FnOnce() + std::panic::UnwindSafe) {
    // SAFETY: the child runs `in_child`, which uses what this file tests and glibc's allocator and
    // threads, which survive fork, and leaves by _exit.
    match unsafe { libc::fork() } {
        0 => {
            // SAFETY: sets a timer whose signal kills the child.
            unsafe { libc::alarm(10) };
            let code = i32::from(std::panic::catch_unwind(in_child).is_err());
            // SAFETY: leaves without running what belongs to the parent.
            unsafe { libc::_exit(code) }
        }
        child => {
            assert!(child > 0, "fork failed");
            let mut status = 0;
            // SAFETY: `status` is a local.
            assert_eq!(unsafe { libc::waitpid(child, &mut status, 0) }, child);
            assert_eq!(status, 0, "the child failed (14: it hung)");
        }
    }
}

#[test]
fn the_child_does_not_wait_for_the_parents_threads() {
    let _one = ONE_AT_A_TIME.lock();
    let stop = AtomicBool::new(false);
    let ready = AtomicUsize::new(0);
    thread::scope(|s| {
        for i in 0..6_u64 {
            let (stop, ready) = (&stop, &ready);
            s.spawn(move || {
                let mut counted = false;
                while !stop.load(Ordering::Relaxed) {
                    let _section = rcu::read_lock();
                    if !counted {
                        ready.fetch_add(1, Ordering::Relaxed);
                        counted = true;
                    }
                    thread::sleep(Duration::from_micros(100 * i));
                    rcu::poll(rcu::get_state());
                }
            });
        }
        while ready.load(Ordering::Relaxed) < 6 {
            thread::yield_now();
        }
        for _ in 0..15 {
            fork_and(|| {
                rcu::synchronize();
                assert!(rcu::poll(rcu::start_poll()));
                // A new thread works, and may get the record of one that did not come along.
                thread::spawn(|| drop(rcu::read_lock())).join().expect("no panic");
                rcu::synchronize();
                // Its own sections count.
                let section = rcu::read_lock();
                let cookie = rcu::start_poll();
                assert!(!rcu::poll(cookie));
                drop(section);
                assert!(rcu::poll(cookie));
            });
        }
        stop.store(true, Ordering::Relaxed);
    });
}

#[test]
fn a_section_of_the_forking_thread_stays_open_in_the_child() {
    let _one = ONE_AT_A_TIME.lock();
    let domain = Domain::new();
    let reader = domain.reader().unwrap();
    let section = reader.lock();
    let cookie = domain.start_poll();
    let in_child = std::panic::AssertUnwindSafe(|| assert!(!domain.poll(cookie)));
    fork_and(in_child);
    drop(section);
    fork_and(std::panic::AssertUnwindSafe(|| assert!(domain.poll(cookie))));
}

#[test]
fn callbacks_of_a_thread_that_did_not_come_along_are_taken_over() {
    let _one = ONE_AT_A_TIME.lock();
    static DOMAIN: Domain = Domain::new();
    static ENTERED: AtomicBool = AtomicBool::new(false);
    static LEAVE: AtomicBool = AtomicBool::new(false);
    static RAN: AtomicUsize = AtomicUsize::new(0);
    struct Blocks;
    impl Drop for Blocks {
        fn drop(&mut self) {
            ENTERED.store(true, Ordering::Relaxed);
            while !LEAVE.load(Ordering::Relaxed) {
                thread::sleep(Duration::from_millis(1));
            }
        }
    }
    struct Counts;
    impl Drop for Counts {
        fn drop(&mut self) {
            RAN.fetch_add(1, Ordering::Relaxed);
        }
    }
    DOMAIN.defer_drop(Box::new(Blocks));
    for _ in 0..5 {
        DOMAIN.defer_drop(Box::new(Counts));
    }
    let runner = thread::spawn(|| DOMAIN.run_callbacks());
    while !ENTERED.load(Ordering::Relaxed) {
        thread::yield_now();
    }
    fork_and(|| {
        DOMAIN.defer_drop(Box::new(Counts));
        DOMAIN.barrier();
        assert_eq!(
            RAN.load(Ordering::Relaxed),
            6,
            "all but the one that was running in the parent"
        );
    });
    LEAVE.store(true, Ordering::Relaxed);
    assert_eq!(runner.join().expect("no panic"), 6);
    assert_eq!(RAN.load(Ordering::Relaxed), 5);
}

#[test]
fn srcu_forgets_by_hand() {
    let _one = ONE_AT_A_TIME.lock();
    let (normal, fast) = (Srcu::new(), SrcuFast::new());
    let (entered, wait) = std::sync::mpsc::channel();
    let (leave, wait_leave) = std::sync::mpsc::channel::<()>();
    thread::scope(|s| {
        let (normal, fast) = (&normal, &fast);
        s.spawn(move || {
            let _sections = (normal.read_lock(), fast.read_lock());
            entered.send(()).unwrap();
            wait_leave.recv().unwrap();
        });
        wait.recv().unwrap();
        fork_and(std::panic::AssertUnwindSafe(|| {
            assert!(normal.synchronize_for(Duration::from_millis(1)).is_err());
            assert!(fast.synchronize_for(Duration::from_millis(1)).is_err());
            // SAFETY: the child has one thread, and the sections were the other thread's.
            unsafe { normal.forget_readers() };
            // SAFETY: likewise.
            unsafe { fast.forget_readers() };
            normal.synchronize();
            fast.synchronize();
            let section = fast.read_lock();
            let cookie = fast.start_poll();
            assert!(!fast.poll(cookie));
            drop(section);
            assert!(fast.poll(cookie));
        }));
        leave.send(()).unwrap();
    });
    normal.synchronize();
    fast.synchronize();
}

#[test]
fn a_percpu_ref_goes_on_in_the_child() {
    let _one = ONE_AT_A_TIME.lock();
    let refs = PercpuRef::new(|| ());
    refs.get().unwrap();
    fork_and(std::panic::AssertUnwindSafe(|| {
        assert_eq!(refs.kill(), Ok(false));
        assert_eq!(refs.put(), Ok(true));
    }));
    assert!(refs.try_get_live(), "the parent's is not the child's");
    refs.put_many(2).unwrap();
    assert_eq!(refs.kill(), Ok(true));
}
