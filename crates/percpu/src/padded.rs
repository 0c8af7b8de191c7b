//! Padding that keeps two writers off one cache line.

use core::fmt;
use core::ops::{Deref, DerefMut};

/// A value on cache lines of its own.
///
/// 128 bytes: x86-64 prefetches lines in adjacent pairs and some AArch64 cores have lines of 128
/// bytes, so that two values 64 bytes apart still disturb each other.
#[derive(Clone, Copy, Default, PartialEq, Eq)]
#[repr(C, align(128))]
pub struct CachePadded<T> {
    value: T,
}

impl<T> CachePadded<T> {
    /// Wraps `value`.
    pub const fn new(value: T) -> Self {
        Self { value }
    }

    /// Returns the wrapped value.
    pub fn into_inner(self) -> T {
        self.value
    }
}

impl<T> Deref for CachePadded<T> {
    type Target = T;

    #[inline]
    fn deref(&self) -> &T {
        &self.value
    }
}

impl<T> DerefMut for CachePadded<T> {
    #[inline]
    fn deref_mut(&mut self) -> &mut T {
        &mut self.value
    }
}

impl<T> From<T> for CachePadded<T> {
    fn from(value: T) -> Self {
        Self::new(value)
    }
}

impl<T: fmt::Debug> fmt::Debug for CachePadded<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.value.fmt(f)
    }
}

const _: () =
    assert!(align_of::<CachePadded<u8>>() == 128, "two padded values never share a pair of lines");
