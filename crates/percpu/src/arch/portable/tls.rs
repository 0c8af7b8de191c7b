//! The thread-local pointers without assembly.

/// Pointers per thread.
pub(crate) const SLOTS: usize = 8;

#[cfg(loom)]
mod imp {
    use super::SLOTS;
    use core::cell::Cell;

    loom::thread_local! {
        static BLOCK: [Cell<*mut ()>; SLOTS] =
            core::array::from_fn(|_| Cell::new(core::ptr::null_mut()));
    }

    pub(crate) fn get(slot: usize) -> *mut () {
        BLOCK.with(|b| b[slot].get())
    }

    pub(crate) fn set(slot: usize, value: *mut ()) {
        BLOCK.with(|b| b[slot].set(value));
    }
}

#[cfg(not(loom))]
mod imp {
    use super::SLOTS;
    use core::cell::Cell;
    use std::thread_local;

    thread_local! {
        // No destructor and a constant start: the standard library registers nothing and allocates
        // nothing for it.
        static BLOCK: [Cell<*mut ()>; SLOTS] =
            const { [const { Cell::new(core::ptr::null_mut()) }; SLOTS] };
    }

    #[inline(always)]
    pub(crate) fn get(slot: usize) -> *mut () {
        BLOCK.with(|b| b[slot].get())
    }

    #[inline(always)]
    pub(crate) fn set(slot: usize, value: *mut ()) {
        BLOCK.with(|b| b[slot].set(value));
    }
}

pub(crate) use imp::{get, set};
