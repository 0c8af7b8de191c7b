//! A value that is made once.
//!
//! `done` is false, then true for ever; it is set under the lock, by whoever has filled the place,
//! which nobody changes afterwards. A panic while the value is made leaves the place empty for the
//! next.
#![allow(unsafe_code)]

use crate::Mutex;
use crate::sync::UnsafeCell;
use crate::sync::atomic::{AtomicBool, Ordering};
use core::fmt;

/// A value that the first to need it makes.
///
/// # Examples
/// ```
/// static WORD: percpu::OnceLock<u64> = percpu::OnceLock::new();
///
/// assert_eq!(WORD.get(), None);
/// assert_eq!((WORD.get_or_init(|| 7), WORD.get_or_init(|| 8)), (&7, &7));
/// assert_eq!(WORD.get(), Some(&7));
/// ```
pub struct OnceLock<T> {
    done: AtomicBool,
    filling: Mutex<()>,
    place: UnsafeCell<Option<T>>,
}

// SAFETY: before `done` the place belongs to the lock's holder, which may be any thread, hence
// `T: Send`; afterwards it is shared, hence `T: Sync`.
unsafe impl<T: Send + Sync> Sync for OnceLock<T> {}

impl<T> OnceLock<T> {
    /// An empty place.
    #[cfg(not(loom))]
    pub const fn new() -> Self {
        Self { done: AtomicBool::new(false), filling: Mutex::new(()), place: UnsafeCell::new(None) }
    }

    /// An empty place.
    #[cfg(loom)]
    pub fn new() -> Self {
        Self { done: AtomicBool::new(false), filling: Mutex::new(()), place: UnsafeCell::new(None) }
    }

    /// The value, if it was made.
    ///
    /// # Context
    /// Signal-safe; no system call.
    #[inline]
    pub fn get(&self) -> Option<&T> {
        // Acquire pairs with the Release in `fill`.
        if !self.done.load(Ordering::Acquire) {
            return None;
        }
        // SAFETY: filled, and never changed again.
        self.place.with(|place| unsafe { (*place).as_ref() })
    }

    /// The value, made by `make` if it was not there. `make` runs once, while others wait.
    ///
    /// # Context
    /// As [`Mutex::lock`], and as `make`, which must not ask for the same value: it would wait for
    /// itself. Signal-safe where the value is there.
    #[inline]
    pub fn get_or_init(&self, make: impl FnOnce() -> T) -> &T {
        self.get().unwrap_or_else(|| self.fill(make))
    }

    #[cold]
    #[inline(never)]
    fn fill(&self, make: impl FnOnce() -> T) -> &T {
        let filling = self.filling.lock();
        if self.get().is_none() {
            let value = make();
            // SAFETY: the lock is held, and nobody reads before `done`.
            self.place.with_mut(|place| unsafe { *place = Some(value) });
            // Release pairs with the Acquire in `get`.
            self.done.store(true, Ordering::Release);
        }
        drop(filling);
        self.get().expect("it was made, here or before")
    }
}

impl<T> Default for OnceLock<T> {
    fn default() -> Self {
        Self::new()
    }
}

impl<T: fmt::Debug> fmt::Debug for OnceLock<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("OnceLock").field(&self.get()).finish()
    }
}
