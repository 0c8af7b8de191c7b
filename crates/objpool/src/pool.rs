//! The one interface of all pools.
#![allow(unsafe_code)]

use crate::{PushError, Statistics};
use core::alloc::Layout;
use core::ptr::NonNull;
use core::time::Duration;

/// A fixed number of objects of one layout, for callers that may not allocate.
///
/// Dyn-compatible, so that a program can choose at run time; where speed counts use the methods of
/// [`RawPool`](crate::RawPool), which inline.
pub trait Pool: Send + Sync {
    /// Takes an object. Its bytes are as its last owner (or the initialiser) left them. `None`: at
    /// some moment during the call none was free, or the pool is closed.
    ///
    /// # Context
    /// Signal-safe, lock-free, never allocates, no system call (exceptions:
    /// [`RseqLifo`](crate::RseqLifo)).
    fn pop(&self) -> Option<NonNull<u8>>;

    /// Takes an object, and waits for one to come back as long as none is free. `None`: the pool is
    /// closed, or every object was taken out for good
    /// ([`Pooled::into_inner`](crate::Pooled::into_inner)).
    ///
    /// Who waits is not served in any order, and a [`pop`](Self::pop) may be quicker. A thread that
    /// holds the last object itself waits for ever.
    ///
    /// # Context
    /// Blocks; not for signal handlers, which may run over the one that has the object. Never
    /// allocates, leaves `errno` alone. If it has to wait it makes a few system calls (`futex`,
    /// `membarrier`), and as long as it waits every push makes one.
    fn pop_wait(&self) -> Option<NonNull<u8>>;

    /// As [`pop_wait`](Self::pop_wait), for `time` at most. `None`, too, when that is over: at some
    /// moment near its end none was free.
    ///
    /// # Context
    /// As [`pop_wait`](Self::pop_wait). Returns later than `time` if the thread gets no processor,
    /// or by the timer slack (50 µs).
    fn pop_timeout(&self, time: Duration) -> Option<NonNull<u8>>;

    /// Gives an object back.
    ///
    /// A second push of the same object and a pointer that is no object are refused. Two pushes of
    /// one object on two threads in the same instant may both be taken: that no two threads believe
    /// to own it is the caller's promise.
    ///
    /// # Errors
    /// See [`PushError`]; the pool is unchanged.
    ///
    /// # Safety
    /// The caller owns the object: no other thread pushes or uses it during the call, and nobody
    /// uses it after, until it is popped again.
    ///
    /// # Context
    /// As [`pop`](Self::pop); one system call if somebody [waits](Self::pop_wait). After
    /// [`close`](Self::close) it runs the object's destructor, and with the last object the release
    /// callback.
    unsafe fn push(&self, object: NonNull<u8>) -> Result<(), PushError>;

    /// Drops all free objects, and from now on every object that comes back. When the last is gone
    /// the release callback runs. Pops that wait end. Closing again does nothing.
    ///
    /// # Context
    /// Signal-safe if destructor and callback are; at most two system calls.
    fn close(&self);

    /// Whether [`close`](Self::close) was called.
    fn is_closed(&self) -> bool;

    /// The counters. Reads one record per object.
    fn statistics(&self) -> Statistics;

    /// How many objects there are, free or out.
    fn capacity(&self) -> usize;

    /// Size and alignment of an object as asked for.
    fn layout(&self) -> Layout;

    /// The free list's name, for tables.
    fn name(&self) -> &'static str;
}
