//! The calls that wait: barrier, owners, synchronize.
#![cfg(not(loom))]
#![allow(
    clippy::multiple_unsafe_ops_per_block,
    reason = "one promise covers the calls of a test body"
)]

mod hazptr_common;

use hazptr_common::{inline, unlink};
use reclaim::hazptr::{self, Domain, HazardPointer, Head, Owner};
use std::sync::atomic::{AtomicPtr, AtomicUsize, Ordering};
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

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
    unsafe {
        f.domain.retire(Box::into_raw(Box::new(Waits { head: Head::new(), domain: f.domain })))
    };
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
