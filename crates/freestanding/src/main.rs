//! A program without a C library: everything that runs inside targets, in the way in which an image
//! uses it, down to probes on functions of its own. `tests/image.rs` builds it, looks whether
//! anything is missing, decides how its functions are probed, and runs it.
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
mod panics;
mod probes;
mod probing;
mod program;
mod recording;
mod stack;
mod start;
mod threads;

use core::ffi::CStr;
// For its functions on bytes.
use resident as _;

use core::sync::atomic::{AtomicU32, Ordering};
use exercise::Shared;
use program::Program;
use sys::futex::{self, Scope};
use sys::process;

/// What the program does, once it is relocated. The first argument is `area` (threads have
/// restartable-sequence areas), `sealed` (what was ever writable can never be executed) or anything
/// else; the second the file with decisions about its own functions.
fn main(program: &Program) {
    let asked = |what: &CStr| program.argument(1) == Some(what);
    let with_area = asked(c"area");
    host::begin(with_area);
    if asked(c"sealed") && !seal() {
        let _ = sys::file::write(1, b"this kernel cannot seal\n");
        return;
    }
    assert_eq!(percpu::rseq::available(), with_area);
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
    if let Some(decisions) = program.argument(2) {
        probing::run(program, decisions, &shared);
    }
    shared.finish();
    let _ = sys::file::write(1, b"ok\n");
}

/// `PR_SET_MDWE`: no memory becomes executable that was not so from the start. False: Linux before
/// 6.3.
#[allow(unsafe_code)]
fn seal() -> bool {
    const PRCTL: usize = 157;
    const PR_SET_MDWE: usize = 65;
    const REFUSE_EXEC_GAIN: usize = 1;
    // SAFETY: nothing here relies on it.
    unsafe { sys::raw::syscall5(PRCTL, PR_SET_MDWE, REFUSE_EXEC_GAIN, 0, 0, 0) }.is_ok()
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
