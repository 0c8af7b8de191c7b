//! A box that waits in the queue.
#![allow(unsafe_code)]

use super::{Callbacks, GracePeriods, Head};
use alloc::boxed::Box;
use core::ptr::NonNull;
use percpu::sync::atomic::Ordering;

/// How many boxes are queued between two attempts to run callbacks.
const EVERY: u32 = 64;

/// What stands in the queue for a box.
#[repr(C)]
struct Boxed<T> {
    head: Head,
    value: Box<T>,
}

unsafe fn drop_boxed<T>(head: NonNull<Head>) {
    // SAFETY: `defer_drop` made the head as the first field of a boxed `Boxed<T>`, which this
    // callback now owns.
    drop(unsafe { Box::from_raw(head.cast::<Boxed<T>>().as_ptr()) });
}

impl Callbacks {
    /// Queues the drop of `value`, and runs what is due every now and then.
    pub(crate) fn defer_drop<T: Send + 'static>(&self, value: Box<T>, periods: &impl GracePeriods) {
        let boxed = Box::into_raw(Box::new(Boxed { head: Head::new(), value }));
        if let Some(boxed) = NonNull::new(boxed) {
            // SAFETY: the head is new, lives until `drop_boxed` frees it, and `T: Send` lets
            // another thread drop the value.
            unsafe { self.push(boxed.cast(), drop_boxed::<T>) };
        }
        // Relaxed: only how often matters.
        if self.boxes.fetch_add(1, Ordering::Relaxed) % EVERY == EVERY - 1 {
            self.run(periods);
        }
    }
}
