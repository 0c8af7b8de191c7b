//! Objects taken on one CPU and returned on another, and threads that change their CPU in the
//! middle of an operation: what the kernel's pool test does with one worker for each CPU, and
//! crossbeam's `spsc` and `mpmc` with threads.

use crate::common::{ALL, Owned, check_full, give, pin, put, take};
use std::ptr::NonNull;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc;
use std::thread;

/// Everything is taken on one CPU and returned on the other, again and again: what lies there is
/// found from here.
#[test]
fn taken_here_returned_there() {
    for kind in ALL {
        for capacity in [1usize, 2, 7, 64, 300] {
            let pool = kind.pool(capacity, 16);
            thread::scope(|s| {
                s.spawn(|| {
                    for round in 0..20 {
                        pin(round % 2);
                        let all: Vec<Owned> = std::iter::from_fn(|| take(&*pool, 1)).collect();
                        assert_eq!(all.len(), capacity, "{kind:?}: all are found");
                        pin((round + 1) % 2);
                        all.into_iter().for_each(|owned| give(&*pool, owned));
                    }
                });
            });
            check_full(&*pool);
        }
    }
}

/// Threads that are pushed from CPU to CPU while they pop and push nearly all the time.
#[test]
fn moved_in_the_middle() {
    const WORKERS: u64 = 3;
    const MOVES: usize = 100;
    for kind in ALL {
        // One for each and one that lies about: found, wherever it lies.
        let pool = kind.pool(WORKERS as usize + 1, 16);
        let (stop, pairs) = (AtomicBool::new(false), AtomicU64::new(0));
        thread::scope(|s| {
            let (to, from) = mpsc::channel();
            for who in 1..=WORKERS {
                let (pool, stop, pairs, to) = (&*pool, &stop, &pairs, to.clone());
                s.spawn(move || {
                    // SAFETY: takes nothing.
                    to.send(unsafe { libc::pthread_self() }).expect("the other side lives");
                    while !stop.load(Ordering::Relaxed) {
                        let owned = take(pool, who)
                            .unwrap_or_else(|| panic!("{kind:?}: None with a free object"));
                        give(pool, owned);
                        pairs.fetch_add(1, Ordering::Relaxed);
                    }
                });
            }
            let workers: Vec<_> = (0..WORKERS).map(|_| from.recv().expect("they run")).collect();
            for n in 0..MOVES {
                for (i, worker) in workers.iter().enumerate() {
                    put(*worker, (n + i) % 2);
                }
                // Nobody is moved twice without having done something.
                let before = pairs.load(Ordering::Relaxed);
                while pairs.load(Ordering::Relaxed) == before {
                    thread::yield_now();
                }
            }
            stop.store(true, Ordering::Relaxed);
        });
        check_full(&*pool);
    }
}

fn second_word(owned: &Owned) -> NonNull<u64> {
    owned.address().map_addr(|address| address.saturating_add(8)).cast()
}

/// One thread takes and writes, one reads and returns, in order and each exactly once: the bytes go
/// with the object.
#[test]
fn one_producer_one_consumer() {
    const COUNT: u64 = 5000;
    for kind in ALL {
        let pool = kind.pool(8, 24);
        thread::scope(|s| {
            let (to, from) = mpsc::sync_channel::<(Owned, u64)>(4);
            let pool = &*pool;
            s.spawn(move || {
                pin(0);
                let mut sent = 0;
                while sent < COUNT {
                    let Some(owned) = take(pool, 1) else {
                        thread::yield_now();
                        continue;
                    };
                    // SAFETY: the second word of an object of 24 bytes that this thread owns.
                    unsafe { second_word(&owned).write(sent * 3) };
                    to.send((owned, sent)).expect("the other side lives");
                    sent += 1;
                }
            });
            s.spawn(move || {
                pin(1);
                let mut expected = 0;
                for (owned, number) in from {
                    // SAFETY: as above; the channel handed it over.
                    let bytes = unsafe { second_word(&owned).read() };
                    assert_eq!((number, bytes), (expected, expected * 3), "{kind:?}");
                    give(pool, owned);
                    expected += 1;
                }
                assert_eq!(expected, COUNT);
            });
        });
        check_full(&*pool);
    }
}
