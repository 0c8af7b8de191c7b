//! A label that every request takes and drops: with `Arc` all threads fight for its count, with
//! `CachedArc` each counts for itself.
//!
//! `cargo run --release -p trapline-reclaim --example cached`

use reclaim::cached::{self, CachedArc};
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

const THREADS: usize = 2;
const REQUESTS: u32 = 5_000_000;

fn main() {
    let arc = Arc::new(String::from("tenant-7"));
    let cached = CachedArc::new(String::from("tenant-7"));
    println!(
        "Arc:       {:6.2} ns per clone + drop",
        serve(|| arc.len(), || drop(std::hint::black_box(Arc::clone(&arc))))
    );
    println!(
        "CachedArc: {:6.2} ns per clone + drop",
        serve(|| cached.len(), || drop(std::hint::black_box(cached.clone())))
    );

    // The threads are gone, so their part is settled. This thread takes part now, and then drops
    // the last reference.
    assert_eq!(CachedArc::references(&cached), Some(1));
    drop(cached.clone());
    drop(cached);
    // It is this thread's entry that still keeps the label; a helper would do this now and then,
    // for all threads.
    cached::flush_all();
}

/// Runs `request` on all threads; nanoseconds per request and thread.
fn serve(length: impl Fn() -> usize, request: impl Fn() + Sync) -> f64 {
    assert_eq!(length(), 8);
    let times: Vec<Duration> = thread::scope(|s| {
        let threads: Vec<_> = (0..THREADS)
            .map(|_| {
                s.spawn(|| {
                    let since = Instant::now();
                    (0..REQUESTS).for_each(|_| request());
                    since.elapsed()
                })
            })
            .collect();
        threads.into_iter().map(|t| t.join().expect("no panic")).collect()
    });
    let total: Duration = times.iter().sum();
    total.as_secs_f64() * 1e9 / f64::from(REQUESTS) / THREADS as f64
}
