//! Interrupts over interrupts: pops and pushes in signal handlers that are themselves interrupted,
//! three deep, while the thread below is inside pop and push (the kernel's pool is used from
//! threads, soft and hard interrupts and NMIs).

use crate::common::{ALL, check_full, give, take};
use objpool::Pool;
use std::ffi::c_int;
use std::ptr;
use std::sync::atomic::{AtomicPtr, AtomicU64, Ordering};
use std::sync::mpsc;
use std::thread;

/// Each level has a signal of its own and can interrupt those below. Each holds at most two at a
/// time.
const SIGNALS: [c_int; 3] = [libc::SIGUSR1, libc::SIGUSR2, libc::SIGALRM];
const EACH: usize = 2;
const WORKERS: usize = 2;
/// Signals that each worker gets, of all levels in turn.
const ROUNDS: usize = 180;
/// One for each level of each thread, and the thread itself: never fewer than are asked for.
const CAPACITY: usize = EACH * (SIGNALS.len() + 1) * WORKERS;

static POOL: AtomicPtr<&'static dyn Pool> = AtomicPtr::new(ptr::null_mut());
/// How often each level ran.
static RUNS: [AtomicU64; 3] = [const { AtomicU64::new(0) }; 3];
static MISSED: AtomicU64 = AtomicU64::new(0);

extern "C" fn on_signal(signal: c_int) {
    let level = SIGNALS.iter().position(|s| *s == signal).expect("one of ours");
    // SAFETY: leaked, and set before the first signal.
    let pool = unsafe { *POOL.load(Ordering::Acquire) };
    let mine = [(); EACH].map(|()| take(pool, 100 + level as u64));
    // Over itself, and over what it has not pushed yet.
    if let Some(next) = SIGNALS.get(level + 1)
        && RUNS[level].load(Ordering::Relaxed).is_multiple_of(2)
    {
        // SAFETY: the handler is this function.
        unsafe { libc::raise(*next) };
    }
    for owned in mine {
        match owned {
            Some(owned) => give(pool, owned),
            None => {
                MISSED.fetch_add(1, Ordering::Relaxed);
            }
        }
    }
    RUNS[level].fetch_add(1, Ordering::Relaxed);
}

#[test]
fn three_levels_over_pop_and_push() {
    for (level, signal) in SIGNALS.into_iter().enumerate() {
        // SAFETY: an all-zero sigaction is a valid one without flags and with an empty mask.
        let mut action: libc::sigaction = unsafe { std::mem::zeroed() };
        action.sa_sigaction = on_signal as *const () as usize;
        action.sa_flags = libc::SA_RESTART;
        // A level is not interrupted by itself and those below.
        for below in &SIGNALS[..level] {
            // SAFETY: the mask is writable, the signals exist.
            unsafe { libc::sigaddset(&mut action.sa_mask, *below) };
        }
        // SAFETY: the handler keeps to the pool, to atomics and to raise.
        assert_eq!(unsafe { libc::sigaction(signal, &action, ptr::null_mut()) }, 0);
    }
    for kind in ALL {
        let pool: &'static dyn Pool = Box::leak(kind.pool(CAPACITY, 16));
        POOL.store(Box::into_raw(Box::new(pool)), Ordering::Release);
        RUNS.iter().for_each(|runs| runs.store(0, Ordering::Relaxed));
        MISSED.store(0, Ordering::Relaxed);
        let left = AtomicU64::new(WORKERS as u64);
        thread::scope(|s| {
            for who in 1..=WORKERS as u64 {
                let left = &left;
                let (to, from) = mpsc::channel();
                s.spawn(move || {
                    // SAFETY: takes nothing.
                    to.send(unsafe { libc::pthread_self() }).expect("the other side waits");
                    while left.load(Ordering::Relaxed) != 0 {
                        let mine = [(); EACH].map(|()| {
                            take(pool, who)
                                .unwrap_or_else(|| panic!("{kind:?}: None with a free object"))
                        });
                        mine.into_iter().for_each(|owned| give(pool, owned));
                    }
                });
                s.spawn(move || {
                    let target = from.recv().expect("the worker sends it first");
                    for n in 0..ROUNDS {
                        let level = n % SIGNALS.len();
                        let before = RUNS[level].load(Ordering::Relaxed);
                        // SAFETY: the worker lives until no signaller is left.
                        unsafe { libc::pthread_kill(target, SIGNALS[level]) };
                        // They would become one otherwise.
                        while RUNS[level].load(Ordering::Relaxed) == before {
                            thread::yield_now();
                        }
                        // Not at the place where the last one was.
                        (0..n % 97).for_each(|_| std::hint::spin_loop());
                    }
                    left.fetch_sub(1, Ordering::Relaxed);
                });
            }
        });
        assert_eq!(MISSED.load(Ordering::Relaxed), 0, "{kind:?}: None in a handler");
        for (level, runs) in RUNS.iter().enumerate() {
            // Each round waits for a run, which may be the other worker's.
            let least = (ROUNDS / SIGNALS.len()) as u64;
            assert!(runs.load(Ordering::Relaxed) >= least, "{kind:?}: level {level} ran");
        }
        check_full(pool);
    }
}
