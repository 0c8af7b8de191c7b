//! The regression test of the ring: the protocol that was posted for the kernel loses objects and
//! gives them twice in user space, the crate's ring does not under the same load.
//!
//! Posted (`lib/objpool.c` as first sent, 2022): push = compare-and-swap tail t -> t + 1;
//! entries[t] = object; last = t + 1. Pop = while head != last: read entries[head],
//! compare-and-swap head -> head + 1. The kernel turns interrupts off around it, so a slot has one
//! pusher at a time. Threads can be preempted between any two of the three steps: then a second
//! pusher overtakes, `last` passes an entry that is not stored yet (a popper takes what lay there a
//! lap before), and goes back when the first one continues.
//!
//! To make a preemption at the named points likely on any machine, both rings are disturbed alike:
//! the posted one yields now and then between its steps, and every thread does so between
//! operations.
#![cfg(not(loom))]

mod common;

use common::{Kind, Random};
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

const OBJECTS: u32 = 16;
const THREADS: u64 = 8;
/// Until when a broken ring must have shown itself; the right one runs for `RIGHT`.
const LIMIT: Duration = Duration::from_secs(20);
const RIGHT: Duration = Duration::from_secs(2);

/// What both rings offer here: numbers 1..=OBJECTS.
trait Ring: Sync {
    fn pop(&self, random: &mut Random) -> Option<u32>;
    fn push(&self, number: u32, random: &mut Random);
}

fn maybe_yield(random: &mut Random) {
    if random.below(16) == 0 {
        thread::yield_now();
    }
}

/// The posted protocol, one slot, as many entries as objects.
struct Posted {
    head: AtomicU32,
    tail: AtomicU32,
    last: AtomicU32,
    entries: [AtomicU32; OBJECTS as usize],
    stop: AtomicBool,
}

impl Posted {
    fn entry(&self, position: u32) -> &AtomicU32 {
        &self.entries[(position % OBJECTS) as usize]
    }
}

impl Ring for Posted {
    fn pop(&self, _random: &mut Random) -> Option<u32> {
        let mut head = self.head.load(Ordering::Acquire);
        // `stop` ends the walk around the whole ring that follows when `last` went back.
        while head != self.last.load(Ordering::Acquire) && !self.stop.load(Ordering::Relaxed) {
            let number = self.entry(head).load(Ordering::Acquire);
            match self.head.compare_exchange(
                head,
                head.wrapping_add(1),
                Ordering::AcqRel,
                Ordering::Acquire,
            ) {
                Ok(_) => return Some(number),
                Err(now) => head = now,
            }
        }
        None
    }

    fn push(&self, number: u32, random: &mut Random) {
        let mut tail = self.tail.load(Ordering::Relaxed);
        while let Err(now) = self.tail.compare_exchange(
            tail,
            tail.wrapping_add(1),
            Ordering::AcqRel,
            Ordering::Relaxed,
        ) {
            tail = now;
        }
        maybe_yield(random);
        self.entry(tail).store(number, Ordering::Release);
        maybe_yield(random);
        self.last.store(tail.wrapping_add(1), Ordering::Release);
    }
}

/// What went wrong.
#[derive(Debug, Default)]
struct Damage {
    /// A number that had an owner was given away.
    twice: AtomicU64,
    /// A thread that holds nothing, while there are more numbers than threads, got nothing
    /// `PATIENCE` times in a row.
    starved: AtomicU64,
}

const PATIENCE: u32 = 100_000;

impl Damage {
    fn any(&self) -> bool {
        self.twice.load(Ordering::Relaxed) != 0 || self.starved.load(Ordering::Relaxed) != 0
    }
}

/// Pops and pushes from all threads until there is damage or the time is up.
fn load(ring: &dyn Ring, stop: &AtomicBool, limit: Duration) -> Damage {
    let owners = [const { AtomicBool::new(false) }; OBJECTS as usize + 1];
    let damage = Damage::default();
    let end = Instant::now() + limit;
    thread::scope(|s| {
        for who in 1..=THREADS {
            let (owners, damage) = (&owners, &damage);
            s.spawn(move || {
                let mut random = Random::new(who);
                let mut nothing = 0;
                while !stop.load(Ordering::Relaxed) {
                    match ring.pop(&mut random) {
                        Some(number) => {
                            nothing = 0;
                            if owners[number as usize].swap(true, Ordering::AcqRel) {
                                damage.twice.fetch_add(1, Ordering::Relaxed);
                            }
                            maybe_yield(&mut random);
                            owners[number as usize].store(false, Ordering::Release);
                            ring.push(number, &mut random);
                        }
                        None => {
                            nothing += 1;
                            if nothing == PATIENCE {
                                damage.starved.fetch_add(1, Ordering::Relaxed);
                            }
                        }
                    }
                    if damage.any() || Instant::now() >= end {
                        stop.store(true, Ordering::Relaxed);
                    }
                }
            });
        }
    });
    damage
}

#[test]
fn the_posted_protocol_gives_objects_twice_or_loses_them() {
    let ring = Posted {
        head: AtomicU32::new(0),
        tail: AtomicU32::new(OBJECTS),
        last: AtomicU32::new(OBJECTS),
        entries: std::array::from_fn(|i| AtomicU32::new(i as u32 + 1)),
        stop: AtomicBool::new(false),
    };
    let damage = load(&ring, &ring.stop, LIMIT);
    println!("{damage:?}");
    assert!(damage.any(), "the broken twin survived");
}

/// The crate's ring through its pool: numbers are found by address.
struct Crate {
    pool: Box<dyn objpool::Pool>,
    addresses: Vec<usize>,
    stop: AtomicBool,
}

impl Ring for Crate {
    fn pop(&self, random: &mut Random) -> Option<u32> {
        maybe_yield(random);
        let address = self.pool.pop()?.addr().get();
        self.addresses.iter().position(|a| *a == address).map(|i| i as u32 + 1)
    }

    fn push(&self, number: u32, random: &mut Random) {
        maybe_yield(random);
        let object = std::ptr::with_exposed_provenance_mut(self.addresses[number as usize - 1]);
        let object = std::ptr::NonNull::new(object).expect("not null");
        // SAFETY: popped by this thread, not used after.
        unsafe { self.pool.push(object) }.expect("an object that is out");
        maybe_yield(random);
    }
}

#[test]
fn the_ring_of_this_crate_does_not() {
    let pool = Kind::RingArray.pool(OBJECTS as usize, 8);
    let objects: Vec<_> = std::iter::from_fn(|| pool.pop()).collect();
    let addresses = objects.iter().map(|object| object.expose_provenance().get()).collect();
    for object in objects {
        // SAFETY: just popped.
        unsafe { pool.push(object) }.expect("out");
    }
    let ring = Crate { pool, addresses, stop: AtomicBool::new(false) };
    let damage = load(&ring, &ring.stop, RIGHT);
    assert!(!damage.any(), "{damage:?}");
    // 8 threads with one object each and 16 objects: the pool never missed.
    assert_eq!(ring.pool.statistics().misses, 1, "the one that emptied it at the start");
    common::check_full(&*ring.pool);
}
