//! Object pools: take an object, write a word of it, give it back.
#![allow(unsafe_code)]

use crate::load::Load;
use coresim::{Picoseconds, Simulation, Throughput, cell, time};
use objpool::{Builder, FreeList, RawPool};
use std::alloc::Layout;

/// Bytes of an object.
const OBJECT: usize = 64;
/// Objects for each CPU, as in the kernel's own test.
const PER_CPU: usize = 8;

/// What a pool over the free list `L` does.
pub(super) fn run<L: FreeList>(
    simulation: &Simulation,
    load: &Load,
    span: Picoseconds,
) -> Throughput {
    let (threads, work) = (load.threads, load.work);
    let setup = move || {
        let layout = Layout::from_size_align(OBJECT, 64).expect("a valid layout");
        let capacity = PER_CPU * threads.max(coresim::thread::cpus());
        Builder::new(capacity, layout).build::<L>().expect("memory for the pool")
    };
    let operation = move |pool: &RawPool<L>, _: &mut ()| {
        if let Some(object) = pool.pop() {
            // SAFETY: an object of 64 bytes, aligned to 64, that only this thread owns.
            cell::write(unsafe { object.cast::<u64>().as_ref() });
            time::work(work / 2);
            // SAFETY: popped above, and not used any more.
            unsafe { pool.push(object) }.expect("an object of this pool");
        }
        time::work(work / 2);
    };
    simulation.throughput_with(threads, span, setup, |_, _| (), operation)
}
