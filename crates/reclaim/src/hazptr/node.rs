//! A value with the head that retires it: what the safe cells point to.
#![allow(unsafe_code)]

use super::domain::Domain;
use super::head::Head;
use alloc::boxed::Box;
use core::mem::offset_of;

/// A value in a box, that can be retired.
pub(super) struct Node<T> {
    pub(super) value: T,
    head: Head,
}

crate::retirable!(impl[T: Send + 'static] Node<T>, head);

impl<T> Node<T> {
    pub(super) fn boxed(value: T) -> Box<Self> {
        Box::new(Self { value, head: Head::new() })
    }

    /// Where the node of a value would begin: to be compared, not to be followed.
    pub(super) fn of_value(value: &T) -> *mut Self {
        core::ptr::from_ref(value).cast_mut().wrapping_byte_sub(offset_of!(Self, value)).cast()
    }
}

/// Retires a node that was unlinked.
///
/// # Safety
/// Null, or from [`Node::boxed`], unlinked from everything that readers load from, and retired
/// once.
pub(super) unsafe fn retire<T: Send + 'static>(node: *mut Node<T>, domain: &Domain) {
    if !node.is_null() {
        // SAFETY: the caller's promise.
        unsafe { domain.retire(node) };
    }
}
