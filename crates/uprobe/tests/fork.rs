//! What a child does before the engine's own handler has run in it counts as the child's, and never
//! in the block of its parent's thread, which the parent goes on writing. Handlers of this test hit
//! probes there: they were installed before the engine's, so theirs before the fork runs last, and
//! theirs in the child first.
#![allow(unsafe_code)]

mod common;

use common::{cell, through};
use core::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::ptr;
use std::sync::OnceLock;
use uprobe::testing::{self, Kind};
use uprobe::{Hooks, Loss};
use wire::cell::{BUCKET_COUNT, BUCKETS, CALLS, MAX, RETURNS, SELF, TOTAL};

const WORDS: usize = 16 * 1024 / 8;
const COUNT: u32 = 0;
const TIMED: u32 = cell(0);
const PAIR: u32 = cell(1);
const AROUND: u32 = cell(2);

/// Memory that all processes share: how many blocks were given, and two blocks.
#[repr(C)]
struct Shared {
    given: AtomicUsize,
    blocks: [[AtomicU64; WORDS]; 2],
}

fn shared() -> &'static Shared {
    static PLACE: OnceLock<&Shared> = OnceLock::new();
    PLACE.get_or_init(|| {
        let flags = libc::MAP_SHARED | libc::MAP_ANONYMOUS;
        let protection = libc::PROT_READ | libc::PROT_WRITE;
        // SAFETY: a new mapping.
        let place =
            unsafe { libc::mmap(ptr::null_mut(), size_of::<Shared>(), protection, flags, -1, 0) };
        assert_ne!(place, libc::MAP_FAILED);
        // SAFETY: zeros, aligned to a page, never unmapped.
        unsafe { &*place.cast::<Shared>() }
    })
}

fn thread_start() -> *mut u8 {
    let number = shared().given.fetch_add(1, Ordering::Relaxed);
    shared().blocks.get(number).map_or(ptr::null_mut(), |b| b.as_ptr().cast::<u8>().cast_mut())
}

fn lost(_: Loss) {}

fn field(block: usize, cell: u32, field: usize) -> u64 {
    shared().blocks[block][(cell as usize + field) / 8].load(Ordering::Relaxed)
}

fn timed(block: usize, cell: u32) -> u64 {
    (0..BUCKET_COUNT).map(|b| field(block, cell, BUCKETS + 8 * b)).sum()
}

/// What there is to hit.
fn hit() {
    // SAFETY: adds one.
    assert_eq!(unsafe { common::leaf_a(1) }, 2);
    through(common::wrap_a, || through(common::wrap_b, || ()));
}

extern "C" fn handler() {
    hit();
}

#[test]
fn a_child_counts_as_itself_from_its_first_instruction_on() {
    // SAFETY: functions for the life of the process.
    assert_eq!(unsafe { libc::pthread_atfork(Some(handler), Some(handler), Some(handler)) }, 0);
    shared();
    testing::start(Hooks { thread_start, thread_exit: |_| (), lost }).expect("the hit path");
    common::arm(common::leaf_a as *const () as usize, Kind::Count(COUNT));
    common::arm(common::wrap_a as *const () as usize, Kind::Time(TIMED));
    common::arm(common::wrap_b as *const () as usize, Kind::Pair(PAIR));
    common::arm(common::wrap_c as *const () as usize, Kind::Time(AROUND));
    // The thread's own handlers hit when it has a block already.
    uprobe::prepare_thread();
    let mut child = -1;
    through(common::wrap_c, || {
        // SAFETY: the child hits probes and ends.
        child = unsafe { libc::fork() };
    });
    hit();
    if child == 0 {
        // SAFETY: ends the child.
        unsafe { libc::_exit(7) };
    }
    let mut status = 0;
    // SAFETY: waits for the child.
    assert_eq!(unsafe { libc::waitpid(child, &raw mut status, 0) }, child);
    assert_eq!(status, 7 << 8);
    assert_eq!(shared().given.load(Ordering::Relaxed), 2, "one for each process");
    // Before the fork, behind it, and once more; in the child all but the first.
    for (block, times) in [(0, 3), (1, 2)] {
        assert_eq!(field(block, COUNT, CALLS), times, "block {block}");
        for cell in [TIMED, PAIR] {
            let both = (field(block, cell, CALLS), field(block, cell, RETURNS));
            assert_eq!(both, (times, times), "block {block}, cell {cell}");
        }
        assert_eq!(timed(block, TIMED), times, "block {block}");
        let time = |what| field(block, TIMED, what);
        assert!(time(MAX) != 0 && time(MAX) <= time(TOTAL) && time(TOTAL) <= times * time(MAX));
        assert_eq!(time(TOTAL), time(SELF), "what it calls is not timed");
        // Called once, and left by both.
        assert_eq!(field(block, AROUND, CALLS), 1 - block as u64);
        assert_eq!((field(block, AROUND, RETURNS), timed(block, AROUND)), (1, 1));
    }
}
