//! A routing table that is read by everybody and replaced now and then, with the old ones freed by
//! polling: nobody ever waits.
//!
//! Run with `cargo run --release -p trapline-reclaim --example rcu`.

use reclaim::rcu::{self, Cookie};
use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicPtr, AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

type Routes = HashMap<u32, &'static str>;

static ROUTES: AtomicPtr<Routes> = AtomicPtr::new(std::ptr::null_mut());
static STOP: AtomicBool = AtomicBool::new(false);
static LOOKUPS: AtomicU64 = AtomicU64::new(0);

fn routes(generation: u32) -> *mut Routes {
    Box::into_raw(Box::new(
        (0..64)
            .map(|port| (port, if (port + generation).is_multiple_of(2) { "even" } else { "odd" }))
            .collect(),
    ))
}

fn look_up(port: u32) -> Option<&'static str> {
    let _section = rcu::read_lock();
    // SAFETY: a replaced table is freed after a grace period, and this section is open. The route
    // is 'static and may leave it.
    let routes = unsafe { &*ROUTES.load(Ordering::Acquire) };
    routes.get(&port).copied()
}

fn main() {
    percpu::init();
    ROUTES.store(routes(0), Ordering::Release);

    let readers: Vec<_> = (0..4)
        .map(|_| {
            thread::spawn(|| {
                let mut n = 0;
                while !STOP.load(Ordering::Relaxed) {
                    assert!(look_up(n as u32 % 64).is_some());
                    n += 1;
                }
                LOOKUPS.fetch_add(n, Ordering::Relaxed);
            })
        })
        .collect();

    // The writer keeps what it replaced with a cookie, and frees what has become unreachable
    // whenever it comes by.
    let mut retired: Vec<(Cookie, *mut Routes)> = Vec::new();
    let (mut replaced, mut freed, mut most) = (0, 0, 0);
    let start = Instant::now();
    while start.elapsed() < Duration::from_millis(300) {
        replaced += 1;
        let old = ROUTES.swap(routes(replaced), Ordering::AcqRel);
        retired.push((rcu::start_poll(), old));
        most = most.max(retired.len());
        retired.retain(|&(cookie, old)| {
            if !rcu::poll(cookie) {
                return true;
            }
            // SAFETY: unlinked before the cookie was taken, and its grace period is over.
            drop(unsafe { Box::from_raw(old) });
            freed += 1;
            false
        });
        thread::sleep(Duration::from_micros(200));
    }
    STOP.store(true, Ordering::Relaxed);
    readers.into_iter().for_each(|r| r.join().expect("reader"));
    println!(
        "{} lookups while {replaced} tables were replaced; {freed} freed on the way, never more \
            than {most} waiting",
        LOOKUPS.load(Ordering::Relaxed)
    );

    // The rest: now it is all right to wait.
    rcu::synchronize();
    for (cookie, old) in retired {
        assert!(rcu::poll(cookie));
        // SAFETY: as above.
        drop(unsafe { Box::from_raw(old) });
    }
    // SAFETY: the readers are gone.
    drop(unsafe { Box::from_raw(ROUTES.load(Ordering::Relaxed)) });
}
