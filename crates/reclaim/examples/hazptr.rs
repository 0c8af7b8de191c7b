//! A routing table that is replaced while others look things up in it; then a plug-in whose objects
//! have to be gone before its code is.
//!
//! `cargo run --release -p trapline-reclaim --example hazptr`

use reclaim::hazptr::{self, Domain, Head, Owner, Shared};
use std::collections::HashMap;
use std::ptr;
use std::sync::atomic::{AtomicBool, AtomicPtr, AtomicU64, Ordering};
use std::thread;
use std::time::Duration;

fn main() {
    replaceable_value();
    unloadable_plug_in();
}

/// The safe way: a cell whose value is replaced as a whole.
fn replaceable_value() {
    let routes = Shared::new(HashMap::from([("/", 80), ("/api", 8080)]));
    let (stop, lookups) = (AtomicBool::new(false), AtomicU64::new(0));
    thread::scope(|s| {
        for _ in 0..3 {
            s.spawn(|| {
                let mut hp = hazptr::HazardPointer::new(); // kept by the thread
                while !stop.load(Ordering::Relaxed) {
                    let routes = routes.load(&mut hp).expect("never empty");
                    assert!(routes["/api"] >= 8080);
                    lookups.fetch_add(1, Ordering::Relaxed);
                }
            });
        }
        for port in 8081..8181 {
            routes.store(HashMap::from([("/", 80), ("/api", port)]));
            thread::sleep(Duration::from_millis(1));
        }
        stop.store(true, Ordering::Relaxed);
    });
    println!("{} lookups while the table was replaced 100 times", lookups.load(Ordering::Relaxed));
}

/// An object with a head inside, so that retiring it needs no memory.
struct Session {
    head: Head,
    number: u64,
}
reclaim::retirable!(Session, head);

/// The raw way: readers load from an `AtomicPtr`, writers unlink and retire.
fn unloadable_plug_in() {
    static DOMAIN: Domain = Domain::new();
    let session = |number| Box::into_raw(Box::new(Session { head: Head::new(), number }));
    let current = AtomicPtr::new(session(0));
    let plug_in = Owner::new();

    thread::scope(|s| {
        s.spawn(|| {
            // SAFETY: `current` holds sessions from boxes, unlinked before they are retired.
            unsafe {
                hazptr::read(&current, |session| {
                    println!("session {:?} is being looked at", session.map(|s| s.number));
                    thread::sleep(Duration::from_millis(50));
                });
            }
        });
        thread::sleep(Duration::from_millis(10));
        for number in 1..=10 {
            let old = current.swap(session(number), Ordering::AcqRel);
            // SAFETY: from a box, unlinked, retired once.
            unsafe { DOMAIN.retire_for(old, &plug_in) };
        }
        let last = current.swap(ptr::null_mut(), Ordering::AcqRel);
        // SAFETY: likewise.
        unsafe { DOMAIN.retire_for(last, &plug_in) };
        println!("{} sessions of the plug-in are retired", plug_in.pending());
        DOMAIN.reclaim_owner(&plug_in);
        println!("none is left: its code can be unloaded");
    });
}
