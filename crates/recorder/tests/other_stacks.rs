//! Stacks that are not the thread's own may go at any time: what was remembered of them must not be
//! read.
#![allow(unsafe_code)]

mod common;

use common::{ROOMY, cell, counts, hit, start};
use std::cell::Cell;
use std::hint::black_box;
use std::ptr;
use wire::cell::CALLS;

const PAGE: usize = 4096;
const ROOM: usize = 128 * PAGE;
/// Frames that the second stack is smaller by: each is larger than a page.
const FEWER: usize = 16;
const HITS: u64 = 100;

thread_local! {
    /// Frames to make, and the address of a variable in the last one.
    static DEPTH: Cell<usize> = const { Cell::new(0) };
    static LAST: Cell<usize> = const { Cell::new(0) };
}

#[inline(never)]
fn down(frames: usize) -> u64 {
    let large = black_box([frames as u64; 600]);
    if frames == 0 {
        LAST.set((&raw const large).addr());
        (0..HITS).for_each(|_| hit(5));
        large[7]
    } else {
        down(frames - 1) + large[3]
    }
}

extern "C" fn coroutine() {
    black_box(down(DEPTH.get()));
}

/// Runs the coroutine with so many frames on a stack that ends here; where its last frame was.
fn run(base: usize, end: usize, frames: usize) -> usize {
    DEPTH.set(frames);
    // SAFETY: plain data.
    let mut there: libc::ucontext_t = unsafe { std::mem::zeroed() };
    let mut back = there;
    // SAFETY: writable.
    assert_eq!(unsafe { libc::getcontext(&raw mut there) }, 0);
    there.uc_stack.ss_sp = ptr::with_exposed_provenance_mut(base);
    there.uc_stack.ss_size = end - base;
    there.uc_link = &raw mut back;
    // SAFETY: the stack is mapped, and lives until the coroutine has come back.
    unsafe { libc::makecontext(&raw mut there, coroutine, 0) };
    // SAFETY: both live as long as this function.
    assert_eq!(unsafe { libc::swapcontext(&raw mut back, &raw const there) }, 0);
    LAST.get()
}

fn map(at: usize, len: usize) -> usize {
    let fixed = if at == 0 { 0 } else { libc::MAP_FIXED_NOREPLACE };
    // SAFETY: new memory only.
    let base = unsafe {
        libc::mmap(
            ptr::with_exposed_provenance_mut(at),
            len,
            libc::PROT_READ | libc::PROT_WRITE,
            libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | fixed,
            -1,
            0,
        )
    };
    assert_ne!(base, libc::MAP_FAILED);
    base.expose_provenance()
}

fn unmap(base: usize, len: usize) {
    // SAFETY: nothing is on that stack any more.
    assert_eq!(unsafe { libc::munmap(ptr::with_exposed_provenance_mut(base), len) }, 0);
}

/// The same function, stack pointer and caller, but on a stack that ends below the addresses at
/// which the first one had its outer frames.
#[test]
fn a_stack_that_is_replaced_by_a_smaller_one() {
    start(ROOMY);
    let before = cell(CALLS);
    // Nothing else is mapped above, so that what is unmapped stays so.
    let space = map(0, 2 * ROOM);
    let (base, end) = (space, space + ROOM);
    let first = run(base, end, FEWER + 4);
    let frame = first - run(base, end, FEWER + 5);
    assert!(frame > PAGE && frame.is_multiple_of(16), "{frame}");
    unmap(space, 2 * ROOM);

    let smaller = end - FEWER * frame;
    let len = smaller.next_multiple_of(PAGE) - base;
    assert_eq!(map(base, len), base);
    let second = run(base, smaller, 4);
    assert_eq!(first, second, "the same stack pointer");
    unmap(base, len);

    assert_eq!(cell(CALLS) - before, 3 * HITS);
    let mut stacks: Vec<u64> = counts().into_values().filter(|n| *n > 0).collect();
    stacks.sort_unstable();
    assert_eq!(stacks, [HITS; 3], "each with its frames");
}
