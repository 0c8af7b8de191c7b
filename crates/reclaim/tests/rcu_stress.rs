//! Torture of `rcu` and `srcu` with an oracle, more threads than CPUs.
//!
//! Writers replace the current object. The old one ages by a stage after each grace period, is
//! poisoned at the last and used again. A reader that finds an object may see it at stage 0
//! (current) or 1 (replaced under its eyes); stage 2 means that a grace period ended while it
//! looked. The scheme is that of the kernel's `rcutorture`.
#![cfg(not(loom))]

use reclaim::rcu::{self, Head};
use reclaim::srcu::{Fast, Flavour, Normal, SrcuDomain};
use std::collections::VecDeque;
use std::ptr::NonNull;
use std::sync::atomic::{AtomicBool, AtomicPtr, AtomicU32, AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

const GOOD: u64 = 0x600d_600d_600d_600d;
const POISON: u64 = 0xdead_dead_dead_dead;
const LAST_STAGE: u32 = 10;
const READERS: usize = 20;
const TIME: Duration = Duration::from_millis(700);

#[repr(C)]
struct Object {
    head: Head,
    stage: AtomicU32,
    value: AtomicU64,
}

impl Object {
    fn new() -> *mut Self {
        Box::into_raw(Box::new(Self {
            head: Head::new(),
            stage: AtomicU32::new(0),
            value: AtomicU64::new(GOOD),
        }))
    }
}

/// What the torture needs of a flavour.
trait Domain: Sync {
    type Section<'a>
    where
        Self: 'a;
    fn enter(&self) -> Self::Section<'_>;
    fn synchronize(&self);
    fn start_poll(&self) -> u64;
    fn poll(&self, cookie: u64) -> bool;
    /// # Safety
    /// As `Domain::call` of the flavour.
    unsafe fn call(&self, head: NonNull<Head>, callback: rcu::Callback);
    fn barrier(&self);
}

struct Global;

impl Domain for Global {
    type Section<'a> = rcu::Guard<'static>;
    fn enter(&self) -> Self::Section<'_> {
        rcu::read_lock()
    }
    fn synchronize(&self) {
        rcu::synchronize();
    }
    fn start_poll(&self) -> u64 {
        rcu::start_poll().to_bits()
    }
    fn poll(&self, cookie: u64) -> bool {
        rcu::poll(rcu::Cookie::from_bits(cookie))
    }
    unsafe fn call(&self, head: NonNull<Head>, callback: rcu::Callback) {
        // SAFETY: the caller's promise.
        unsafe { rcu::call(head, callback) };
        rcu::run_callbacks();
    }
    fn barrier(&self) {
        rcu::barrier();
    }
}

impl<K: Flavour + 'static> Domain for SrcuDomain<K> {
    type Section<'a> = reclaim::srcu::Guard<'a, K>;
    fn enter(&self) -> Self::Section<'_> {
        self.read_lock()
    }
    fn synchronize(&self) {
        SrcuDomain::synchronize(self);
    }
    fn start_poll(&self) -> u64 {
        SrcuDomain::start_poll(self).to_bits()
    }
    fn poll(&self, cookie: u64) -> bool {
        SrcuDomain::poll(self, reclaim::srcu::Cookie::from_bits(cookie))
    }
    unsafe fn call(&self, head: NonNull<Head>, callback: rcu::Callback) {
        // SAFETY: the caller's promise.
        unsafe { SrcuDomain::call(self, head, callback) };
        self.run_callbacks();
    }
    fn barrier(&self) {
        SrcuDomain::barrier(self);
    }
}

struct Torture<'d, D> {
    domain: &'d D,
    current: AtomicPtr<Object>,
    stop: AtomicBool,
    reads: AtomicU64,
}

impl<'d, D: Domain> Torture<'d, D> {
    fn new(domain: &'d D) -> Self {
        Self {
            domain,
            current: AtomicPtr::new(Object::new()),
            stop: AtomicBool::new(false),
            reads: AtomicU64::new(0),
        }
    }

    fn running(&self) -> bool {
        !self.stop.load(Ordering::Relaxed)
    }

    /// Looks at the current object, with delays that `step` spreads.
    fn look(&self, step: u64) {
        let _section = self.domain.enter();
        // SAFETY: objects are freed after a grace period, and a section is open: what is under
        // test.
        let object = unsafe { &*self.current.load(Ordering::Acquire) };
        let nested = step.is_multiple_of(3).then(|| self.domain.enter());
        if step.is_multiple_of(64) {
            thread::yield_now();
        }
        if step.is_multiple_of(1024) {
            thread::sleep(Duration::from_micros(50));
        }
        drop(nested);
        assert!(
            object.stage.load(Ordering::Relaxed) <= 1,
            "a grace period ended while a reader looked"
        );
        assert_eq!(object.value.load(Ordering::Relaxed), GOOD, "freed while a reader looked");
    }

    fn read(&self, seed: u64) {
        let mut step = seed;
        while self.running() {
            self.look(step);
            step += 1;
        }
        self.reads.fetch_add(step - seed, Ordering::Relaxed);
    }

    fn replace(&self) -> NonNull<Object> {
        let old = NonNull::new(self.current.swap(Object::new(), Ordering::AcqRel))
            .expect("always an object");
        // SAFETY: freed by this writer only, later.
        unsafe { old.as_ref() }.stage.store(1, Ordering::Relaxed);
        old
    }

    fn age(old: NonNull<Object>) -> bool {
        // SAFETY: freed by this writer only, when this returns true.
        let object = unsafe { old.as_ref() };
        let stage = object.stage.fetch_add(1, Ordering::Relaxed) + 1;
        if stage == LAST_STAGE {
            object.value.store(POISON, Ordering::Relaxed);
        }
        stage == LAST_STAGE
    }

    /// Waits.
    fn write_by_waiting(&self) {
        let mut pipe = VecDeque::new();
        while self.running() {
            pipe.push_back(self.replace());
            self.domain.synchronize();
            pipe.retain(|&old| !Self::age(old) || free(old));
        }
        self.domain.synchronize();
        pipe.into_iter().for_each(|old| assert!(!free(old)));
    }

    /// Polls, holding many cookies at once.
    fn write_by_polling(&self) {
        let mut pipe: VecDeque<(u64, NonNull<Object>)> = VecDeque::new();
        while self.running() {
            let old = self.replace();
            pipe.push_back((self.domain.start_poll(), old));
            for _ in 0..pipe.len() {
                let Some((cookie, old)) = pipe.pop_front() else { break };
                if !self.domain.poll(cookie) {
                    pipe.push_back((cookie, old));
                } else if Self::age(old) {
                    assert!(!free(old));
                } else {
                    pipe.push_back((self.domain.start_poll(), old));
                }
            }
            if pipe.len() > 200 {
                self.domain.synchronize();
            }
        }
        self.domain.synchronize();
        pipe.into_iter().for_each(|(_, old)| assert!(!free(old)));
    }

    /// Queues callbacks.
    fn write_by_calling(&self) {
        let mut n = 0_u32;
        while self.running() {
            let old = self.replace();
            // SAFETY: unlinked, new to the queue, freed by the callback.
            unsafe { self.domain.call(old.cast(), poison_and_free) };
            n += 1;
            if n.is_multiple_of(100) {
                self.domain.barrier();
            }
        }
        self.domain.barrier();
    }

    fn run(&self) {
        thread::scope(|s| {
            for seed in 0..READERS as u64 {
                s.spawn(move || self.read(seed * 1000));
            }
            s.spawn(|| self.write_by_waiting());
            s.spawn(|| self.write_by_polling());
            s.spawn(|| self.write_by_calling());
            // Threads that come and go.
            s.spawn(|| {
                while self.running() {
                    thread::scope(|s| {
                        s.spawn(|| (0..100).for_each(|step| self.look(step)))
                            .join()
                            .expect("no panic")
                    });
                }
            });
            let start = Instant::now();
            while start.elapsed() < TIME {
                thread::sleep(Duration::from_millis(10));
            }
            self.stop.store(true, Ordering::Relaxed);
        });
        assert!(self.reads.load(Ordering::Relaxed) > 0);
        self.domain.barrier();
        free(NonNull::new(self.current.load(Ordering::Relaxed)).expect("always an object"));
    }
}

/// False, for `retain`.
fn free(object: NonNull<Object>) -> bool {
    // SAFETY: made by `Object::new`, unlinked, and no reader has it.
    drop(unsafe { Box::from_raw(object.as_ptr()) });
    false
}

unsafe fn poison_and_free(head: NonNull<Head>) {
    let object = head.cast::<Object>();
    // SAFETY: the head is the object's first field, and the callback owns the object.
    unsafe { object.as_ref() }.value.store(POISON, Ordering::Relaxed);
    free(object);
}

#[test]
fn rcu_global() {
    Torture::new(&Global).run();
}

#[test]
fn srcu_normal() {
    Torture::new(&SrcuDomain::<Normal>::new()).run();
}

#[test]
fn srcu_fast() {
    Torture::new(&SrcuDomain::<Fast>::new()).run();
}

#[test]
fn srcu_fast_without_a_slot() {
    // As many domains as threads' records have counters for, so that the last one falls back.
    let domains: Vec<SrcuDomain<Fast>> = (0..16).map(|_| SrcuDomain::new()).collect();
    Torture::new(&domains[15]).run();
}
