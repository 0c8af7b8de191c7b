//! How long a pop that waits takes to get what another thread gives back.
//!
//! Two threads, two pools of one object each, both empty: each thread waits in its pool for what
//! the other one gives back there. So every operation is a wake-up of a thread that sleeps, or is
//! about to. The peers are what one would write without: a stack under a lock with a condition
//! variable.
#![allow(unsafe_code)]

use crate::options::Options;
use crate::report::Sheet;
use crate::stats::Summary;
use objpool::{Bitmap, Builder, FreeList, RawPool, RseqLifo};
use std::alloc::Layout;
use std::ptr::{self, NonNull};
use std::sync::Barrier;
use std::sync::atomic::{AtomicPtr, Ordering};
use std::thread;
use std::time::Instant;

/// A pool of one object.
trait Waits: Sync {
    /// The object, before anybody else has it.
    fn first(&self) -> NonNull<u64>;
    fn wait(&self) -> NonNull<u64>;
    fn give(&self, object: NonNull<u64>);
}

struct Ours<L: FreeList>(RawPool<L>);

impl<L: FreeList> Ours<L> {
    fn new(rseq: bool) -> Self {
        let builder = Builder::new(1, Layout::new::<u64>()).rseq(rseq);
        Self(builder.build().expect("memory for the pool"))
    }
}

impl<L: FreeList> Waits for Ours<L> {
    fn first(&self) -> NonNull<u64> {
        self.wait()
    }

    fn wait(&self) -> NonNull<u64> {
        self.0.pop_wait().expect("the pool stays open").cast()
    }

    fn give(&self, object: NonNull<u64>) {
        // SAFETY: came from `wait` and is given back once.
        unsafe { self.0.push(object.cast()) }.expect("a popped object can be pushed");
    }
}

/// An object that two threads hand to each other.
struct Object(NonNull<u64>);

// SAFETY: one thread has it at a time.
unsafe impl Send for Object {}

impl Object {
    /// Lives as long as the process: 8 bytes for each measurement.
    fn new() -> Self {
        Self(NonNull::from(Box::leak(Box::new(0))))
    }
}

struct Std(std::sync::Mutex<Vec<Object>>, std::sync::Condvar);

impl Waits for Std {
    fn first(&self) -> NonNull<u64> {
        Object::new().0
    }

    fn wait(&self) -> NonNull<u64> {
        let mut stack = self.0.lock().expect("no panic under it");
        loop {
            match stack.pop() {
                Some(object) => return object.0,
                None => stack = self.1.wait(stack).expect("no panic under it"),
            }
        }
    }

    fn give(&self, object: NonNull<u64>) {
        self.0.lock().expect("no panic under it").push(Object(object));
        self.1.notify_one();
    }
}

struct ParkingLot(parking_lot::Mutex<Vec<Object>>, parking_lot::Condvar);

impl Waits for ParkingLot {
    fn first(&self) -> NonNull<u64> {
        Object::new().0
    }

    fn wait(&self) -> NonNull<u64> {
        let mut stack = self.0.lock();
        loop {
            match stack.pop() {
                Some(object) => return object.0,
                None => self.1.wait(&mut stack),
            }
        }
    }

    fn give(&self, object: NonNull<u64>) {
        self.0.lock().push(Object(object));
        self.1.notify_one();
    }
}

/// ns from hand to hand.
fn measure<W: Waits>(pools: [W; 2], rounds: u64) -> f64 {
    // What a thread got from its pool, for the other one to give back there.
    let aside = [pools[0].first(), pools[1].first()].map(|object| AtomicPtr::new(object.as_ptr()));
    let give = |i: usize| {
        let object = aside[i].swap(ptr::null_mut(), Ordering::Relaxed);
        pools[i].give(NonNull::new(object).expect("put aside before this thread was woken"));
    };
    let both = Barrier::new(3);
    thread::scope(|s| {
        for i in 0..2 {
            let (pools, aside, give, both) = (&pools, &aside, &give, &both);
            s.spawn(move || {
                both.wait();
                for round in 1..=rounds {
                    // Relaxed: the pools order it.
                    aside[i].store(pools[i].wait().as_ptr(), Ordering::Relaxed);
                    if i == 0 || round < rounds {
                        give(1 - i);
                    }
                }
                both.wait();
            });
        }
        both.wait();
        let begin = Instant::now();
        give(0);
        both.wait();
        begin.elapsed().as_nanos() as f64 / (2 * rounds) as f64
    })
}

type Row = (&'static str, fn(u64) -> f64);

const ROWS: [Row; 5] = [
    ("default pool", |rounds| measure([true, true].map(Ours::<RseqLifo>::new), rounds)),
    ("default pool, no rseq", |rounds| measure([false, false].map(Ours::<RseqLifo>::new), rounds)),
    ("bitmap", |rounds| measure([true, true].map(Ours::<Bitmap>::new), rounds)),
    ("Mutex<Vec> + Condvar, std", |rounds| {
        measure([(); 2].map(|()| Std(Default::default(), Default::default())), rounds)
    }),
    ("Mutex<Vec> + Condvar, parking_lot", |rounds| {
        measure([(); 2].map(|()| ParkingLot(Default::default(), Default::default())), rounds)
    }),
];

/// Measures all rows, alternating.
pub(super) fn run(options: &Options) -> Sheet {
    let rounds = if options.quick { 2_000 } else { 20_000 };
    let mut runs: [Vec<f64>; ROWS.len()] = Default::default();
    for repeat in 0..options.repeats(7) {
        for i in 0..ROWS.len() {
            let row = (i + repeat) % ROWS.len();
            runs[row].push(ROWS[row].1(rounds));
        }
    }
    let mut sheet = Sheet::new(
        "from a push on one thread to the end of the wait on another, ns of time",
        &["min", "median", "max"],
    );
    for ((name, _), runs) in ROWS.iter().zip(runs) {
        let summary = Summary::of(runs);
        let values = [
            summary.as_ref().map(|s| s.min),
            summary.as_ref().map(|s| s.median),
            summary.as_ref().map(|s| s.max),
        ];
        sheet.row(name, values.to_vec(), "");
    }
    sheet
}
