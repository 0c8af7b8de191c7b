//! What a probe may call allocates nothing, from a thread's first use on.
#![cfg(not(loom))]

use reclaim::percpu_ref::PercpuRef;
use reclaim::rcu::{self, Head};
use reclaim::srcu::{Srcu, SrcuFast};
use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::ptr::NonNull;
use std::thread;

thread_local!(static ALLOCATIONS: Cell<usize> = const { Cell::new(0) });

struct Counting;

// SAFETY: hands everything on to the system's allocator.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        ALLOCATIONS.set(ALLOCATIONS.get() + 1);
        // SAFETY: the caller's promise.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, ptr: *mut u8, layout: Layout) {
        // SAFETY: the caller's promise.
        unsafe { System.dealloc(ptr, layout) };
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

unsafe fn nothing(_head: NonNull<Head>) {}

#[test]
fn nothing_is_allocated() {
    percpu::init();
    let normal = Srcu::new();
    // One with counters in the threads' records, and one that fell back to counters per CPU.
    let fast: Vec<SrcuFast> = (0..20).map(|_| SrcuFast::new()).collect();
    let refs = PercpuRef::new(|| ());
    let heads = [const { Head::new() }; 10];
    thread::scope(|s| {
        s.spawn(|| {
            let before = ALLOCATIONS.get();
            for _ in 0..100 {
                drop((rcu::read_lock(), rcu::read_lock()));
                drop((normal.read_lock(), fast[0].read_lock(), fast[19].read_lock()));
                assert!(refs.try_get_live());
                refs.put().expect("balanced");
                let cookie = rcu::start_poll();
                rcu::poll(cookie);
                fast[0].poll(fast[0].start_poll());
                normal.poll(normal.get_state());
                rcu::synchronize();
            }
            for head in &heads {
                // SAFETY: new, outlives the barrier below, used by nobody else.
                unsafe { rcu::call(NonNull::from(head), nothing) };
            }
            rcu::run_callbacks();
            rcu::barrier();
            assert_eq!(ALLOCATIONS.get() - before, 0);
        });
    });
    refs.kill().expect("alive");
}
