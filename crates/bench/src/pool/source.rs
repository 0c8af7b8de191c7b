//! Where objects come from: one trait over allocators, queues and pools.
#![allow(unsafe_code)]

use std::ptr::NonNull;

/// Something objects are taken from and given back to.
pub(super) trait Source: Sync + 'static {
    /// An object while it is out.
    type Item<'a>
    where
        Self: 'a;

    /// Takes an object; `None`: there was none.
    fn take(&self) -> Option<Self::Item<'_>>;

    /// Writes into the object, as its owner would.
    fn write(item: &mut Self::Item<'_>, value: u64);

    /// Gives the object back.
    fn give<'a>(&'a self, item: Self::Item<'a>);
}

/// A source that deals in pointers, which may be given back by another thread.
pub(super) trait RawSource: Sync + 'static {
    /// Takes an object of at least 8 writable, aligned bytes.
    fn take(&self) -> Option<NonNull<u64>>;

    /// Gives back what [`take`](Self::take) of the same source gave.
    fn give(&self, object: NonNull<u64>);
}

/// A [`RawSource`] as a [`Source`].
pub(super) struct Raw<S>(pub(super) S);

impl<S: RawSource> Source for Raw<S> {
    type Item<'a> = NonNull<u64>;

    #[inline(always)]
    fn take(&self) -> Option<NonNull<u64>> {
        self.0.take()
    }

    #[inline(always)]
    fn write(item: &mut NonNull<u64>, value: u64) {
        write(*item, value);
    }

    #[inline(always)]
    fn give(&self, item: NonNull<u64>) {
        self.0.give(item);
    }
}

/// The owner's write. Volatile, so that an allocation that is freed at once is not optimised away
/// with it.
#[inline(always)]
pub(super) fn write(object: NonNull<u64>, value: u64) {
    // SAFETY: the object is out of its source, so that this thread alone has it, and sources give
    // at least 8 writable, aligned bytes.
    unsafe { object.write_volatile(value) };
}
