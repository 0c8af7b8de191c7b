//! Models of pops that wait: every interleaving (up to three preemptions, or one where there are
//! three threads) of a wait with what ends it. A wake-up that is lost is a deadlock, which loom
//! reports.
//!
//! The twins each leave out one thing that the text of `waiting.rs` relies on.
#![cfg(loom)]

use loom::cell::UnsafeCell;
use loom::model::Builder;
use loom::sync::Arc;
use loom::sync::atomic::{AtomicU32, Ordering, fence};
use loom::thread;
use objpool::model::Waiting;
use objpool::{
    Bitmap, CasLifo, FlagArray, FlatArray, FreeList, PerCpuList, RawPool, RingArray, RseqLifo,
};
use std::alloc::Layout;
use std::mem::ManuallyDrop;
use std::time::Duration;

fn model(f: impl Fn() + Sync + Send + 'static) {
    bounded(3, f);
}

/// Three threads with the whole pool between them have a hundred times as many interleavings as
/// two.
fn bounded(preemptions: usize, f: impl Fn() + Sync + Send + 'static) {
    let mut builder = Builder::new();
    builder.preemption_bound = Some(preemptions);
    builder.max_branches = 20_000;
    builder.check(f);
}

/// The pool itself. Its objects stand for `cells`.
struct Pool<L: FreeList> {
    raw: RawPool<L>,
    cells: Vec<UnsafeCell<u32>>,
}

impl<L: FreeList> Pool<L> {
    fn new(capacity: usize) -> Arc<Self> {
        let builder = objpool::Builder::new(capacity, Layout::new::<u64>());
        let raw = builder.build::<L>().expect("memory");
        let cells = (0..capacity).map(|_| UnsafeCell::new(0)).collect();
        let pool = Arc::new(Self { raw, cells });
        // Each object knows its cell.
        let all: Vec<_> = std::iter::from_fn(|| pool.raw.pop()).collect();
        for (number, object) in all.into_iter().enumerate() {
            // SAFETY: an object of 8 bytes that this thread owns.
            unsafe { object.cast::<u64>().write(number as u64) };
            pool.push(Object(object));
        }
        pool
    }

    /// Writes: loom sees two owners, and one that does not see the last one's write, as a race.
    fn own(&self, object: Object) -> Object {
        // SAFETY: written when the pool was made, and never again.
        let number = unsafe { object.0.cast::<u64>().read() };
        self.cells[number as usize].with_mut(|cell| {
            // SAFETY: this thread owns the object; that is what loom checks.
            unsafe { *cell += 1 };
        });
        object
    }

    fn wait(&self) -> Option<Object> {
        self.raw.pop_wait().map(|object| self.own(Object(object)))
    }

    fn pop(&self) -> Option<Object> {
        self.raw.pop().map(|object| self.own(Object(object)))
    }

    fn push(&self, object: Object) {
        // SAFETY: popped by this thread, or given to it.
        unsafe { self.raw.push(object.0) }.expect("an object that is out");
    }
}

/// An object that is out.
struct Object(std::ptr::NonNull<u8>);

// SAFETY: an address.
unsafe impl Send for Object {}

/// The only object comes back while another thread waits, or before, or after it has looked.
fn a_push_ends_a_wait<L: FreeList>() {
    model(|| {
        let pool = Pool::<L>::new(1);
        let object = pool.pop().expect("one is free");
        let waiter = {
            let pool = Arc::clone(&pool);
            thread::spawn(move || pool.push(pool.wait().expect("it comes back")))
        };
        pool.push(object);
        waiter.join().expect("no panic");
        assert!(pool.pop().is_some() && pool.pop().is_none());
    });
}

/// Two wait for one object, one after the other: the first one's push is the second one's end.
fn one_after_the_other<L: FreeList>() {
    bounded(1, || {
        let pool = Pool::<L>::new(1);
        let object = pool.pop().expect("one is free");
        let waiters = [(); 2].map(|()| {
            let pool = Arc::clone(&pool);
            thread::spawn(move || pool.push(pool.wait().expect("it comes back")))
        });
        pool.push(object);
        waiters.into_iter().for_each(|waiter| waiter.join().expect("no panic"));
    });
}

/// One thread closes, one waits: the wait ends.
fn close_ends_a_wait<L: FreeList>() {
    model(|| {
        let pool = Pool::<L>::new(1);
        let object = pool.pop().expect("one is free");
        let waiter = {
            let pool = Arc::clone(&pool);
            thread::spawn(move || assert!(pool.wait().is_none()))
        };
        pool.raw.close();
        waiter.join().expect("no panic");
        pool.push(object);
    });
}

/// A waiter whose time is over takes no wake-up with it that another one needs.
fn a_time_out_beside_a_wait<L: FreeList>() {
    bounded(1, || {
        let pool = Pool::<L>::new(1);
        let object = pool.pop().expect("one is free");
        let waiters = [false, true].map(|for_a_time| {
            let pool = Arc::clone(&pool);
            thread::spawn(move || {
                let got = if for_a_time {
                    pool.raw.pop_timeout(Duration::ZERO).map(|object| pool.own(Object(object)))
                } else {
                    Some(pool.wait().expect("it comes back"))
                };
                got.into_iter().for_each(|object| pool.push(object));
            })
        });
        pool.push(object);
        waiters.into_iter().for_each(|waiter| waiter.join().expect("no panic"));
    });
}

macro_rules! models {
    ($($name:ident: $list:ty),*) => {$(
        mod $name {
            use super::*;

            #[test]
            fn a_push_ends_a_wait() {
                super::a_push_ends_a_wait::<$list>();
            }

            #[test]
            fn close_ends_a_wait() {
                super::close_ends_a_wait::<$list>();
            }
        }
    )*};
}

models!(
    cas_lifo: CasLifo,
    flat_array: FlatArray,
    ring_array: RingArray,
    percpu_list: PerCpuList,
    bitmap: Bitmap,
    flag_array: FlagArray,
    default: RseqLifo
);

#[test]
fn two_waiters() {
    one_after_the_other::<FlagArray>();
}

#[test]
fn two_waiters_one_for_a_time() {
    a_time_out_beside_a_wait::<FlagArray>();
}

/// The protocol alone, over a list that is one word, with what a twin may leave out.
///
/// A deadlock unwinds what is blocked, with loom's objects gone: nothing that is dropped here may
/// touch them, so waiters stay entered, and the count that shares the parts is not loom's.
struct Parts {
    waiting: Waiting,
    free: AtomicU32,
}

#[derive(Clone, Copy)]
struct Twin {
    /// Between the push and the look at the state (`FreeList::settle`).
    push_barrier: bool,
    /// Between entering and the look at the list (`FreeList::hold`).
    wait_barrier: bool,
    /// The turn is read before the look at the list.
    turn_first: bool,
}

const RIGHT: Twin = Twin { push_barrier: true, wait_barrier: true, turn_first: true };

fn parts(twin: Twin) {
    model(move || {
        let parts = std::sync::Arc::new(Parts { waiting: Waiting::new(), free: AtomicU32::new(0) });
        let waiter = {
            let parts = std::sync::Arc::clone(&parts);
            thread::spawn(move || {
                let waiter = ManuallyDrop::new(parts.waiting.enter());
                if twin.wait_barrier {
                    fence(Ordering::SeqCst);
                }
                loop {
                    let before = twin.turn_first.then(|| waiter.turn());
                    if parts.free.load(Ordering::Acquire) != 0 {
                        break;
                    }
                    assert!(waiter.sleep(before.unwrap_or_else(|| waiter.turn()), None));
                }
            })
        };
        parts.free.store(1, Ordering::Release);
        if twin.push_barrier {
            fence(Ordering::SeqCst);
        }
        if !parts.waiting.is_quiet() {
            parts.waiting.wake_one();
        }
        waiter.join().expect("no panic");
    });
}

#[test]
fn the_protocol_alone() {
    parts(RIGHT);
}

#[test]
#[should_panic(expected = "deadlock")]
fn twin_without_the_barrier_of_the_push() {
    parts(Twin { push_barrier: false, ..RIGHT });
}

#[test]
#[should_panic(expected = "deadlock")]
fn twin_without_the_barrier_of_the_wait() {
    parts(Twin { wait_barrier: false, ..RIGHT });
}

#[test]
#[should_panic(expected = "deadlock")]
fn twin_that_reads_the_turn_after_its_look() {
    parts(Twin { turn_first: false, ..RIGHT });
}

/// The default list: an owner's sequences look at the gate and not at the state. A sequence is
/// modelled as in `loom_twins`: what the kernel makes of it, a lock that the fence takes once.
struct Gated {
    parts: Parts,
    closed: AtomicU32,
    cpu: loom::sync::Mutex<()>,
}

fn gated(holds: bool, with_fence: bool) {
    model(move || {
        let gated = std::sync::Arc::new(Gated {
            parts: Parts { waiting: Waiting::new(), free: AtomicU32::new(0) },
            closed: AtomicU32::new(0),
            cpu: loom::sync::Mutex::new(()),
        });
        let waiter = {
            let gated = std::sync::Arc::clone(&gated);
            thread::spawn(move || {
                let waiter = ManuallyDrop::new(gated.parts.waiting.enter());
                if holds {
                    gated.closed.fetch_add(1, Ordering::SeqCst);
                    if with_fence {
                        drop(gated.cpu.lock().expect("no panic"));
                        fence(Ordering::SeqCst);
                    }
                }
                loop {
                    let turn = waiter.turn();
                    if gated.parts.free.load(Ordering::Acquire) != 0 {
                        break;
                    }
                    assert!(waiter.sleep(turn, None));
                }
                if holds {
                    gated.closed.fetch_sub(1, Ordering::AcqRel);
                }
            })
        };
        let committed = {
            let _sequence = gated.cpu.lock().expect("no panic");
            let open = gated.closed.load(Ordering::Acquire) == 0;
            thread::yield_now();
            if open {
                gated.parts.free.store(1, Ordering::Release);
            }
            open
        };
        if !committed {
            // Into a bag.
            gated.parts.free.swap(1, Ordering::SeqCst);
            fence(Ordering::SeqCst);
            if !gated.parts.waiting.is_quiet() {
                gated.parts.waiting.wake_one();
            }
        }
        waiter.join().expect("no panic");
    });
}

#[test]
fn a_waiter_behind_a_closed_gate() {
    gated(true, true);
}

#[test]
#[should_panic(expected = "deadlock")]
fn twin_that_leaves_the_gate_open() {
    gated(false, false);
}

#[test]
#[should_panic(expected = "deadlock")]
fn twin_gate_without_fence() {
    gated(true, false);
}
