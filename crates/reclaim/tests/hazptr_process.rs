//! Fork, `_exit` and allocation: what happens to hazard pointers at the edges of a process.
#![cfg(not(loom))]
#![allow(
    clippy::multiple_unsafe_ops_per_block,
    reason = "one promise covers the calls of a test body"
)]

#[path = "hazptr_common/set.rs"]
mod set;

use reclaim::hazptr::{self, Domain, HazardPointer, Head, Owner};
use set::{Object, Set, check};
use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::ptr;
use std::sync::atomic::{AtomicBool, AtomicPtr, Ordering};
use std::sync::{Mutex, mpsc};
use std::thread;
use std::time::Duration;

/// Counts the allocations of the calling thread.
struct Counting;

thread_local! {
    static ALLOCATIONS: Cell<u64> = const { Cell::new(0) };
}

// SAFETY: passes everything on to the system's allocator.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        ALLOCATIONS.with(|a| a.set(a.get() + 1));
        // SAFETY: the caller's promises are passed on.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, p: *mut u8, layout: Layout) {
        // SAFETY: the caller's promises are passed on.
        unsafe { System.dealloc(p, layout) };
    }
}

#[global_allocator]
static GLOBAL: Counting = Counting;

/// One test at a time: a child has what its parent has at the time.
static ONE: Mutex<()> = Mutex::new(());

/// Runs `f` in a fork child; true if it returned true.
fn in_child(f: impl FnOnce() -> bool) -> bool {
    // SAFETY: the child calls `f` and `_exit`; glibc makes malloc usable in it.
    let child = unsafe { libc::fork() };
    if child == 0 {
        let ok = std::panic::catch_unwind(std::panic::AssertUnwindSafe(f)).unwrap_or(false);
        // SAFETY: ends the child.
        unsafe { libc::_exit(if ok { 0 } else { 1 }) };
    }
    let mut status = 0;
    // SAFETY: `status` is writable.
    assert_eq!(unsafe { libc::waitpid(child, &mut status, 0) }, child);
    libc::WIFEXITED(status) && libc::WEXITSTATUS(status) == 0
}

fn object(set: &Set) -> *mut Object {
    set.take().unwrap()
}

#[test]
fn a_fork_child_forgets_the_slots_of_other_threads_and_keeps_its_own() {
    let _one = ONE.lock().unwrap();
    let domain = Domain::new();
    let set = Set::new(8);
    let [theirs, ours, attached, transit] = std::array::from_fn(|_| AtomicPtr::new(object(set)));
    let (ready_tx, ready_rx) = mpsc::channel();
    let (go_tx, go_rx) = mpsc::channel::<()>();
    thread::scope(|s| {
        let (theirs, attached, transit) = (&theirs, &attached, &transit);
        s.spawn(move || {
            let mut hp = HazardPointer::new();
            // SAFETY: the sources hold objects that are unlinked before they are retired. (So for
            // all below.)
            unsafe { check(hp.protect(theirs)) };
            // SAFETY: as above.
            let tokens = unsafe {
                [
                    HazardPointer::new().protect_owned(attached).unwrap().detach(),
                    HazardPointer::new().protect_owned(transit).unwrap().detach(),
                ]
            };
            ready_tx.send(tokens).unwrap();
            // Inside of a scope at the time of the fork.
            // SAFETY: as above.
            unsafe { hazptr::read(theirs, |_| go_rx.recv().unwrap()) };
        });
        let [for_us, in_transit] = ready_rx.recv().unwrap();
        let for_us = for_us.attach();
        let mut hp = HazardPointer::new();
        // SAFETY: as above.
        unsafe { check(hp.protect(&ours)) };
        for src in [theirs, &ours, attached, transit] {
            // SAFETY: unlinked, retired once.
            unsafe { domain.retire(src.swap(ptr::null_mut(), Ordering::AcqRel)) };
        }
        assert_eq!(domain.reclaim(), 0, "all four are protected in the parent");
        assert!(in_child(|| {
            assert_eq!(domain.reclaim(), 1, "the other thread did not come along");
            check(Some(&for_us));
            hp.reset();
            assert_eq!(domain.reclaim(), 1);
            check(Some(&for_us));
            drop(for_us.into_holder());
            assert_eq!(
                domain.reclaim(),
                1,
                "a slot in a dead thread's block, held by the survivor"
            );
            let token = in_transit.attach();
            check(Some(&token));
            drop(token);
            assert_eq!(domain.reclaim(), 1);
            domain.barrier();
            // New threads work there as well, with blocks that were adopted.
            thread::spawn(|| drop(HazardPointer::array::<20>())).join().is_ok()
        }));
        go_tx.send(()).unwrap();
    });
}

#[test]
fn a_fork_child_adopts_what_another_threads_round_had_in_hand() {
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
    struct Plain {
        head: Head,
    }
    reclaim::retirable!(Plain, head);

    let _one = ONE.lock().unwrap();
    let domain = Domain::new();
    let owner = Owner::new();
    let ((entered, entered_rx), (go_tx, go)) = (mpsc::channel(), mpsc::channel());
    // The lists are last in, first out: the slow one is reclaimed first, with the others in hand.
    for _ in 0..100 {
        // SAFETY: never published, retired once.
        unsafe { domain.retire_for(Box::into_raw(Box::new(Plain { head: Head::new() })), &owner) };
    }
    // SAFETY: never published, retired once.
    unsafe {
        domain.retire_for(Box::into_raw(Box::new(Slow { head: Head::new(), entered, go })), &owner)
    };
    thread::scope(|s| {
        s.spawn(|| assert_eq!(domain.reclaim(), 101));
        entered_rx.recv().unwrap();
        assert_eq!(owner.pending(), 101);
        assert!(in_child(|| {
            domain.reclaim_owner(&owner);
            domain.barrier();
            owner.pending() == 0
        }));
        go_tx.send(()).unwrap();
    });
    assert_eq!(owner.pending(), 0);
}

#[test]
fn fork_in_the_middle_of_everything() {
    let _one = ONE.lock().unwrap();
    let domain = Domain::new();
    let set = Set::new(5000);
    let src = AtomicPtr::new(object(set));
    let stop = AtomicBool::new(false);
    thread::scope(|s| {
        for _ in 0..3 {
            s.spawn(|| {
                while !stop.load(Ordering::Relaxed) {
                    // SAFETY: as above.
                    unsafe { hazptr::read(&src, check) };
                    if let Some(new) = set.take() {
                        // SAFETY: unlinked, retired once.
                        unsafe { domain.retire(src.swap(new, Ordering::AcqRel)) };
                    }
                }
            });
        }
        for _ in 0..30 {
            thread::sleep(Duration::from_millis(5));
            assert!(in_child(|| {
                let mut hp = HazardPointer::new();
                for _ in 0..3000 {
                    // SAFETY: as above.
                    unsafe { check(hp.protect(&src)) };
                    if let Some(new) = set.take() {
                        // SAFETY: unlinked, retired once.
                        unsafe { domain.retire(src.swap(new, Ordering::AcqRel)) };
                    }
                }
                domain.barrier();
                true
            }));
        }
        stop.store(true, Ordering::Relaxed);
    });
}

#[test]
fn exit_without_destructors_while_holding() {
    let _one = ONE.lock().unwrap();
    let set = Set::new(2);
    let src = AtomicPtr::new(object(set));
    assert!(in_child(|| {
        let mut hp = HazardPointer::new();
        // SAFETY: as above.
        unsafe { check(hp.protect(&src)) };
        // SAFETY: unlinked, retired once.
        unsafe { Domain::global().retire(src.swap(ptr::null_mut(), Ordering::AcqRel)) };
        // SAFETY: ends the child, with a protection and a retired object.
        unsafe { libc::_exit(0) }
    }));
}

#[test]
fn nothing_on_the_way_allocates() {
    let _one = ONE.lock().unwrap();
    let domain = Domain::new();
    let set = Set::new(2000);
    let src = AtomicPtr::new(object(set));
    // A thread's first use makes a block, which comes from the kernel and not from malloc.
    thread::scope(|s| {
        s.spawn(|| {
            let before = ALLOCATIONS.with(Cell::get);
            let mut hp = HazardPointer::new();
            let mut more = HazardPointer::array::<30>();
            for _ in 0..20_000 {
                // SAFETY: as above.
                unsafe {
                    check(hp.protect(&src));
                    hazptr::read(&src, check);
                    check(more[17].protect(&src));
                    if let Some(new) = set.take() {
                        domain.retire(src.swap(new, Ordering::AcqRel));
                    }
                }
            }
            assert!(domain.stats().reclaimed > 10_000);
            domain.barrier();
            drop(more);
            assert_eq!(ALLOCATIONS.with(Cell::get), before);
        });
    });
}
