//! Thread-local slots and thread-exit functions.
#![cfg(not(loom))]

use percpu::tls::{self, Key};
use std::cell::Cell;
use std::ptr;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;

#[test]
fn slots_are_per_thread_and_start_null() {
    let value = ptr::without_provenance_mut(0x1234);
    set(Key::User1, value);
    assert_eq!(tls::get(Key::User1), value);
    assert!(tls::get(Key::User2).is_null());
    thread::spawn(|| {
        assert!(tls::get(Key::User1).is_null());
        set(Key::User1, ptr::without_provenance_mut(1));
    })
    .join()
    .expect("no panic");
    assert_eq!(tls::get(Key::User1), value);
}

/// The tests of this process are the one user of the keys, and read numbers out of them.
fn set(key: Key, value: *mut ()) {
    // SAFETY: see above.
    unsafe { tls::set(key, value) };
}

static EXITS: AtomicU64 = AtomicU64::new(0);
static AFTER_DESTRUCTOR: AtomicU64 = AtomicU64::new(0);

extern "C" fn at_exit() {
    if !tls::get(Key::User1).is_null() {
        EXITS.fetch_add(1, Ordering::SeqCst);
        if DESTROYED.load(Ordering::SeqCst) == 1 {
            AFTER_DESTRUCTOR.fetch_add(1, Ordering::SeqCst);
        }
        set(Key::User1, ptr::null_mut());
    }
}

static DESTROYED: AtomicU64 = AtomicU64::new(0);

struct Destroyed(Cell<u8>);

impl Drop for Destroyed {
    fn drop(&mut self) {
        DESTROYED.store(1, Ordering::SeqCst);
    }
}

thread_local!(static LOCAL: Destroyed = const { Destroyed(Cell::new(0)) });

#[test]
fn exit_functions_run_once_in_armed_threads_after_thread_locals() {
    assert!(tls::on_thread_exit(at_exit));
    assert!(tls::on_thread_exit(at_exit), "the same function again");
    thread::spawn(|| set(Key::User1, ptr::without_provenance_mut(1))).join().expect("no panic");
    assert_eq!(EXITS.load(Ordering::SeqCst), 0, "this thread was not armed");
    thread::spawn(|| {
        LOCAL.with(|l| l.0.set(1));
        tls::arm_exit();
        set(Key::User1, ptr::without_provenance_mut(1));
    })
    .join()
    .expect("no panic");
    // `join` returns when the thread's closure is done; its key destructors may still run.
    while EXITS.load(Ordering::SeqCst) == 0 {
        thread::yield_now();
    }
    assert_eq!(EXITS.load(Ordering::SeqCst), 1);
    assert_eq!(AFTER_DESTRUCTOR.load(Ordering::SeqCst), 1);
}

/// Written by the functions of `MANY` in a thread that ends, read when it is gone.
static ORDER: Mutex<Vec<usize>> = Mutex::new(Vec::new());

extern "C" fn numbered<const N: usize>() {
    if !tls::get(Key::User2).is_null() {
        ORDER.lock().expect("no panic").push(N);
    }
}

/// Eight functions of their own for each number.
macro_rules! eights {
    ($($n:literal)*) => {
        [$([
            numbered::<{ $n * 8 }> as extern "C" fn(),
            numbered::<{ $n * 8 + 1 }>,
            numbered::<{ $n * 8 + 2 }>,
            numbered::<{ $n * 8 + 3 }>,
            numbered::<{ $n * 8 + 4 }>,
            numbered::<{ $n * 8 + 5 }>,
            numbered::<{ $n * 8 + 6 }>,
            numbered::<{ $n * 8 + 7 }>,
        ]),*]
    };
}

/// More than the table's first part (8) and a page of it (511) hold.
static MANY: [[extern "C" fn(); 8]; 80] = eights!(
    0 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 19 20 21 22 23 24 25 26 27 28 29 30 31 32 33 34
    35 36 37 38 39 40 41 42 43 44 45 46 47 48 49 50 51 52 53 54 55 56 57 58 59 60 61 62 63 64 65 66
    67 68 69 70 71 72 73 74 75 76 77 78 79
);

#[test]
fn any_number_of_exit_functions_runs_in_the_order_of_registration() {
    // From several threads at once, each in order, so that all are in order whoever comes first.
    thread::scope(|s| {
        for _ in 0..4 {
            s.spawn(|| MANY.iter().flatten().for_each(|f| assert!(tls::on_thread_exit(*f))));
        }
    });
    thread::scope(|s| {
        let ends = s.spawn(|| {
            set(Key::User2, ptr::without_provenance_mut(1));
            assert!(tls::arm_exit());
        });
        // Joined by handle, so that its key destructors have run.
        ends.join().expect("no panic");
    });
    let expected: Vec<usize> = (0..640).collect();
    assert_eq!(*ORDER.lock().expect("no panic"), expected);
}

#[test]
fn thread_numbers_differ_and_stay() {
    let here = percpu::thread::id();
    assert_eq!(here, percpu::thread::id());
    let there = thread::spawn(percpu::thread::id).join().expect("no panic");
    assert_ne!(here, there);
}
