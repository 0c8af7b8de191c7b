//! Readers against writers with an oracle: an object's canary is poisoned when it is reclaimed, and
//! a reader that ever sees poison has been betrayed. More threads than CPUs, all ways to protect at
//! once, domains with every policy.
#![cfg(not(loom))]
#![allow(
    clippy::multiple_unsafe_ops_per_block,
    reason = "one promise covers the calls of a test body"
)]

use reclaim::hazptr::{self, Detached, Domain, Hazard, HazardPointer, Head, Policy};
use std::hint;
use std::ptr;
use std::sync::atomic::{AtomicBool, AtomicPtr, AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard};
use std::thread;
use std::time::{Duration, Instant};

const ALIVE: u64 = 0xA11C_E5A1_1CE5_A11C;
const POISON: u64 = 0xDEAD_DEAD_DEAD_DEAD;

struct Object {
    canary: AtomicU64,
    head: Head,
    twin: AtomicU64,
}
reclaim::retirable!(Object, head);

impl Object {
    fn boxed() -> *mut Self {
        Box::into_raw(Box::new(Self {
            canary: AtomicU64::new(ALIVE),
            head: Head::new(),
            twin: AtomicU64::new(!ALIVE),
        }))
    }

    /// Looks for a while.
    fn check(&self, looks: u32) {
        for _ in 0..looks {
            assert_eq!(
                self.canary.load(Ordering::Relaxed),
                ALIVE,
                "a protected object was reclaimed"
            );
            assert_eq!(
                self.twin.load(Ordering::Relaxed),
                !ALIVE,
                "a protected object was reclaimed"
            );
            hint::spin_loop();
        }
    }
}

impl Drop for Object {
    fn drop(&mut self) {
        assert_eq!(self.canary.swap(POISON, Ordering::Relaxed), ALIVE, "reclaimed twice");
        self.twin.store(POISON, Ordering::Relaxed);
    }
}

const SOURCES: usize = 4;
const TIME: Duration = Duration::from_millis(1500);

struct World {
    sources: [AtomicPtr<Object>; SOURCES],
    stop: AtomicBool,
    mailbox: Mutex<Vec<Detached<Object>>>,
    reads: AtomicU64,
}

impl World {
    fn new() -> Self {
        Self {
            sources: std::array::from_fn(|_| AtomicPtr::new(Object::boxed())),
            stop: AtomicBool::new(false),
            mailbox: Mutex::default(),
            reads: AtomicU64::new(0),
        }
    }

    fn go_on(&self) -> bool {
        self.reads.fetch_add(1, Ordering::Relaxed);
        !self.stop.load(Ordering::Relaxed)
    }

    fn mailbox(&self) -> MutexGuard<'_, Vec<Detached<Object>>> {
        self.mailbox.lock().unwrap()
    }

    fn write(&self, domain: &Domain, deferred: bool) {
        let mut i = 0;
        while !self.stop.load(Ordering::Relaxed) {
            let new = if i % 7 == 0 { ptr::null_mut() } else { Object::boxed() };
            let old = self.sources[i % SOURCES].swap(new, Ordering::AcqRel);
            i += 1;
            if old.is_null() {
                continue;
            }
            // SAFETY: from a box, unlinked by the swap, retired once.
            unsafe {
                if deferred && i % 2 == 0 {
                    domain.retire_deferred(old);
                } else {
                    domain.retire(old);
                }
            }
        }
    }

    fn finish(mut self) {
        let domain = Domain::new();
        self.mailbox().clear();
        for src in &mut self.sources {
            if !src.get_mut().is_null() {
                // SAFETY: from a box, nobody else is there any more.
                unsafe { domain.retire(*src.get_mut()) };
            }
        }
    }
}

fn read_kept(w: &World) {
    let mut hp = HazardPointer::new();
    let mut i = 0;
    while w.go_on() {
        i += 1;
        // SAFETY: the sources hold objects from boxes, unlinked before they are retired. (So for
        // all readers below.)
        if let Some(o) = unsafe { hp.protect(&w.sources[i % SOURCES]) } {
            o.check(if i % 1024 == 0 { 20_000 } else { 3 });
        }
        if i % 3 == 0 {
            hp.reset();
        }
    }
}

fn read_new_holders(w: &World) {
    let mut i = 0;
    while w.go_on() {
        i += 1;
        let mut hp = HazardPointer::new();
        // SAFETY: as above.
        if let Some(o) = unsafe { hp.protect_wait_free(&w.sources[i % SOURCES]) } {
            o.check(3);
        }
    }
}

fn read_scoped(w: &World) {
    fn look(hp: &mut Hazard<'_>, src: &AtomicPtr<Object>) {
        // SAFETY: as above.
        if let Some(o) = unsafe { hp.protect(src) } {
            o.check(3);
        }
    }
    let mut i = 0;
    while w.go_on() {
        i += 1;
        let (a, b) = (&w.sources[i % SOURCES], &w.sources[(i / 3) % SOURCES]);
        // SAFETY: as above.
        unsafe {
            hazptr::read(a, |first| {
                hazptr::scope_array(|[x, y]| {
                    look(x, b);
                    std::mem::swap(x, y);
                    look(x, a);
                });
                if let Some(o) = first {
                    o.check(3);
                }
            });
        }
    }
}

fn hand_off(w: &World) {
    let mut i = 0;
    while w.go_on() {
        i += 1;
        // SAFETY: as above.
        let Ok(object) = (unsafe { HazardPointer::new().protect_owned(&w.sources[i % SOURCES]) })
        else {
            continue;
        };
        object.check(3);
        if w.mailbox().len() < 20 {
            let token = object.detach();
            w.mailbox().push(token);
        }
        if i % 2 == 0 {
            let token = w.mailbox().pop();
            if let Some(token) = token {
                token.attach().check(3);
            }
        }
    }
}

fn run(domain: &Domain, writers: usize) {
    let w = World::new();
    thread::scope(|s| {
        for reader in [read_kept, read_new_holders, read_scoped, hand_off] {
            for _ in 0..2 {
                let w = &w;
                s.spawn(move || reader(w));
            }
        }
        for i in 0..writers {
            let w = &w;
            s.spawn(move || w.write(domain, i == 0));
        }
        let since = Instant::now();
        while since.elapsed() < TIME || w.reads.load(Ordering::Relaxed) < 1000 {
            thread::sleep(Duration::from_millis(100));
            domain.barrier();
        }
        w.stop.store(true, Ordering::Relaxed);
    });
    domain.barrier();
    w.finish();
}

#[test]
fn writers_reclaim() {
    run(&Domain::new(), 2);
}

#[test]
fn a_helper_reclaims() {
    static DOMAIN: Domain = Domain::with_policy(Policy::Helper);
    let helper = DOMAIN.spawn_helper().unwrap();
    run(&DOMAIN, 2);
    drop(helper);
}

#[test]
fn threads_that_come_and_go() {
    let domain = Domain::new();
    let w = World::new();
    let since = Instant::now();
    while since.elapsed() < TIME {
        thread::scope(|s| {
            for i in 0..8_usize {
                let (w, domain) = (&w, &domain);
                s.spawn(move || {
                    let mut hp = HazardPointer::new();
                    for k in 0..200 {
                        let src = &w.sources[(i + k) % SOURCES];
                        // SAFETY: as above.
                        if let Some(o) = unsafe { hp.protect(src) } {
                            o.check(3);
                        }
                        let old = src.swap(Object::boxed(), Ordering::AcqRel);
                        if !old.is_null() {
                            // SAFETY: from a box, unlinked, retired once.
                            unsafe { domain.retire(old) };
                        }
                    }
                });
            }
        });
    }
    domain.barrier();
    assert_eq!(domain.stats().unreclaimed, 0, "a thread's retired objects outlive it");
    w.finish();
}
