//! How long one cache line takes from one core to another, now.
//!
//! Virtual CPUs move under the guest: the same pair is near (about 31 ns) in one minute and far
//! (about 165 ns) in the next, and every contended figure follows. So the harness measures this
//! just before each contended measurement and prints it beside the row.

use crate::affinity;
use percpu::CachePadded;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::Instant;

/// Between near (31 ns) and far (160 to 172 ns), in nanoseconds one way.
pub const NEAR_BELOW_NS: f64 = 80.0;

const ROUNDS: u64 = 2_000;

/// One-way transfer in nanoseconds between the first two CPUs this process may use; `None` with one
/// CPU.
///
/// A disturbed round only makes the mean larger, so the best of three tries counts.
pub fn measure() -> Option<f64> {
    let cpus = affinity::allowed();
    let (&here, &there) = (cpus.first()?, cpus.get(1)?);
    let best = (0..3).map(|_| ping_pong(here, there)).fold(f64::INFINITY, f64::min);
    Some(best)
}

fn ping_pong(here: usize, there: usize) -> f64 {
    let ball = CachePadded::new(AtomicU64::new(0));
    let ball = &ball;
    thread::scope(|s| {
        s.spawn(move || {
            affinity::pin(there);
            for round in 0..ROUNDS {
                wait_for(ball, 2 * round + 1);
                // pairs with the other side's wait_for
                ball.store(2 * round + 2, Ordering::Release);
            }
        });
        s.spawn(move || {
            affinity::pin(here);
            ball.store(1, Ordering::Release); // pairs with the other side's wait_for
            wait_for(ball, 2);
            let start = Instant::now();
            for round in 1..ROUNDS {
                // pairs with the other side's wait_for
                ball.store(2 * round + 1, Ordering::Release);
                wait_for(ball, 2 * round + 2);
            }
            start.elapsed().as_nanos() as f64 / (2 * (ROUNDS - 1)) as f64
        })
        .join()
        .expect("a player of the ping-pong never panics")
    })
}

/// Spins for the ball; yields now and then, as the other player may wait for this very CPU.
fn wait_for(ball: &AtomicU64, value: u64) {
    let mut spins = 0u32;
    // Acquire pairs with the other player's Release store.
    while ball.load(Ordering::Acquire) != value {
        spins += 1;
        if spins.is_multiple_of(1 << 14) {
            thread::yield_now();
        }
        std::hint::spin_loop();
    }
}
