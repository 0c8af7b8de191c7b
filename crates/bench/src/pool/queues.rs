//! Queues and locked stacks of pre-allocated objects: the pools that people build themselves.
#![allow(unsafe_code)]

use super::case::OBJECT_SIZE;
use super::source::RawSource;
use crossbeam_queue::{ArrayQueue, SegQueue};
use std::cell::UnsafeCell;
use std::ptr::NonNull;

type Object = UnsafeCell<[u64; OBJECT_SIZE / 8]>;

/// A pointer that may change threads.
#[derive(Clone, Copy)]
struct Handle(NonNull<u64>);

// SAFETY: a handle is in the queue or with one thread, which alone uses the object.
unsafe impl Send for Handle {}

/// The objects; the queues hold pointers to them.
struct Slab(Box<[Object]>);

// SAFETY: objects are only reached through handles, each with one thread at a time.
unsafe impl Send for Slab {}
// SAFETY: likewise.
unsafe impl Sync for Slab {}

impl Slab {
    fn new(capacity: usize) -> Self {
        Self((0..capacity).map(|_| Object::new([0; OBJECT_SIZE / 8])).collect())
    }

    fn handles(&self) -> impl Iterator<Item = Handle> {
        self.0.iter().map(|object| Handle(NonNull::from(object).cast()))
    }
}

/// crossbeam's bounded queue.
pub(super) struct Array {
    queue: ArrayQueue<Handle>,
    _slab: Slab,
}

impl Array {
    pub(super) fn new(capacity: usize) -> Self {
        let (queue, slab) = (ArrayQueue::new(capacity), Slab::new(capacity));
        for handle in slab.handles() {
            assert!(queue.push(handle).is_ok(), "a queue of this capacity");
        }
        Self { queue, _slab: slab }
    }
}

impl RawSource for Array {
    #[inline(always)]
    fn take(&self) -> Option<NonNull<u64>> {
        self.queue.pop().map(|handle| handle.0)
    }

    #[inline(always)]
    fn give(&self, object: NonNull<u64>) {
        // The queue is as large as the slab: only a push that overtakes a pop in progress can be
        // refused, for as long as that lasts.
        while self.queue.push(Handle(object)).is_err() {
            std::thread::yield_now();
        }
    }
}

/// crossbeam's unbounded queue.
pub(super) struct Seg {
    queue: SegQueue<Handle>,
    _slab: Slab,
}

impl Seg {
    pub(super) fn new(capacity: usize) -> Self {
        let (queue, slab) = (SegQueue::new(), Slab::new(capacity));
        slab.handles().for_each(|handle| queue.push(handle));
        Self { queue, _slab: slab }
    }
}

impl RawSource for Seg {
    #[inline(always)]
    fn take(&self) -> Option<NonNull<u64>> {
        self.queue.pop().map(|handle| handle.0)
    }

    #[inline(always)]
    fn give(&self, object: NonNull<u64>) {
        self.queue.push(Handle(object));
    }
}

macro_rules! locked_stack {
    ($(#[$doc:meta])* $name:ident, $mutex:ty, |$stack:ident| $lock:expr) => {
        $(#[$doc])*
        pub(super) struct $name {
            stack: $mutex,
            _slab: Slab,
        }

        impl $name {
            pub(super) fn new(capacity: usize) -> Self {
                let slab = Slab::new(capacity);
                Self { stack: <$mutex>::new(slab.handles().collect()), _slab: slab }
            }
        }

        impl RawSource for $name {
            #[inline(always)]
            fn take(&self) -> Option<NonNull<u64>> {
                let $stack = &self.stack;
                $lock.pop().map(|handle| handle.0)
            }

            #[inline(always)]
            fn give(&self, object: NonNull<u64>) {
                let $stack = &self.stack;
                $lock.push(Handle(object));
            }
        }
    };
}

locked_stack!(
    /// A vector behind std's mutex.
    StdStack, std::sync::Mutex<Vec<Handle>>, |stack| stack.lock().expect("nobody panics with the \
        stack")
);
locked_stack!(
    /// A vector behind parking_lot's mutex.
    ParkingLotStack, parking_lot::Mutex<Vec<Handle>>, |stack| stack.lock()
);
