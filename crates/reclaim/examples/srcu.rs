//! Handlers that may block, and be taken out while the program runs: the writer waits until nobody
//! is inside the old one.
//!
//! Run with `cargo run --release -p trapline-reclaim --example srcu`.

use reclaim::srcu::{Srcu, Stalled};
use std::sync::atomic::{AtomicBool, AtomicPtr, AtomicU32, Ordering};
use std::thread;
use std::time::{Duration, Instant};

struct Handler {
    name: &'static str,
    calls: AtomicU32,
    unloaded: AtomicBool,
}

impl Handler {
    fn new(name: &'static str) -> *mut Self {
        Box::into_raw(Box::new(Self {
            name,
            calls: AtomicU32::new(0),
            unloaded: AtomicBool::new(false),
        }))
    }

    /// Blocks, as a handler that asks a database would.
    fn handle(&self) {
        thread::sleep(Duration::from_millis(3));
        assert!(!self.unloaded.load(Ordering::Relaxed), "unloaded under a call");
        self.calls.fetch_add(1, Ordering::Relaxed);
    }
}

fn main() {
    let domain = Srcu::new();
    let current = AtomicPtr::new(Handler::new("first"));
    let stop = AtomicBool::new(false);

    thread::scope(|s| {
        for _ in 0..4 {
            s.spawn(|| {
                while !stop.load(Ordering::Relaxed) {
                    let _section = domain.read_lock();
                    // SAFETY: an old handler is freed after a grace period of the domain, and this
                    // section is open.
                    unsafe { &*current.load(Ordering::Acquire) }.handle();
                }
            });
        }
        for name in ["second", "third", "fourth"] {
            thread::sleep(Duration::from_millis(20));
            let old = current.swap(Handler::new(name), Ordering::AcqRel);
            let start = Instant::now();
            // Patience first, so that a handler that hangs is reported and not only waited for.
            while let Err(Stalled) = domain.synchronize_for(Duration::from_secs(1)) {
                eprintln!("still waiting for calls of the old handler");
            }
            // SAFETY: unlinked, and no section that may have found it is open.
            let old = unsafe { Box::from_raw(old) };
            old.unloaded.store(true, Ordering::Relaxed);
            println!(
                "{:6} unloaded after {} calls, waited {:?} for the last ones",
                old.name,
                old.calls.load(Ordering::Relaxed),
                start.elapsed()
            );
        }
        stop.store(true, Ordering::Relaxed);
    });
    // SAFETY: the readers are gone.
    drop(unsafe { Box::from_raw(current.into_inner()) });
}
