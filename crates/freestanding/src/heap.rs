//! An allocator that never takes anything back: pages, cut from the front.
#![allow(unsafe_code)]

use core::alloc::{GlobalAlloc, Layout};
use core::ptr;
use core::sync::atomic::{AtomicUsize, Ordering};
use sys::memory;

struct Bump;

#[global_allocator]
static HEAP: Bump = Bump;

const BYTES: usize = 64 << 20;

/// The first free byte, or 0: no pages yet.
static NEXT: AtomicUsize = AtomicUsize::new(0);
static END: AtomicUsize = AtomicUsize::new(0);

/// Takes the pages, before there are threads.
pub(crate) fn begin() {
    let at = memory::pages(BYTES).expect("memory").as_ptr().expose_provenance();
    NEXT.store(at, Ordering::Relaxed);
    END.store(at + BYTES, Ordering::Relaxed);
}

// SAFETY: every piece is inside the pages, aligned, and handed out once.
unsafe impl GlobalAlloc for Bump {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        // Every piece begins on a multiple of 128: no alignment here is larger.
        let bytes = layout.size().next_multiple_of(128);
        let at = NEXT.fetch_add(bytes, Ordering::Relaxed);
        let fits = layout.align() <= 128 && at + bytes <= END.load(Ordering::Relaxed);
        if fits { ptr::with_exposed_provenance_mut(at) } else { ptr::null_mut() }
    }

    unsafe fn dealloc(&self, _at: *mut u8, _layout: Layout) {}
}
