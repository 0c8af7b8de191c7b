//! Signal handlers that protect, replace and retire over a thread that is inside the same
//! operation.
#![cfg(not(loom))]
#![allow(
    clippy::multiple_unsafe_ops_per_block,
    reason = "one promise covers the calls of a test body"
)]

mod interrupts;
#[path = "hazptr_common/set.rs"]
mod set;

use interrupts::{Interrupts, operation};
use reclaim::hazptr::{self, Domain, HazardPointer};
use set::{Object, Set, check};
use std::ptr;
use std::sync::atomic::{AtomicPtr, Ordering};
use std::thread;
use std::time::{Duration, Instant};

static SOURCE: AtomicPtr<Object> = AtomicPtr::new(ptr::null_mut());
static SET: AtomicPtr<Set> = AtomicPtr::new(ptr::null_mut());
static DOMAIN: Domain = Domain::new();

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
    interrupts::handled();
}

/// What is interrupted.
const PROTECT: usize = 0;
const READ: usize = 1;
const SCOPE: usize = 2;
const NEW: usize = 3;
const RETIRE: usize = 4;
/// How often at least, each of them in each thread.
const INTERRUPTED: u64 = 20;

fn work(kept: &mut HazardPointer, set: &Set) {
    // SAFETY: as in the handler.
    unsafe {
        operation(PROTECT, || check(kept.protect(&SOURCE)));
        operation(READ, || hazptr::read(&SOURCE, check));
        operation(SCOPE, || {
            hazptr::scope_array(|[a, b]| {
                check(a.protect(&SOURCE));
                check(b.protect(&SOURCE));
                check(kept.protect(&SOURCE));
            });
        });
        operation(NEW, || check(HazardPointer::new().protect(&SOURCE)));
        if let Some(object) = set.take() {
            let old = SOURCE.swap(object, Ordering::AcqRel);
            if !old.is_null() {
                operation(RETIRE, || DOMAIN.retire(old));
            }
        }
    }
}

#[test]
fn handlers_protect_and_retire_while_the_thread_does() {
    SET.store(ptr::from_ref(Set::new(4000)).cast_mut(), Ordering::Release);
    let set = Set::new(4000);
    interrupts::install(libc::SIGUSR1, handler);
    let end = Instant::now() + Duration::from_millis(1500);
    thread::scope(|s| {
        for _ in 0..3 {
            s.spawn(|| {
                let timer = Interrupts::start(libc::SIGUSR1, Duration::from_micros(50));
                let mut kept = HazardPointer::new();
                while timer.short_of::<5>(INTERRUPTED, Instant::now() < end) {
                    (0..20).for_each(|_| work(&mut kept, set));
                }
                println!(
                    "{} handlers, over protect, read, scope, new and retire {:?}",
                    timer.handlers(),
                    timer.over::<5>()
                );
            });
        }
    });
    let last = SOURCE.swap(ptr::null_mut(), Ordering::AcqRel);
    // SAFETY: unlinked, retired once.
    unsafe { DOMAIN.retire(last) };
    DOMAIN.barrier();
    assert_eq!(DOMAIN.stats().unreclaimed, 0);
}
