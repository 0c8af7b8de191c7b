//! A device that requests hold while they are served, and that is taken away while they come: the
//! last one out closes it.
//!
//! Run with `cargo run --release -p trapline-reclaim --example percpu_ref`.

use reclaim::percpu_ref::{Options, PercpuRef};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

fn main() {
    percpu::init();
    let open = AtomicBool::new(true);
    let served = AtomicU64::new(0);
    let stop = AtomicBool::new(false);
    let device =
        PercpuRef::with_options(Options { allow_reinit: true, ..Options::default() }, || {
            open.store(false, Ordering::Release)
        });

    thread::scope(|s| {
        for _ in 0..4 {
            s.spawn(|| {
                let mut mine = 0;
                while !stop.load(Ordering::Relaxed) {
                    if !device.try_get_live() {
                        thread::yield_now();
                        continue;
                    }
                    assert!(open.load(Ordering::Acquire), "closed under a request");
                    mine += 1;
                    device.put().expect("a reference was taken");
                }
                served.fetch_add(mine, Ordering::Relaxed);
            });
        }
        for round in 1..=3 {
            thread::sleep(Duration::from_millis(50));
            let start = Instant::now();
            device
                .kill_and_confirm(|| {
                    println!("round {round}: no new requests after {:?}", start.elapsed())
                })
                .expect("killed once a round");
            while open.load(Ordering::Acquire) {
                thread::yield_now();
            }
            println!("round {round}: closed after {:?}", start.elapsed());
            open.store(true, Ordering::Release);
            device.reinit().expect("dead, and nobody holds it");
        }
        stop.store(true, Ordering::Relaxed);
    });
    println!("{} requests served", served.load(Ordering::Relaxed));

    // What a mistake looks like.
    device.kill().expect("alive");
    println!("kill again: {}", device.kill().unwrap_err());
    println!("put too often: {}", device.put().unwrap_err());
}
