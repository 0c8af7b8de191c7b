//! The lock and the value that is made once, on the machine: more threads than CPUs, sleepers,
//! panics, fork.
#![cfg(all(not(loom), target_os = "linux"))]

use percpu::{Mutex, OnceLock};
use std::cell::Cell;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Barrier, mpsc};
use std::thread;
use std::time::{Duration, Instant};

#[test]
fn many_threads_one_at_a_time() {
    const TIMES: u64 = 20_000;
    let threads = 4 * thread::available_parallelism().map_or(2, usize::from) as u64;
    // Two words that only a holder sees equal.
    let pair = Mutex::new((0_u64, 0_u64));
    let tried = AtomicU32::new(0);
    thread::scope(|s| {
        for thread in 0..threads {
            let (pair, tried) = (&pair, &tried);
            s.spawn(move || {
                for n in 0..TIMES {
                    let at_once = if thread % 2 == 0 { pair.try_lock() } else { None };
                    let mut guard = match at_once {
                        Some(guard) => {
                            tried.fetch_add(1, Ordering::Relaxed);
                            guard
                        }
                        None => pair.lock(),
                    };
                    assert_eq!(guard.0, guard.1);
                    guard.0 += 1;
                    if n % 64 == 0 {
                        // In the middle: the others find it held, and sleep.
                        thread::yield_now();
                    }
                    guard.1 += 1;
                }
            });
        }
    });
    assert_eq!(*pair.lock(), (threads * TIMES, threads * TIMES));
    assert!(tried.load(Ordering::Relaxed) > 0);
}

/// The state of a thread of this process, as ps shows it.
fn state(thread: i32) -> char {
    let stat = std::fs::read_to_string(format!("/proc/self/task/{thread}/stat")).expect("it lives");
    stat.rsplit_once(") ").and_then(|(_, rest)| rest.chars().next()).expect("a state")
}

#[test]
fn who_waits_sleeps_and_is_woken() {
    const WAITERS: usize = 5;
    let sum = Mutex::new(0);
    let (say, hear) = mpsc::channel();
    thread::scope(|s| {
        let held = sum.lock();
        for _ in 0..WAITERS {
            let (sum, say) = (&sum, say.clone());
            s.spawn(move || {
                // SAFETY: takes nothing.
                say.send(unsafe { libc::gettid() }).expect("somebody listens");
                *sum.lock() += 1;
            });
        }
        let waiters: Vec<i32> = hear.iter().take(WAITERS).collect();
        let patience = Instant::now() + Duration::from_secs(20);
        // Asleep, and still asleep a moment later: not in the middle of the channel.
        let mut asleep = 0;
        while asleep < 20 {
            assert!(Instant::now() < patience, "somebody spins");
            asleep = if waiters.iter().all(|w| state(*w) == 'S') { asleep + 1 } else { 0 };
            thread::sleep(Duration::from_millis(1));
        }
        assert!(sum.try_lock().is_none());
        drop(held);
    });
    assert_eq!(*sum.lock(), WAITERS);
}

#[test]
fn a_panic_gives_it_back() {
    let sum = Mutex::new(1);
    let panicked = catch_unwind(AssertUnwindSafe(|| {
        let mut sum = sum.lock();
        *sum += 1;
        panic!("on purpose");
    }));
    assert!(panicked.is_err());
    assert_eq!(*sum.lock(), 2);

    let value = OnceLock::new();
    let panicked = catch_unwind(AssertUnwindSafe(|| {
        value.get_or_init(|| -> u32 { panic!("on purpose") });
    }));
    assert!(panicked.is_err());
    assert_eq!((value.get(), value.get_or_init(|| 3)), (None, &3));
}

#[test]
fn debug_does_not_wait() {
    let sum = Mutex::new(7);
    assert_eq!(format!("{sum:?}"), "Mutex { value: 7 }");
    let held = sum.lock();
    assert_eq!(format!("{held:?} {sum:?}"), "7 Mutex { value: <held> }");
}

#[test]
fn many_threads_make_one_value() {
    let threads = 4 * thread::available_parallelism().map_or(2, usize::from);
    for _ in 0..200 {
        let (value, made, begin) = (OnceLock::new(), AtomicU32::new(0), Barrier::new(threads));
        thread::scope(|s| {
            for thread in 0..threads {
                let (value, made, begin) = (&value, &made, &begin);
                s.spawn(move || {
                    begin.wait();
                    assert!(value.get().is_none_or(|value: &Vec<usize>| value.len() == 2));
                    let value = value.get_or_init(|| {
                        made.fetch_add(1, Ordering::Relaxed);
                        vec![thread; 2]
                    });
                    assert_eq!(value[0], value[1]);
                });
            }
        });
        assert_eq!(made.load(Ordering::Relaxed), 1);
    }
}

/// A value that says when it is dropped.
struct Last<'a>(&'a Cell<u32>);

impl Drop for Last<'_> {
    fn drop(&mut self) {
        self.0.set(self.0.get() + 1);
    }
}

#[test]
fn what_was_made_is_dropped_once() {
    let drops = Cell::new(0);
    let value = OnceLock::new();
    value.get_or_init(|| Last(&drops));
    value.get_or_init(|| Last(&drops));
    assert_eq!(drops.get(), 0);
    drop(value);
    assert_eq!(drops.get(), 1);
}

/// As the text says: what another thread held stays held in a child, and who only tries learns it;
/// what nobody held is free there.
#[test]
fn a_fork_child_finds_the_locks_as_they_were() {
    static OTHERS: Mutex<u32> = Mutex::new(0);
    static FREE: Mutex<u32> = Mutex::new(0);
    static HELD: AtomicBool = AtomicBool::new(false);
    static DONE: AtomicBool = AtomicBool::new(false);
    let holder = thread::spawn(|| {
        let _held = OTHERS.lock();
        HELD.store(true, Ordering::Release);
        while !DONE.load(Ordering::Acquire) {
            thread::yield_now();
        }
    });
    while !HELD.load(Ordering::Acquire) {
        thread::yield_now();
    }
    // SAFETY: the child takes locks of this crate, and ends.
    let child = unsafe { libc::fork() };
    if child == 0 {
        let good = OTHERS.try_lock().is_none() && *FREE.lock() == 0;
        // SAFETY: the child ends.
        unsafe { libc::_exit(i32::from(!good)) };
    }
    let mut status = -1;
    // SAFETY: a child of ours, and a place for its status.
    assert_eq!(unsafe { libc::waitpid(child, &raw mut status, 0) }, child);
    DONE.store(true, Ordering::Release);
    holder.join().expect("no panic");
    assert_eq!(status, 0);
    assert!(OTHERS.try_lock().is_some());
}
