//! Atomic booleans and pointers.

use super::Ordering;
use crate::context;
use crate::operation::{LOAD, locked, store};
use core::fmt;
use core::sync::atomic;
use std::panic::Location;

macro_rules! common {
    ($value:ty) => {
        /// The value, of which nobody else has a reference.
        pub fn get_mut(&mut self) -> &mut $value {
            self.value.get_mut()
        }

        /// The wrapped value.
        pub fn into_inner(self) -> $value {
            self.value.into_inner()
        }

        /// The address of the value. What is done through it, the model does not see.
        pub const fn as_ptr(&self) -> *mut $value {
            self.value.as_ptr()
        }

        /// Loads the value.
        #[inline]
        #[track_caller]
        pub fn load(&self, order: Ordering) -> $value {
            context::access(self.as_ptr().addr(), &LOAD, Location::caller());
            self.value.load(order)
        }

        /// Stores a value.
        #[inline]
        #[track_caller]
        pub fn store(&self, value: $value, order: Ordering) {
            context::access(self.as_ptr().addr(), store(order), Location::caller());
            self.value.store(value, order);
        }

        /// Stores a value and returns the one before.
        #[inline]
        #[track_caller]
        pub fn swap(&self, value: $value, order: Ordering) -> $value {
            let operation = const { &locked("swap") };
            context::access(self.as_ptr().addr(), operation, Location::caller());
            self.value.swap(value, order)
        }

        /// Stores `new` if the value is `current`. Asks for the line exclusively either way.
        ///
        /// # Errors
        /// The value, if it is another.
        #[inline]
        #[track_caller]
        pub fn compare_exchange(
            &self,
            current: $value,
            new: $value,
            success: Ordering,
            failure: Ordering,
        ) -> Result<$value, $value> {
            let operation = const { &locked("compare_exchange") };
            context::access(self.as_ptr().addr(), operation, Location::caller());
            self.value.compare_exchange(current, new, success, failure)
        }

        /// As [`compare_exchange`](Self::compare_exchange): the model never fails without reason.
        ///
        /// # Errors
        /// The value, if it is another.
        #[inline]
        #[track_caller]
        pub fn compare_exchange_weak(
            &self,
            current: $value,
            new: $value,
            success: Ordering,
            failure: Ordering,
        ) -> Result<$value, $value> {
            self.compare_exchange(current, new, success, failure)
        }

        /// Loads the value and tries to exchange it for what `f` makes of it until that works.
        ///
        /// # Errors
        /// The value for which `f` gave `None`.
        #[inline]
        #[track_caller]
        pub fn fetch_update(
            &self,
            set: Ordering,
            fetch: Ordering,
            mut f: impl FnMut($value) -> Option<$value>,
        ) -> Result<$value, $value> {
            let mut current = self.load(fetch);
            while let Some(new) = f(current) {
                match self.compare_exchange_weak(current, new, set, fetch) {
                    Ok(_) => return Ok(current),
                    Err(now) => current = now,
                }
            }
            Err(current)
        }
    };
}

/// [`std::sync::atomic::AtomicBool`] on the model.
#[derive(Default)]
#[repr(transparent)]
pub struct AtomicBool {
    value: atomic::AtomicBool,
}

impl AtomicBool {
    /// Wraps `value`.
    pub const fn new(value: bool) -> Self {
        Self { value: atomic::AtomicBool::new(value) }
    }

    common!(bool);

    /// Logical "and"; returns the value before.
    #[inline]
    #[track_caller]
    pub fn fetch_and(&self, value: bool, order: Ordering) -> bool {
        let operation = const { &locked("fetch_and") };
        context::access(self.as_ptr().addr(), operation, Location::caller());
        self.value.fetch_and(value, order)
    }

    /// Logical "or"; returns the value before.
    #[inline]
    #[track_caller]
    pub fn fetch_or(&self, value: bool, order: Ordering) -> bool {
        let operation = const { &locked("fetch_or") };
        context::access(self.as_ptr().addr(), operation, Location::caller());
        self.value.fetch_or(value, order)
    }

    /// Logical "xor"; returns the value before.
    #[inline]
    #[track_caller]
    pub fn fetch_xor(&self, value: bool, order: Ordering) -> bool {
        let operation = const { &locked("fetch_xor") };
        context::access(self.as_ptr().addr(), operation, Location::caller());
        self.value.fetch_xor(value, order)
    }

    /// Logical "nand"; returns the value before.
    #[inline]
    #[track_caller]
    pub fn fetch_nand(&self, value: bool, order: Ordering) -> bool {
        let operation = const { &locked("fetch_nand") };
        context::access(self.as_ptr().addr(), operation, Location::caller());
        self.value.fetch_nand(value, order)
    }

    /// Logical "not"; returns the value before.
    #[inline]
    #[track_caller]
    pub fn fetch_not(&self, order: Ordering) -> bool {
        self.fetch_xor(true, order)
    }
}

impl fmt::Debug for AtomicBool {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.value.fmt(f)
    }
}

impl From<bool> for AtomicBool {
    fn from(value: bool) -> Self {
        Self::new(value)
    }
}

/// [`std::sync::atomic::AtomicPtr`] on the model.
#[repr(transparent)]
pub struct AtomicPtr<T> {
    value: atomic::AtomicPtr<T>,
}

impl<T> AtomicPtr<T> {
    /// Wraps a pointer.
    pub const fn new(pointer: *mut T) -> Self {
        Self { value: atomic::AtomicPtr::new(pointer) }
    }

    common!(*mut T);
}

impl<T> Default for AtomicPtr<T> {
    fn default() -> Self {
        Self::new(core::ptr::null_mut())
    }
}

impl<T> fmt::Debug for AtomicPtr<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.value.fmt(f)
    }
}

impl<T> From<*mut T> for AtomicPtr<T> {
    fn from(pointer: *mut T) -> Self {
        Self::new(pointer)
    }
}
