//! Every hit is counted under its stack: by many threads, on many stacks, in handlers.
#![allow(unsafe_code)]

mod common;
mod interrupts;

use common::{ROOMY, STACKS, cell, counts, frames, hit, start};
use interrupts::{Interrupts, operation};
use std::collections::HashSet;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;
use wire::NoStack;
use wire::cell::CALLS;

/// All tests of this file count in one segment.
static TURN: Mutex<()> = Mutex::new(());

/// What `work` adds: hits of the cell, and by stack, which must be the same, and stacks that were
/// met.
fn added(work: impl FnOnce()) -> (u64, usize) {
    let _turn = TURN.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    start(ROOMY);
    let nested = || common::segment().without_stack(NoStack::Nested);
    let (calls, before, nested_before) = (cell(CALLS), counts(), nested());
    work();
    let after = counts();
    let stacks: u64 = after.values().sum::<u64>() - before.values().sum::<u64>();
    let calls = cell(CALLS) - calls;
    assert_eq!(calls, stacks + nested() - nested_before, "every hit has a stack");
    let met =
        after.iter().filter(|(handle, n)| **handle != 0 && before.get(handle) != Some(n)).count();
    (calls, met)
}

#[test]
fn each_path_is_a_stack_and_counted_as_often_as_it_was_taken() {
    let (calls, met) = added(|| {
        (0..3 * STACKS).for_each(hit);
        // Here, where nobody else is in the middle of a hit: a stack is there before it is counted.
        check_stacks();
    });
    assert_eq!((calls, met), (3 * STACKS, STACKS as usize));
}

fn check_stacks() {
    let mut known = HashSet::new();
    for (handle, n) in counts().into_iter().filter(|(handle, _)| *handle != 0) {
        let frames = frames(handle);
        assert!(n > 0, "{handle:#x} was met");
        assert!(known.insert(frames.clone()), "each stack once: {handle:#x} {frames:x?}");
        assert!(frames.len() > 13, "from the leaf through all levels: {frames:x?}");
        // A handler may have interrupted the engine's own code, which is not described by the
        // registers that walks follow.
        let interrupted = frames[1..]
            .iter()
            .any(|frame| !wire::Frame(*frame).returns() && wire::Frame(*frame).reason().is_none());
        let cut = wire::Frame(*frames.last().unwrap()).reason();
        assert!(cut.is_none() || interrupted, "to the thread's start: {frames:x?}");
    }
}

#[test]
fn the_same_stack_again_and_again() {
    let (calls, met) = added(|| (0..100_000).for_each(|_| hit(5)));
    assert_eq!((calls, met), (100_000, 1));
}

#[test]
fn more_threads_than_processors() {
    let (calls, met) = added(|| {
        std::thread::scope(|s| {
            for t in 0..32_u64 {
                s.spawn(move || (0..5_000).for_each(|n| hit(n * (t + 1) % 97)));
            }
        });
    });
    assert_eq!(calls, 32 * 5_000);
    assert_eq!(met, 97);
}

/// Threads that come and go take over each other's blocks, and go on in their tables.
#[test]
fn many_short_threads() {
    let (calls, _) = added(|| {
        (0..300_u64).for_each(|t| {
            std::thread::spawn(move || (0..20).for_each(|n| hit(t + n))).join().unwrap()
        })
    });
    assert_eq!(calls, 300 * 20);
}

/// A handler's hits in the middle of a hit have no stack, but are counted like all others.
#[test]
fn hits_of_handlers_at_any_point_of_a_hit() {
    static HANDLED: AtomicU64 = AtomicU64::new(0);
    const TIMES: u64 = 1_000;
    const HITS: u64 = 100_000;
    extern "C" fn handler(_: libc::c_int) {
        hit(HANDLED.fetch_add(1, Ordering::Relaxed) % 3);
        interrupts::handled();
    }
    let mut hits = 0;
    let (calls, _) = added(|| {
        let nested = || common::segment().without_stack(NoStack::Nested);
        let before = nested();
        interrupts::install(libc::SIGUSR2, handler);
        let timer = Interrupts::start(libc::SIGUSR2, Duration::from_micros(50));
        while timer.short_of::<1>(TIMES, hits < HITS || nested() < before + TIMES) {
            (0..20).for_each(|n| operation(0, || hit((hits + n) % 40)));
            hits += 20;
        }
        println!("{} handlers, {} in the middle of a hit", timer.handlers(), nested() - before);
    });
    assert_eq!(calls, hits + HANDLED.load(Ordering::Relaxed));
}
