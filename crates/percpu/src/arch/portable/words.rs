//! A word beside the thread pointer, which only assembly can read.

/// Nothing: the image is asked.
pub(crate) fn beside(_offset: isize) -> *const () {
    core::ptr::null()
}
