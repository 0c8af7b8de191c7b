//! A program without a C library: everything that runs inside targets, in the way in which an image
//! uses it. `tests/image.rs` builds it, looks whether anything is missing, and runs it.
//!
//! It plays the C library, too: its threads have control blocks, with a word for the image in them
//! and, with an argument, a registered restartable-sequence area.
#![no_std]
#![no_main]
#![deny(unsafe_code)]

extern crate alloc;

mod exercise;
mod heap;
mod host;
mod recording;
mod runtime;
mod stack;
mod start;
mod threads;

use core::sync::atomic::{AtomicU32, Ordering};
use exercise::Shared;
use sys::futex::{self, Scope};
use sys::process;

/// What the program does, once it is relocated. The number of arguments is that of C.
fn main(arguments: usize) {
    host::begin(arguments > 1);
    assert_eq!(percpu::rseq::available(), arguments > 1);
    assert_eq!(percpu::fork::generation(), 1);
    let shared = Shared::new();
    shared.exercise();
    let own = percpu::thread::id();

    let mut frames = [0; stack::MOST];
    let stack = stack::walk(&mut frames);
    recording::Recording::new().count(stack);

    // Two rounds of threads, on the same control blocks.
    for _ in 0..2 {
        threads::run(&shared, |shared| (0..1000).for_each(|_| shared.exercise()));
    }
    threads::run(&shared, after_another);
    assert_eq!(percpu::thread::id(), own, "nobody else has this thread's words");

    HOLDER.store(0, Ordering::Relaxed);
    threads::beside(&shared, hold, |shared| {
        while HOLDER.load(Ordering::Acquire) == 0 {
            let _ = futex::wait(&HOLDER, 0, None, Scope::Private);
        }
        let status = threads::in_child(|| {
            // Of the two the child has but one, and with new words.
            assert_eq!(percpu::fork::generation(), 2);
            assert!(percpu::thread::id() > own);
            reclaim::rcu::synchronize();
            shared.exercise();
            process::exit_group(7);
        });
        assert_eq!(status, 7 << 8);
        assert_eq!(percpu::fork::generation(), 1);
        HOLDER.store(2, Ordering::Release);
        futex::wake(&HOLDER, 1, Scope::Private);
    });
    shared.finish();
    let _ = sys::file::write(1, b"ok\n");
}

/// On the words of a thread that is gone, as an image that can tell has it.
#[allow(unsafe_code)]
fn after_another(shared: &Shared) {
    let before = percpu::thread::id();
    // SAFETY: the thread that had this control block has been waited for.
    unsafe { percpu::tls::thread_has_ended() };
    assert!(percpu::thread::id() > before, "another thread");
    shared.exercise();
}

/// 0: not yet in its section; 1: in it; 2: may leave it.
static HOLDER: AtomicU32 = AtomicU32::new(0);

/// Is in a read-side section while the other thread forks.
fn hold(_: &Shared) {
    let _section = reclaim::rcu::read_lock();
    HOLDER.store(1, Ordering::Release);
    futex::wake(&HOLDER, 1, Scope::Private);
    while HOLDER.load(Ordering::Acquire) == 1 {
        let _ = futex::wait(&HOLDER, 1, None, Scope::Private);
    }
}
