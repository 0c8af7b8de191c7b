//! What a thread has.

use core::mem::offset_of;
use core::ptr;
use core::sync::atomic::{AtomicPtr, AtomicUsize};

/// Pointers per thread.
pub(crate) const SLOTS: usize = 8;

/// What is kept for a thread: all null and 0 at first, and again in a fork child.
#[derive(Debug, Default)]
#[repr(C, align(64))]
pub struct Words {
    /// The primitives' own.
    pub(crate) slots: [AtomicPtr<()>; SLOTS],
    /// For what stands on them (the probe engine).
    pub more: [AtomicUsize; 8],
}

impl Words {
    /// Where [`Words::more`] is in them, for assembly.
    pub const MORE: usize = offset_of!(Self, more);

    /// Those of a new thread.
    pub const fn new() -> Self {
        Self {
            slots: [const { AtomicPtr::new(ptr::null_mut()) }; SLOTS],
            more: [const { AtomicUsize::new(0) }; 8],
        }
    }
}
