//! Plain data that threads share by other means than atomics.

use crate::context;
use crate::memory::LINE;
use crate::operation::{READ, WRITE};
use crate::world::Operation;
use std::panic::Location;

/// A cell that charges for the lines of its value, with loom's interface.
///
/// Data that is in no such cell and no atomic costs nothing on the model; [`read()`] and
/// [`write()`] charge for it by hand.
#[derive(Debug, Default)]
#[repr(transparent)]
pub struct UnsafeCell<T: ?Sized>(core::cell::UnsafeCell<T>);

impl<T> UnsafeCell<T> {
    /// Wraps `value`.
    pub const fn new(value: T) -> Self {
        Self(core::cell::UnsafeCell::new(value))
    }

    /// Returns the wrapped value.
    pub fn into_inner(self) -> T {
        self.0.into_inner()
    }
}

impl<T: ?Sized> UnsafeCell<T> {
    /// Reads all of the value, then calls `f` with a pointer for reading. Dereferencing it is the
    /// caller's promise that nobody writes meanwhile.
    #[inline]
    #[track_caller]
    pub fn with<R>(&self, f: impl FnOnce(*const T) -> R) -> R {
        charge(self, &READ, Location::caller());
        f(self.0.get())
    }

    /// Writes all of the value, then calls `f` with a pointer for writing. Dereferencing it is the
    /// caller's promise of exclusive access.
    #[inline]
    #[track_caller]
    pub fn with_mut<R>(&self, f: impl FnOnce(*mut T) -> R) -> R {
        charge(self, &WRITE, Location::caller());
        f(self.0.get())
    }
}

/// Charges for reading all lines of plain data.
#[track_caller]
pub fn read<T: ?Sized>(value: &T) {
    charge(value, &READ, Location::caller());
}

/// Charges for writing all lines of plain data, which the caller changes by other means.
#[track_caller]
pub fn write<T: ?Sized>(value: &T) {
    charge(value, &WRITE, Location::caller());
}

fn charge<T: ?Sized>(value: &T, operation: &Operation, location: &'static Location<'static>) {
    let from = (&raw const *value).addr();
    let to = from + size_of_val(value);
    let mut at = from;
    while at < to {
        context::access(at, operation, location);
        at = (at / LINE + 1) * LINE;
    }
}
