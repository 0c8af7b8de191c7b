//! Signal handlers that lock, nest, unlock, poll and count over a thread that is inside the same
//! operation.
#![cfg(not(loom))]

mod interrupts;

use interrupts::{Interrupts, operation};
use reclaim::percpu_ref::PercpuRef;
use reclaim::rcu::{self, Cookie};
use reclaim::srcu::{Srcu, SrcuFast};
use std::ptr;
use std::sync::LazyLock;
use std::sync::atomic::{AtomicBool, AtomicPtr, AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

const GOOD: u64 = 0x600d_600d_600d_600d;

static CURRENT: AtomicPtr<AtomicU64> = AtomicPtr::new(ptr::null_mut());
static LAST_COOKIE: AtomicU64 = AtomicU64::new(0);
static HANDLED: AtomicU64 = AtomicU64::new(0);
static NORMAL: LazyLock<Srcu> = LazyLock::new(Srcu::new);
static FAST: LazyLock<SrcuFast> = LazyLock::new(SrcuFast::new);
static REFS: LazyLock<PercpuRef> = LazyLock::new(|| PercpuRef::new(|| ()));

fn look() {
    let _section = rcu::read_lock();
    let current = CURRENT.load(Ordering::Acquire);
    // SAFETY: null, or an object that is freed after a grace period; a section is open.
    if let Some(object) = unsafe { current.as_ref() } {
        let _nested = rcu::read_lock();
        assert_eq!(object.load(Ordering::Relaxed), GOOD);
    }
}

fn nest() {
    let outer = NORMAL.read_lock();
    drop(FAST.read_lock());
    drop(outer);
}

fn count() {
    if REFS.try_get_live() {
        REFS.put().expect("balanced");
    }
}

fn poll() {
    rcu::poll(Cookie::from_bits(LAST_COOKIE.load(Ordering::Relaxed)));
    NORMAL.poll(NORMAL.start_poll());
    FAST.poll(FAST.get_state());
}

/// All that may run in a handler.
const EVERYTHING: [fn(); 4] = [look, nest, count, poll];

fn everything() {
    EVERYTHING.iter().for_each(|f| f());
}

extern "C" fn on_signal(_signal: libc::c_int) {
    everything();
    HANDLED.fetch_add(1, Ordering::Relaxed);
    interrupts::handled();
}

/// Installs [`on_signal`].
fn install(signal: libc::c_int) {
    // What POSIX does not allow in a handler happens here: the lazies (and `install` does the hooks
    // for fork and thread exit).
    everything();
    interrupts::install(signal, on_signal);
}

/// How often at least each operation of each thread is interrupted.
const INTERRUPTED: u64 = 20;

#[test]
fn handlers_do_everything_over_everything() {
    install(libc::SIGUSR1);
    let end = Instant::now() + Duration::from_millis(800);
    let replace = || {
        let old = CURRENT.swap(Box::into_raw(Box::new(AtomicU64::new(GOOD))), Ordering::AcqRel);
        if let Some(old) = ptr::NonNull::new(old) {
            // SAFETY: freed below.
            let object = unsafe { old.as_ref() };
            let cookie = rcu::start_poll();
            LAST_COOKIE.store(cookie.to_bits(), Ordering::Relaxed);
            rcu::synchronize();
            assert!(rcu::poll(cookie));
            object.store(!GOOD, Ordering::Relaxed);
            // SAFETY: made by `Box::into_raw`, unlinked a grace period ago.
            drop(unsafe { Box::from_raw(old.as_ptr()) });
        }
    };
    thread::scope(|s| {
        for _ in 0..6 {
            s.spawn(|| {
                let timer = Interrupts::start(libc::SIGUSR1, Duration::from_micros(60));
                while timer.short_of::<4>(INTERRUPTED, Instant::now() < end) {
                    (0..100).for_each(|_| {
                        EVERYTHING.iter().enumerate().for_each(|(n, f)| operation(n, f));
                    });
                }
                assert!(!rcu::is_inside());
            });
        }
        // Threads whose first use, and whose exit, is under fire.
        s.spawn(|| {
            let (mut threads, mut interrupted) = (0, 0);
            while Instant::now() < end || interrupted < INTERRUPTED {
                let short = thread::spawn(|| {
                    let timer = Interrupts::start(libc::SIGUSR1, Duration::from_micros(20));
                    (0..50).for_each(|_| operation(0, look));
                    assert!(!rcu::is_inside());
                    timer.over::<1>()[0]
                });
                interrupted += short.join().expect("no panic").min(1);
                threads += 1;
                assert!(threads < 1_000_000, "{interrupted} of {threads} threads interrupted");
            }
        });
        // A writer that is hit inside synchronize, with the handler polling the same domain.
        s.spawn(|| {
            let timer = Interrupts::start(libc::SIGUSR1, Duration::from_micros(60));
            while timer.short_of::<3>(INTERRUPTED, Instant::now() < end) {
                operation(0, replace);
                operation(1, || FAST.synchronize());
                operation(2, || NORMAL.synchronize());
            }
        });
    });
    // Nothing was left open, and no count was lost.
    rcu::synchronize();
    FAST.synchronize();
    NORMAL.synchronize();
    assert_eq!(REFS.kill(), Ok(true));
}

/// The kernel adds the timer slack to what is left of a sleep that a signal ends: a writer that
/// sleeps on for that long never comes back from under fire.
#[test]
fn a_writer_under_fire_notices_that_the_reader_has_left() {
    static WAITING: AtomicBool = AtomicBool::new(false);
    static BACK: AtomicBool = AtomicBool::new(false);
    static SHOTS: AtomicU64 = AtomicU64::new(0);
    extern "C" fn count(_signal: libc::c_int) {
        SHOTS.fetch_add(1, Ordering::Relaxed);
        interrupts::handled();
    }
    interrupts::install(libc::SIGURG, count);
    let reader = thread::spawn(|| {
        let section = rcu::read_lock();
        WAITING.store(true, Ordering::Release);
        // Long enough for the writer to be asleep.
        thread::sleep(Duration::from_millis(50));
        drop(section);
        // The writer looks again after each of them.
        let left_at = SHOTS.load(Ordering::Relaxed);
        while !BACK.load(Ordering::Acquire) && SHOTS.load(Ordering::Relaxed) < left_at + 50_000 {
            thread::sleep(Duration::from_millis(1));
        }
        BACK.load(Ordering::Acquire)
    });
    let writer = thread::spawn(|| {
        while !WAITING.load(Ordering::Acquire) {
            thread::yield_now();
        }
        let _timer = Interrupts::start(libc::SIGURG, Duration::from_micros(20));
        rcu::synchronize();
        BACK.store(true, Ordering::Release);
    });
    assert!(reader.join().expect("no panic"), "50,000 signals later, the writer still sleeps");
    writer.join().expect("no panic");
}

#[test]
fn the_first_use_of_a_thread_is_inside_a_handler() {
    install(libc::SIGUSR2);
    for _ in 0..20 {
        thread::spawn(|| {
            let before = HANDLED.load(Ordering::Relaxed);
            // SAFETY: raise has no precondition; the handler is installed.
            assert_eq!(unsafe { libc::raise(libc::SIGUSR2) }, 0);
            assert!(HANDLED.load(Ordering::Relaxed) > before);
            assert!(!rcu::is_inside());
            look();
        })
        .join()
        .expect("no panic");
    }
    rcu::synchronize();
}

#[test]
fn synchronize_in_a_handler_over_a_section_is_an_error() {
    static RESULT: AtomicU64 = AtomicU64::new(0);
    extern "C" fn wait(_signal: libc::c_int) {
        RESULT.store(
            if rcu::try_synchronize() == Err(rcu::Error::InsideSection) { 1 } else { 2 },
            Ordering::Relaxed,
        );
        interrupts::handled();
    }
    interrupts::install(libc::SIGWINCH, wait);
    let _section = rcu::read_lock();
    // SAFETY: raise has no precondition; the handler is installed.
    assert_eq!(unsafe { libc::raise(libc::SIGWINCH) }, 0);
    assert_eq!(RESULT.load(Ordering::Relaxed), 1);
}
