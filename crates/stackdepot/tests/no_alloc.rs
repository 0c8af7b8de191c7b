//! Nothing here calls the allocator: a depot is usable inside malloc.
#![cfg(not(loom))]

use stackdepot::{Depot, Flags};
use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::fmt::Write;

thread_local! {
    static CALLS: Cell<u64> = const { Cell::new(0) };
}

struct Counting;

// SAFETY: hands everything on to System.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        CALLS.set(CALLS.get() + 1);
        // SAFETY: the caller's promise.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, p: *mut u8, layout: Layout) {
        CALLS.set(CALLS.get() + 1);
        // SAFETY: the caller's promise.
        unsafe { System.dealloc(p, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// A sink that counts bytes.
struct Length(usize);

impl Write for Length {
    fn write_str(&mut self, s: &str) -> std::fmt::Result {
        self.0 += s.len();
        Ok(())
    }
}

fn use_everything(thread: u64) {
    let depot = Depot::builder().buckets_log2(2).budget_bytes(1 << 20).build_mmap().unwrap();
    let mut buf = [0; 64];
    let mut frames = [0; 20];
    for n in 0..3000u64 {
        frames[(n % 20) as usize] = n ^ thread;
        let depth = 1 + (n % 20) as usize;
        let handle = depot.save(&frames[..depth], Flags::GET | Flags::CAN_GROW);
        assert_eq!(depot.fetch(handle, &mut buf), Ok(&frames[..depth]));
        if n % 3 > 0 {
            depot.put(handle).unwrap();
        }
    }
    assert!(depot.stats().reused > 0);
    let handle = depot.iter().last().map(|e| e.handle).unwrap_or_default();
    let mut length = Length(0);
    write!(length, "{}", depot.display(handle, |a, f| write!(f, "f{a}"))).unwrap();
    assert!(length.0 > 10);
    while !depot.save(&frames, Flags::GET | Flags::CAN_GROW).is_none() {
        frames[0] += 1;
    }
}

#[test]
fn no_call_of_the_allocator() {
    let before = CALLS.get();
    use_everything(1);
    assert_eq!(CALLS.get(), before, "on a thread that exists");
    let calls = std::thread::spawn(|| {
        let before = CALLS.get();
        use_everything(2);
        CALLS.get() - before
    });
    assert_eq!(calls.join().unwrap(), 0, "on a thread's first use");
}
