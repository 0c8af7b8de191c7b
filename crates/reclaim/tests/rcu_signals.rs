//! Signal handlers that lock, nest, unlock, poll and count over a thread that is inside the same operation.
#![cfg(not(loom))]

use reclaim::percpu_ref::PercpuRef;
use reclaim::rcu::{self, Cookie};
use reclaim::srcu::{Srcu, SrcuFast};
use std::cell::Cell;
use std::mem::MaybeUninit;
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

/// Everything that may run in a handler.
fn everything() {
    look();
    let outer = NORMAL.read_lock();
    drop(FAST.read_lock());
    drop(outer);
    if REFS.try_get_live() {
        REFS.put().expect("balanced");
    }
    rcu::poll(Cookie::from_bits(LAST_COOKIE.load(Ordering::Relaxed)));
    NORMAL.poll(NORMAL.start_poll());
    FAST.poll(FAST.get_state());
}

extern "C" fn on_signal(_signal: libc::c_int) {
    everything();
    HANDLED.fetch_add(1, Ordering::Relaxed);
    next_shot();
}

/// Installs [`on_signal`].
fn install(signal: libc::c_int) {
    // What POSIX does not allow in a handler happens here: the lazies (and `handle` does the hooks for fork and thread exit).
    everything();
    handle(signal, on_signal);
}

fn handle(signal: libc::c_int, handler: extern "C" fn(libc::c_int)) {
    percpu::init();
    // SAFETY: an all-zero sigaction is valid.
    let mut action: libc::sigaction = unsafe { MaybeUninit::zeroed().assume_init() };
    action.sa_sigaction = handler as *const () as usize;
    action.sa_flags = libc::SA_RESTART;
    // SAFETY: the action is initialised, the handler is a function.
    assert_eq!(unsafe { libc::sigaction(signal, &action, ptr::null_mut()) }, 0);
}

thread_local! {
    /// The thread's timer and its period. Const and without a destructor: handlers read it.
    static TIMER: Cell<Option<(libc::timer_t, Duration)>> = const { Cell::new(None) };
}

/// Sends `signal` to this thread again and again until it is dropped, each time a while after [`next_shot`]: a timer with a fixed period would leave the thread
/// no time between the handlers on a machine that is slow enough.
struct Bombardment;

impl Bombardment {
    fn new(signal: libc::c_int, every: Duration) -> Self {
        // SAFETY: an all-zero sigevent is valid.
        let mut event: libc::sigevent = unsafe { MaybeUninit::zeroed().assume_init() };
        event.sigev_notify = libc::SIGEV_THREAD_ID;
        event.sigev_signo = signal;
        // SAFETY: gettid has no precondition.
        event.sigev_notify_thread_id = unsafe { libc::gettid() };
        let mut timer: libc::timer_t = ptr::null_mut();
        // SAFETY: both point to locals.
        assert_eq!(unsafe { libc::timer_create(libc::CLOCK_MONOTONIC, &mut event, &mut timer) }, 0);
        TIMER.set(Some((timer, every)));
        next_shot();
        Self
    }
}

impl Drop for Bombardment {
    fn drop(&mut self) {
        if let Some((timer, _)) = TIMER.take() {
            // SAFETY: the timer was created by `new`, and no handler finds it any more.
            unsafe { libc::timer_delete(timer) };
        }
    }
}

/// The last thing that a handler does.
fn next_shot() {
    if let Some((timer, every)) = TIMER.get() {
        let never = libc::timespec { tv_sec: 0, tv_nsec: 0 };
        let once =
            libc::itimerspec { it_interval: never, it_value: libc::timespec { tv_sec: 0, tv_nsec: every.as_nanos() as libc::c_long } };
        // SAFETY: a timer in the cell exists; `once` is readable.
        unsafe { libc::timer_settime(timer, 0, &once, ptr::null_mut()) };
    }
}

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
                let _timer = Bombardment::new(libc::SIGUSR1, Duration::from_micros(60));
                while Instant::now() < end {
                    (0..100).for_each(|_| everything());
                }
                assert!(!rcu::is_inside());
            });
        }
        // Threads whose first use, and whose exit, is under fire.
        s.spawn(|| {
            while Instant::now() < end {
                let short = thread::spawn(|| {
                    let _timer = Bombardment::new(libc::SIGUSR1, Duration::from_micros(20));
                    (0..50).for_each(|_| look());
                    assert!(!rcu::is_inside());
                });
                short.join().expect("no panic");
            }
        });
        // A writer that is hit inside synchronize, with the handler polling the same domain.
        s.spawn(|| {
            let _timer = Bombardment::new(libc::SIGUSR1, Duration::from_micros(60));
            while Instant::now() < end {
                replace();
                FAST.synchronize();
                NORMAL.synchronize();
            }
        });
    });
    assert!(HANDLED.load(Ordering::Relaxed) > 100);
    // Nothing was left open, and no count was lost.
    rcu::synchronize();
    FAST.synchronize();
    NORMAL.synchronize();
    assert_eq!(REFS.kill(), Ok(true));
}

/// The kernel adds the timer slack to what is left of a sleep that a signal ends: a writer that sleeps on for that long never comes back from under fire.
#[test]
fn a_writer_under_fire_notices_that_the_reader_has_left() {
    static WAITING: AtomicBool = AtomicBool::new(false);
    static BACK: AtomicBool = AtomicBool::new(false);
    static SHOTS: AtomicU64 = AtomicU64::new(0);
    extern "C" fn count(_signal: libc::c_int) {
        SHOTS.fetch_add(1, Ordering::Relaxed);
        next_shot();
    }
    handle(libc::SIGURG, count);
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
        let _timer = Bombardment::new(libc::SIGURG, Duration::from_micros(20));
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
        RESULT.store(if rcu::try_synchronize() == Err(rcu::Error::InsideSection) { 1 } else { 2 }, Ordering::Relaxed);
    }
    handle(libc::SIGWINCH, wait);
    let _section = rcu::read_lock();
    // SAFETY: raise has no precondition; the handler is installed.
    assert_eq!(unsafe { libc::raise(libc::SIGWINCH) }, 0);
    assert_eq!(RESULT.load(Ordering::Relaxed), 1);
}
