//! Dropping a box after a grace period.
#![allow(unsafe_code)]

use super::domain::Domain;
use crate::callbacks::Head;
use alloc::boxed::Box;
use core::ptr::NonNull;
use percpu::sync::atomic::Ordering;

/// How many boxes are queued between two attempts to run callbacks.
const EVERY: u32 = 64;

/// What stands in the queue for a box.
#[repr(C)]
struct Deferred<T> {
    head: Head,
    value: Box<T>,
}

unsafe fn drop_deferred<T>(head: NonNull<Head>) {
    // SAFETY: `queue` made the head as the first field of a boxed `Deferred<T>`, whose owner is now this callback.
    drop(unsafe { Box::from_raw(head.cast::<Deferred<T>>().as_ptr()) });
}

pub(super) fn queue<T: Send + 'static>(domain: &Domain, value: Box<T>) {
    let deferred = Box::into_raw(Box::new(Deferred { head: Head::new(), value }));
    if let Some(deferred) = NonNull::new(deferred) {
        // SAFETY: the head is new, lives until `drop_deferred` frees it, and `T: Send` lets another thread drop the value.
        unsafe { domain.call(deferred.cast(), drop_deferred::<T>) };
    }
    // Relaxed: only how often matters.
    if domain.deferred().fetch_add(1, Ordering::Relaxed) % EVERY == EVERY - 1 {
        domain.run_callbacks();
    }
}
