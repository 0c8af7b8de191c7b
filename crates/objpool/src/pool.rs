//! The one interface of all pools.
#![allow(unsafe_code)]

use crate::{PushError, Statistics};
use core::alloc::Layout;
use core::ptr::NonNull;

/// A fixed number of objects of one layout, for callers that may not allocate.
///
/// Dyn-compatible, so that a program can choose at run time; where speed counts use the methods of [`RawPool`](crate::RawPool), which inline.
pub trait Pool: Send + Sync {
    /// Takes an object. Its bytes are as its last owner (or the initialiser) left them. `None`: at some moment during the call none was free, or the pool is closed.
    ///
    /// # Context
    /// Signal-safe, lock-free, never allocates, no system call (exceptions: [`RseqLifo`](crate::RseqLifo)).
    fn pop(&self) -> Option<NonNull<u8>>;

    /// Gives an object back.
    ///
    /// A second push of the same object and a pointer that is no object are refused. Two pushes of one object on two threads in the same instant may both be taken: that no two
    /// threads believe to own it is the caller's promise.
    ///
    /// # Errors
    /// See [`PushError`]; the pool is unchanged.
    ///
    /// # Safety
    /// The caller owns the object: no other thread pushes or uses it during the call, and nobody uses it after, until it is popped again.
    ///
    /// # Context
    /// As [`pop`](Self::pop). After [`close`](Self::close) it runs the object's destructor, and with the last object the release callback.
    unsafe fn push(&self, object: NonNull<u8>) -> Result<(), PushError>;

    /// Drops all free objects, and from now on every object that comes back. When the last is gone the release callback runs. Closing again does nothing.
    ///
    /// # Context
    /// Signal-safe if destructor and callback are; with [`RseqLifo`](crate::RseqLifo) one system call.
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
