//! Saves in signal handlers that interrupt saves, puts and fetches.
#![cfg(not(loom))]

mod common;

use common::stack;
use stackdepot::{Depot, Flags, Handle};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

const STACKS: usize = 64;
const DEPTH: u64 = 20;

/// What the handler uses, all of it made before the first signal.
struct World {
    depot: Depot,
    stacks: Vec<Vec<u64>>,
}

static WORLD: OnceLock<World> = OnceLock::new();
static SIGNALS: AtomicU64 = AtomicU64::new(0);
static MISSED: AtomicU64 = AtomicU64::new(0);
static WRONG: AtomicBool = AtomicBool::new(false);

/// Saves, fetches and puts, everywhere the interrupted code may be. No allocation, no assertion: a flag says what went wrong.
extern "C" fn handler(_signal: i32) {
    let Some(world) = WORLD.get() else { return };
    // SAFETY: the thread's errno.
    let errno = unsafe { libc::__errno_location() };
    // SAFETY: as above.
    unsafe { *errno = 4321 };
    let round = SIGNALS.fetch_add(1, Ordering::Relaxed) as usize;
    let mut buf = [0; 32];
    for i in 0..4 {
        let frames = &world.stacks[(round * 7 + i) % STACKS][..];
        let handle = world.depot.save(frames, Flags::GET | Flags::CAN_GROW);
        if handle.is_none() {
            MISSED.fetch_add(1, Ordering::Relaxed);
            continue;
        }
        let right = world.depot.fetch(handle, &mut buf) == Ok(frames);
        let put = world.depot.put(handle).is_ok();
        if !(right && put) {
            WRONG.store(true, Ordering::Relaxed);
        }
    }
    // SAFETY: as above.
    if unsafe { *errno } != 4321 {
        WRONG.store(true, Ordering::Relaxed);
    }
}

#[test]
fn handlers_save_over_saves() {
    let world = WORLD.get_or_init(|| World {
        depot: Depot::builder().buckets_log2(1).budget_bytes(4 << 20).build_mmap().unwrap(),
        stacks: (0..STACKS as u64).map(|n| stack(n, DEPTH)).collect(),
    });
    // This thread's first section is not in the handler.
    world.depot.save(&world.stacks[0], Flags::CAN_GROW);

    // SAFETY: zeroed is a valid sigaction; the handler is one.
    let mut action: libc::sigaction = unsafe { std::mem::zeroed() };
    action.sa_sigaction = handler as *const () as usize;
    action.sa_flags = libc::SA_RESTART;
    // SAFETY: the structure is filled in; no old action is asked for.
    assert_eq!(unsafe { libc::sigaction(libc::SIGALRM, &action, std::ptr::null_mut()) }, 0);
    let every = libc::timeval { tv_sec: 0, tv_usec: 50 };
    let timer = libc::itimerval { it_interval: every, it_value: every };
    // SAFETY: a timer structure and no old value.
    assert_eq!(unsafe { libc::setitimer(libc::ITIMER_REAL, &timer, std::ptr::null_mut()) }, 0);

    let deadline = Instant::now() + Duration::from_secs(3);
    let mut buf = [0; 32];
    let mut n = 0;
    while Instant::now() < deadline && !WRONG.load(Ordering::Relaxed) {
        n += 1;
        let frames = &world.stacks[n % STACKS][..];
        let handle = world.depot.save(frames, Flags::GET | Flags::CAN_GROW);
        if handle == Handle::NONE {
            continue;
        }
        assert_eq!(world.depot.fetch(handle, &mut buf), Ok(frames));
        world.depot.put(handle).unwrap();
    }
    let never = libc::timeval { tv_sec: 0, tv_usec: 0 };
    let timer = libc::itimerval { it_interval: never, it_value: never };
    // SAFETY: as above; stops the timer.
    unsafe { libc::setitimer(libc::ITIMER_REAL, &timer, std::ptr::null_mut()) };

    assert!(!WRONG.load(Ordering::Relaxed));
    let signals = SIGNALS.load(Ordering::Relaxed);
    assert!(signals > 100, "{signals} signals");
    let stats = world.depot.stats();
    assert_eq!(stats.misses(), stats.contended, "a handler over the lock's holder is the only reason to miss");
    assert!(stats.contended >= MISSED.load(Ordering::Relaxed));
    assert_eq!((stats.stacks(), stats.corrupt, stats.bad_puts), (1, 0, 0));
}
