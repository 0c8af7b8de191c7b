//! Thread-local slots and thread-exit functions.
#![cfg(not(loom))]

use percpu::tls::{self, Key};
use std::cell::Cell;
use std::ptr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;

#[test]
fn slots_are_per_thread_and_start_null() {
    let value = ptr::without_provenance_mut(0x1234);
    tls::set(Key::User1, value);
    assert_eq!(tls::get(Key::User1), value);
    assert!(tls::get(Key::User2).is_null());
    thread::spawn(|| {
        assert!(tls::get(Key::User1).is_null());
        tls::set(Key::User1, ptr::without_provenance_mut(1));
    })
    .join()
    .expect("no panic");
    assert_eq!(tls::get(Key::User1), value);
}

static EXITS: AtomicU64 = AtomicU64::new(0);
static AFTER_DESTRUCTOR: AtomicU64 = AtomicU64::new(0);

extern "C" fn at_exit() {
    if !tls::get(Key::User1).is_null() {
        EXITS.fetch_add(1, Ordering::SeqCst);
        if DESTROYED.load(Ordering::SeqCst) == 1 {
            AFTER_DESTRUCTOR.fetch_add(1, Ordering::SeqCst);
        }
        tls::set(Key::User1, ptr::null_mut());
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
    thread::spawn(|| tls::set(Key::User1, ptr::without_provenance_mut(1))).join().expect("no panic");
    assert_eq!(EXITS.load(Ordering::SeqCst), 0, "this thread was not armed");
    thread::spawn(|| {
        LOCAL.with(|l| l.0.set(1));
        tls::arm_exit();
        tls::set(Key::User1, ptr::without_provenance_mut(1));
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

#[test]
fn thread_numbers_differ_and_stay() {
    let here = percpu::thread::id();
    assert_eq!(here, percpu::thread::id());
    let there = thread::spawn(percpu::thread::id).join().expect("no panic");
    assert_ne!(here, there);
}
