//! Contents that somebody has damaged on purpose: live segments, programs, recordings. No crash, no
//! hang and no wild access, on either side.
//!
//! Short here, and the same each time; `scripts/fuzz` runs the same for longer, with other seeds
//! each time. `FUZZ_RUNS` says how often, `FUZZ_JOBS` how many side by side, `FUZZ_SEED` repeats
//! what was seen: each failure names its seed.

#[path = "../common/mod.rs"]
mod common;

mod elf;
mod random;
mod segment;
mod tlp;

use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// Runs between two lines that say how far it is.
const NEWS: u64 = 500;

/// Calls `run` with seeds that follow one another, `usual` of them unless `FUZZ_RUNS` says
/// otherwise. The first is 1, unless `FUZZ_SEED` says which. After a failure no further run begins.
fn each(what: &str, usual: u64, run: impl Fn(u64) + Sync) {
    let runs = number("FUZZ_RUNS").unwrap_or(usual);
    let first = number("FUZZ_SEED").unwrap_or(1);
    println!("{what}: seeds from {first}");
    let (next, failed) = (AtomicU64::new(first), AtomicBool::new(false));
    let longest = Mutex::new((Duration::ZERO, first));
    let work = || {
        let _stops = Stops(&failed);
        while !failed.load(Ordering::Relaxed) {
            let seed = next.fetch_add(1, Ordering::Relaxed);
            if seed >= first + runs {
                break;
            }
            let started = Instant::now();
            run(seed);
            let mut longest = longest.lock().expect("nobody panics with it");
            *longest = (*longest).max((started.elapsed(), seed));
            if (seed - first + 1).is_multiple_of(NEWS) {
                let (began, (time, which)) = (seed - first + 1, *longest);
                println!("{what}: {began} runs began, the longest {time:.1?} ({which})");
            }
        }
    };
    std::thread::scope(|scope| {
        (0..number("FUZZ_JOBS").unwrap_or(1).max(1)).for_each(|_| _ = scope.spawn(work));
    });
    let (time, seed) = longest.into_inner().expect("nobody panics with it");
    println!("{what}: {runs} runs, the longest {time:.1?} ({seed})");
}

/// Tells the others of a panic.
struct Stops<'a>(&'a AtomicBool);

impl Drop for Stops<'_> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.0.store(true, Ordering::Relaxed);
        }
    }
}

fn number(name: &str) -> Option<u64> {
    std::env::var(name).ok()?.parse().ok()
}

/// What trapline may say of damaged input: its own codes, a program's, and no panic.
fn check(what: &str, finished: &common::process::Finished) {
    let bad = finished.signal.is_some()
        || finished.code >= 128
        || finished.code == 101
        || finished.stderr.contains("panicked");
    assert!(!bad, "{what}: code {}\n{}\n{}", finished.code, finished.stdout, finished.stderr);
}
