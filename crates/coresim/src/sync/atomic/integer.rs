//! Atomic integers.

use super::Ordering;
use crate::context;
use crate::operation::{ADD, LOAD, STORE, locked, store};
use crate::rseq::Sequence;
use crate::world::Operation;
use core::fmt;
use core::sync::atomic;
use std::panic::Location;

macro_rules! updates {
    ($atomic:ident, $integer:ty, $($(#[$doc:meta])* $name:ident)*) => {$(
        $(#[$doc])*
        #[inline]
        #[track_caller]
        pub fn $name(&self, value: $integer, order: Ordering) -> $integer {
            self.access(const { &locked(stringify!($name)) }, Location::caller());
            self.value.$name(value, order)
        }
    )*};
}

macro_rules! atomic_integer {
    ($atomic:ident, $integer:ty) => {
        #[doc = concat!("[`std::sync::atomic::", stringify!($atomic), "`] on the model.")]
        #[derive(Default)]
        #[repr(transparent)]
        pub struct $atomic {
            value: atomic::$atomic,
        }

        impl $atomic {
            /// Wraps `value`.
            pub const fn new(value: $integer) -> Self {
                Self { value: atomic::$atomic::new(value) }
            }

            /// The value, of which nobody else has a reference.
            pub fn get_mut(&mut self) -> &mut $integer {
                self.value.get_mut()
            }

            /// The wrapped value.
            pub fn into_inner(self) -> $integer {
                self.value.into_inner()
            }

            /// The address of the value. What is done through it, the model does not see.
            pub const fn as_ptr(&self) -> *mut $integer {
                self.value.as_ptr()
            }

            #[inline]
            fn access(&self, operation: &Operation, location: &'static Location<'static>) {
                context::access(self.as_ptr().addr(), operation, location);
            }

            /// Loads the value.
            #[inline]
            #[track_caller]
            pub fn load(&self, order: Ordering) -> $integer {
                self.access(&LOAD, Location::caller());
                self.value.load(order)
            }

            /// Stores a value.
            #[inline]
            #[track_caller]
            pub fn store(&self, value: $integer, order: Ordering) {
                self.access(store(order), Location::caller());
                self.value.store(value, order);
            }

            /// Stores a value as an instruction of a sequence: not if that was disturbed, false.
            #[inline]
            #[track_caller]
            pub fn store_within(&self, value: $integer, sequence: &Sequence) -> bool {
                self.access(&STORE, Location::caller());
                let undisturbed = !sequence.is_disturbed();
                if undisturbed {
                    self.value.store(value, Ordering::Release);
                }
                undisturbed
            }

            /// Adds, wrapping, by one instruction that is not locked, of a sequence: not if that
            /// was disturbed, false.
            #[inline]
            #[track_caller]
            pub fn add_within(&self, value: $integer, sequence: &Sequence) -> bool {
                self.access(&ADD, Location::caller());
                let undisturbed = !sequence.is_disturbed();
                if undisturbed {
                    let sum = self.value.load(Ordering::Relaxed).wrapping_add(value);
                    self.value.store(sum, Ordering::Release);
                }
                undisturbed
            }

            /// Stores `new` if the value is `current`. Asks for the line exclusively either way.
            ///
            /// # Errors
            /// The value, if it is another.
            #[inline]
            #[track_caller]
            pub fn compare_exchange(
                &self,
                current: $integer,
                new: $integer,
                success: Ordering,
                failure: Ordering,
            ) -> Result<$integer, $integer> {
                self.access(const { &locked("compare_exchange") }, Location::caller());
                self.value.compare_exchange(current, new, success, failure)
            }

            /// As [`compare_exchange`](Self::compare_exchange): the model never fails without
            /// reason.
            ///
            /// # Errors
            /// The value, if it is another.
            #[inline]
            #[track_caller]
            pub fn compare_exchange_weak(
                &self,
                current: $integer,
                new: $integer,
                success: Ordering,
                failure: Ordering,
            ) -> Result<$integer, $integer> {
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
                mut f: impl FnMut($integer) -> Option<$integer>,
            ) -> Result<$integer, $integer> {
                let mut current = self.load(fetch);
                while let Some(new) = f(current) {
                    match self.compare_exchange_weak(current, new, set, fetch) {
                        Ok(_) => return Ok(current),
                        Err(now) => current = now,
                    }
                }
                Err(current)
            }

            updates! {
                $atomic, $integer,
                /// Stores a value and returns the one before.
                swap
                /// Adds, wrapping, and returns the value before.
                fetch_add
                /// Subtracts, wrapping, and returns the value before.
                fetch_sub
                /// Bitwise "and"; returns the value before.
                fetch_and
                /// Bitwise "nand"; returns the value before.
                fetch_nand
                /// Bitwise "or"; returns the value before.
                fetch_or
                /// Bitwise "xor"; returns the value before.
                fetch_xor
                /// The maximum; returns the value before.
                fetch_max
                /// The minimum; returns the value before.
                fetch_min
            }
        }

        impl fmt::Debug for $atomic {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.value.fmt(f)
            }
        }

        impl From<$integer> for $atomic {
            fn from(value: $integer) -> Self {
                Self::new(value)
            }
        }
    };
}

atomic_integer!(AtomicI8, i8);
atomic_integer!(AtomicI16, i16);
atomic_integer!(AtomicI32, i32);
atomic_integer!(AtomicI64, i64);
atomic_integer!(AtomicIsize, isize);
atomic_integer!(AtomicU8, u8);
atomic_integer!(AtomicU16, u16);
atomic_integer!(AtomicU32, u32);
atomic_integer!(AtomicU64, u64);
atomic_integer!(AtomicUsize, usize);
