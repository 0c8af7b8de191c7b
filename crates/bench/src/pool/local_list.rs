//! The floor: an intrusive list that belongs to one thread. No pool that threads share can be
//! cheaper.
#![allow(unsafe_code)]

use super::case::{BULK, OBJECT_SIZE};
use super::source::RawSource;
use std::cell::Cell;
use std::ptr::{self, NonNull};
use std::sync::Mutex;

const WORDS: usize = OBJECT_SIZE / 8;

type Object = [u64; WORDS];

thread_local! {
    /// First free object of this thread; its first word points to the next.
    static FIRST: Cell<*mut u64> = const { Cell::new(ptr::null_mut()) };
}

/// Lists of all threads of one measurement, whose threads end with it.
pub(super) struct LocalList {
    slabs: Mutex<Vec<Box<[Cell<Object>]>>>,
    per_thread: usize,
}

// SAFETY: the cells are reached through the pointers of the one thread that a slab was made for.
unsafe impl Sync for LocalList {}

impl LocalList {
    pub(super) fn new(bulk: usize) -> Self {
        Self { slabs: Mutex::new(Vec::new()), per_thread: bulk.max(BULK) * 2 }
    }

    #[cold]
    fn new_slab(&self) {
        let slab: Box<[Cell<Object>]> =
            (0..self.per_thread).map(|_| Cell::new([0; WORDS])).collect();
        for object in &slab {
            self.give(NonNull::from(object).cast());
        }
        self.slabs.lock().expect("nobody panics with the slabs").push(slab);
    }
}

impl RawSource for LocalList {
    #[inline(always)]
    fn take(&self) -> Option<NonNull<u64>> {
        if FIRST.get().is_null() {
            self.new_slab();
        }
        let first = NonNull::new(FIRST.get())?;
        // SAFETY: a free object's first word is the pointer that `give` of this thread wrote.
        FIRST.set(unsafe { first.cast::<*mut u64>().read() });
        Some(first)
    }

    #[inline(always)]
    fn give(&self, object: NonNull<u64>) {
        // SAFETY: the caller gives up its object, which has room for a pointer.
        unsafe { object.cast::<*mut u64>().write(FIRST.get()) };
        FIRST.set(object.as_ptr());
    }
}
