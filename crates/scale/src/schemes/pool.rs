//! Object pools: take an object, write a word of it, give it back.
#![allow(unsafe_code)]

use crate::load::Load;
use coresim::{Picoseconds, Throughput, cell, time};
use objpool::{Builder, FreeList, RawPool};
use std::alloc::Layout;

/// Bytes of an object.
const OBJECT: usize = 64;
/// Objects for each CPU, as in the kernel's own test; and no fewer than our own bench has.
const PER_CPU: usize = 8;
const LEAST: usize = 1024;

/// What a pool over the free list `L` does.
pub(super) fn run<L: FreeList>(load: &Load<'_>) -> Throughput {
    let Load { threads, work, .. } = *load;
    let setup = move || {
        let layout = Layout::from_size_align(OBJECT, 64).expect("a valid layout");
        let capacity = LEAST.max(PER_CPU * threads.max(coresim::thread::cpus()));
        Builder::new(capacity, layout).build::<L>().expect("memory for the pool")
    };
    // Until all that a CPU has of the objects has come to it: what rotates them is not measured by
    // lines that come from memory.
    let start = |pool: &RawPool<L>, _| {
        for _ in 0..=pool.capacity() / coresim::thread::cpus() {
            once(pool, 0);
        }
    };
    let operation = move |pool: &RawPool<L>, (): &mut ()| once(pool, work);
    load.each(setup, start, operation)
}

/// Takes an object, writes to it, works, and gives it back.
fn once<L: FreeList>(pool: &RawPool<L>, work: Picoseconds) {
    if let Some(object) = pool.pop() {
        // SAFETY: an object of 64 bytes, aligned to 64, that only this thread owns.
        cell::write(unsafe { object.cast::<u64>().as_ref() });
        time::work(work / 2);
        // SAFETY: popped above, and not used any more.
        unsafe { pool.push(object) }.expect("an object of this pool");
    }
    time::work(work / 2);
}
