//! Fork while other threads pop, push and visit: the child's pool is whole but for what those
//! threads held.
#![cfg(not(loom))]

mod common;

use common::{ALL, Kind, Random, give, take};
use objpool::Pool;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

const THREADS: u64 = 6;
const CAPACITY: usize = 40;

/// Runs in the child, which has one thread. 0: all is well. No panics: their machinery may need a
/// lock that a lost thread holds.
fn child(pool: &dyn Pool) -> i32 {
    for _ in 0..1000 {
        let Some(object) = pool.pop() else { return 1 };
        // SAFETY: just popped.
        if unsafe { pool.push(object) }.is_err() {
            return 2;
        }
    }
    let mut seen = [0usize; CAPACITY];
    let mut count = 0;
    while let Some(object) = pool.pop() {
        if count == CAPACITY || seen[..count].contains(&object.addr().get()) {
            return 3;
        }
        seen[count] = object.addr().get();
        count += 1;
    }
    // Each lost thread had at most two objects in hand or on the way.
    if count < CAPACITY - 2 * THREADS as usize { 4 } else { 0 }
}

fn wait(pid: libc::pid_t) -> i32 {
    let mut status = 0;
    // SAFETY: `status` is writable, `pid` is a child of this process.
    assert_eq!(unsafe { libc::waitpid(pid, &mut status, 0) }, pid);
    assert!(libc::WIFEXITED(status), "the child ended by itself: {status:#x}");
    libc::WEXITSTATUS(status)
}

fn forks(kind: Kind) {
    let pool = kind.pool(CAPACITY, 16);
    let stop = AtomicBool::new(false);
    thread::scope(|s| {
        for who in 1..=THREADS {
            let (pool, stop) = (&*pool, &stop);
            s.spawn(move || {
                let mut random = Random::new(who);
                while !stop.load(Ordering::Relaxed) {
                    // Two at once, so that the private lists get filled and have to be visited.
                    let pair = [take(pool, who), take(pool, who)];
                    if random.below(256) == 0 {
                        thread::yield_now();
                    }
                    pair.into_iter().flatten().for_each(|owned| give(pool, owned));
                }
            });
        }
        for _ in 0..25 {
            thread::sleep(Duration::from_millis(1));
            // SAFETY: the child calls the pool and _exit, nothing that allocates or locks.
            let pid = unsafe { libc::fork() };
            assert!(pid >= 0, "fork");
            if pid == 0 {
                let code = child(&*pool);
                // SAFETY: ends the child without running anything of the parent's.
                unsafe { libc::_exit(code) };
            }
            let code = wait(pid);
            assert_eq!(
                code, 0,
                "{kind:?}: 1 and 4 a free object was not found, 2 a push refused, 3 an object twice"
            );
        }
        stop.store(true, Ordering::Relaxed);
    });
    common::check_full(&*pool);
}

#[test]
fn fork_in_mid_run() {
    ALL.into_iter().for_each(forks);
}
