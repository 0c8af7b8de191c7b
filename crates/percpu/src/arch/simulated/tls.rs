//! The thread-local pointers: the machine keeps them for each of its threads.

use coresim::thread;

/// Pointers per thread.
pub(crate) const SLOTS: usize = thread::WORDS;

#[inline(always)]
pub(crate) fn get(slot: usize) -> *mut () {
    thread::word(slot)
}

#[inline(always)]
pub(crate) fn set(slot: usize, value: *mut ()) {
    thread::set_word(slot, value);
}
