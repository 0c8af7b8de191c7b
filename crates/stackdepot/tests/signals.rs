//! Saves in signal handlers that interrupt saves, puts and fetches.
#![cfg(not(loom))]

mod common;
mod interrupts;

use common::stack;
use interrupts::{Interrupts, operation};
use stackdepot::{Depot, Flags, Handle};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

const STACKS: usize = 64;
const DEPTH: u64 = 20;

/// What is interrupted.
const SAVE: usize = 0;
const FETCH: usize = 1;
const PUT: usize = 2;

/// What the handler uses, all of it made before the first signal.
struct World {
    depot: Depot,
    stacks: Vec<Vec<u64>>,
}

static WORLD: OnceLock<World> = OnceLock::new();
static SIGNALS: AtomicU64 = AtomicU64::new(0);
static MISSED: AtomicU64 = AtomicU64::new(0);
static WRONG: AtomicBool = AtomicBool::new(false);

/// Saves, fetches and puts, everywhere the interrupted code may be. No allocation, no assertion: a
/// flag says what went wrong.
extern "C" fn handler(_signal: i32) {
    let Some(world) = WORLD.get() else { return };
    // SAFETY: the thread's errno.
    let errno = unsafe { libc::__errno_location() };
    // SAFETY: as above.
    let interrupted = unsafe { errno.replace(4321) };
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
    if unsafe { errno.replace(interrupted) } != 4321 {
        WRONG.store(true, Ordering::Relaxed);
    }
    interrupts::handled();
}

#[test]
fn handlers_save_over_saves() {
    let world = WORLD.get_or_init(|| World {
        depot: Depot::builder().buckets_log2(1).budget_bytes(4 << 20).build_mmap().unwrap(),
        stacks: (0..STACKS as u64).map(|n| stack(n, DEPTH)).collect(),
    });
    // This thread's first section is not in the handler.
    world.depot.save(&world.stacks[0], Flags::CAN_GROW);

    interrupts::install(libc::SIGUSR1, handler);
    let timer = Interrupts::start(libc::SIGUSR1, Duration::from_micros(50));
    let mut buf = [0; 32];
    let mut n = 0;
    // A handler over the holder of a bucket's lock is what there is to see.
    while !WRONG.load(Ordering::Relaxed)
        && timer.short_of::<3>(500, world.depot.stats().contended < 100)
    {
        n += 1;
        let frames = &world.stacks[n % STACKS][..];
        let handle = operation(SAVE, || world.depot.save(frames, Flags::GET | Flags::CAN_GROW));
        if handle == Handle::NONE {
            continue;
        }
        assert_eq!(operation(FETCH, || world.depot.fetch(handle, &mut buf)), Ok(frames));
        operation(PUT, || world.depot.put(handle)).unwrap();
    }
    println!("{} handlers, over save, fetch and put {:?}", timer.handlers(), timer.over::<3>());
    drop(timer);

    assert!(!WRONG.load(Ordering::Relaxed));
    let stats = world.depot.stats();
    assert_eq!(
        stats.misses(),
        stats.contended,
        "a handler over the lock's holder is the only reason to miss"
    );
    assert!(stats.contended >= MISSED.load(Ordering::Relaxed));
    assert_eq!((stats.stacks(), stats.corrupt, stats.bad_puts), (1, 0, 0));
}
