//! Signals, fork, `_exit` and allocation: what happens to hazard pointers at the edges of a process.
#![cfg(not(loom))]
#![allow(clippy::multiple_unsafe_ops_per_block, reason = "one promise covers the calls of a test body")]

use reclaim::hazptr::{self, Domain, HazardPointer, Head, Owner};
use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::mem::MaybeUninit;
use std::ptr;
use std::sync::atomic::{AtomicBool, AtomicPtr, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Mutex, mpsc};
use std::thread;
use std::time::{Duration, Instant};

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

const ALIVE: u64 = 0xA11C_E5A1_1CE5_A11C;

/// Lives in a fixed set and is taken and given back there, so that signal handlers can make and retire objects without malloc.
struct Object {
    canary: AtomicU64,
    taken: AtomicBool,
    head: Head,
}

// SAFETY: `head` is a field.
unsafe impl hazptr::Retirable for Object {
    fn head(this: *mut Self) -> *mut Head {
        // SAFETY: points to an object; no reference is made.
        unsafe { &raw mut (*this).head }
    }

    unsafe fn reclaim(this: *mut Self) {
        // SAFETY: objects are never freed.
        let object = unsafe { &*this };
        assert_eq!(object.canary.swap(0, Ordering::Relaxed), ALIVE);
        object.taken.store(false, Ordering::Release);
    }
}

struct Set(Box<[Object]>);

impl Set {
    fn new(objects: usize) -> &'static Self {
        let object = || Object { canary: AtomicU64::new(0), taken: AtomicBool::new(false), head: Head::new() };
        Box::leak(Box::new(Self((0..objects).map(|_| object()).collect())))
    }

    /// Signal-safe.
    fn take(&self) -> Option<*mut Object> {
        let object = self.0.iter().find(|o| !o.taken.load(Ordering::Relaxed) && !o.taken.swap(true, Ordering::Acquire))?;
        object.canary.store(ALIVE, Ordering::Relaxed);
        Some(ptr::from_ref(object).cast_mut())
    }
}

/// One test at a time: the signal handler and the children are the process's.
static ONE: Mutex<()> = Mutex::new(());

static SOURCE: AtomicPtr<Object> = AtomicPtr::new(ptr::null_mut());
static SET: AtomicPtr<Set> = AtomicPtr::new(ptr::null_mut());
static DOMAIN: Domain = Domain::new();
static HANDLED: AtomicUsize = AtomicUsize::new(0);

fn check(object: Option<&Object>) {
    if let Some(o) = object {
        assert_eq!(o.canary.load(Ordering::Relaxed), ALIVE, "a protected object was reclaimed");
    }
}

/// Protects in every way and replaces the object, wherever it interrupts.
extern "C" fn handler(_signal: i32) {
    // SAFETY: what `SOURCE` holds is unlinked before it is retired, here and in the test.
    unsafe {
        hazptr::read(&SOURCE, |first| {
            hazptr::scope_array(|[a, b]| {
                check(a.protect(&SOURCE));
                check(b.protect_wait_free(&SOURCE));
                check(first);
            });
            check(HazardPointer::new().protect(&SOURCE));
            // SAFETY: set before the timer was started, never freed.
            if let Some(object) = (*SET.load(Ordering::Acquire)).take() {
                let old = SOURCE.swap(object, Ordering::AcqRel);
                if !old.is_null() {
                    DOMAIN.retire_deferred(old);
                }
            }
            check(first);
        });
    }
    HANDLED.fetch_add(1, Ordering::Relaxed);
}

fn every(microseconds: i64) {
    let interval = libc::timeval { tv_sec: 0, tv_usec: microseconds };
    let timer = libc::itimerval { it_interval: interval, it_value: interval };
    // SAFETY: `timer` is a valid itimerval.
    assert_eq!(unsafe { libc::setitimer(libc::ITIMER_REAL, &timer, ptr::null_mut()) }, 0);
}

#[test]
fn handlers_protect_and_retire_while_the_thread_does() {
    let _one = ONE.lock().unwrap();
    percpu::init();
    SET.store(ptr::from_ref(Set::new(4000)).cast_mut(), Ordering::Release);
    let set = Set::new(4000);
    // SAFETY: the handler keeps to signal-safe calls.
    unsafe {
        let mut action = MaybeUninit::<libc::sigaction>::zeroed().assume_init();
        action.sa_sigaction = handler as *const () as usize;
        action.sa_flags = libc::SA_RESTART;
        assert_eq!(libc::sigaction(libc::SIGALRM, &action, ptr::null_mut()), 0);
    }
    every(50);
    let since = Instant::now();
    thread::scope(|s| {
        for _ in 0..3 {
            s.spawn(|| {
                let mut kept = HazardPointer::new();
                while since.elapsed() < Duration::from_secs(2) {
                    // SAFETY: as in the handler.
                    unsafe {
                        check(kept.protect(&SOURCE));
                        hazptr::read(&SOURCE, check);
                        hazptr::scope_array(|[a, b]| {
                            check(a.protect(&SOURCE));
                            check(b.protect(&SOURCE));
                            check(kept.protect(&SOURCE));
                        });
                        check(HazardPointer::new().protect(&SOURCE));
                        if let Some(object) = set.take() {
                            let old = SOURCE.swap(object, Ordering::AcqRel);
                            if !old.is_null() {
                                DOMAIN.retire(old);
                            }
                        }
                    }
                }
            });
        }
    });
    every(0);
    assert!(HANDLED.load(Ordering::Relaxed) > 100, "{} signals", HANDLED.load(Ordering::Relaxed));
    let last = SOURCE.swap(ptr::null_mut(), Ordering::AcqRel);
    // SAFETY: unlinked, retired once.
    unsafe { DOMAIN.retire(last) };
    DOMAIN.barrier();
    assert_eq!(DOMAIN.stats().unreclaimed, 0);
}

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
            // SAFETY: the sources hold objects that are unlinked before they are retired. (So for all below.)
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
            assert_eq!(domain.reclaim(), 1, "a slot in a dead thread's block, held by the survivor");
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
    unsafe { domain.retire_for(Box::into_raw(Box::new(Slow { head: Head::new(), entered, go })), &owner) };
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
