//! A lock on which threads sleep: one compare-and-swap where nobody else wants it.
//!
//! # States
//! ```text
//! state   0 free | 1 held | 2 held, and somebody may sleep
//! turn    a count of wake-ups, on which threads sleep
//! ```
//!
//! - 0 -> 1: a thread takes the lock at once.
//! - any -> 2: a thread that has found it held. If it was 0 the thread has it now; as it does not
//!   know whether others sleep, it leaves the 2.
//! - 1, 2 -> 0: the holder gives it back. If it was 2 it advances the turn and wakes one.
//!
//! # No wake-up is lost
//! ```text
//! sleeper:  loop { turn?;  state := 2, was it 0?;  sleep while turn is the same }
//! holder:   state := 0, was it 2?  ->  turn + 1, wake one
//! ```
//! From the moment at which a sleeper has written 2 over a lock that is held, only 2 is written
//! until it is given back. Whoever gives it back finds the 2 and advances the turn, which the
//! sleeper has read before: it does not fall asleep any more, or is woken, or another sleeper is.
//! That one writes 2 again, with the lock or without, so that the next to give it back wakes the
//! next. It would take 2^32 of them between a sleeper's look at the turn and its sleep to be taken
//! for none.
//!
//! The turn is read with Acquire and advanced with Release. A turn that was advanced after the look
//! at the state cannot be the one that was read before it: the holder's advance follows its own
//! change of the state, which follows the sleeper's.
//!
//! # When not
//! In a signal handler that may have interrupted a holder, which would wait for itself. A lock that
//! another thread holds at a fork stays held in the child for ever. A panic under the lock gives it
//! back, and poisons nothing.
#![allow(unsafe_code)]

use crate::sync::atomic::{AtomicU32, Ordering};
use crate::sync::{Futex, UnsafeCell};
use core::fmt;
use core::marker::PhantomData;
use core::ops::{Deref, DerefMut};

const FREE: u32 = 0;
const HELD: u32 = 1;
const WANTED: u32 = 2;

/// A value that one thread at a time has. See the module's text in the sources.
///
/// Like the standard library's, without poison, and without the standard library.
///
/// # Examples
/// ```
/// static SUM: percpu::Mutex<u64> = percpu::Mutex::new(0);
///
/// *SUM.lock() += 7;
/// assert_eq!(*SUM.lock(), 7);
/// ```
pub struct Mutex<T> {
    state: AtomicU32,
    turn: Futex,
    value: UnsafeCell<T>,
}

// SAFETY: the value is reached by the holder alone; the lock hands it from thread to thread.
unsafe impl<T: Send> Sync for Mutex<T> {}

impl<T> Mutex<T> {
    /// A free lock.
    #[cfg(not(loom))]
    pub const fn new(value: T) -> Self {
        Self { state: AtomicU32::new(FREE), turn: Futex::new(), value: UnsafeCell::new(value) }
    }

    /// A free lock.
    #[cfg(loom)]
    pub fn new(value: T) -> Self {
        Self { state: AtomicU32::new(FREE), turn: Futex::new(), value: UnsafeCell::new(value) }
    }

    /// Takes the lock, when it is free.
    ///
    /// # Context
    /// Blocks while another thread has it; a thread that has it itself waits for ever. Makes system
    /// calls only to sleep and to wake. Never allocates; leaves `errno` alone; not a cancellation
    /// point.
    #[inline]
    pub fn lock(&self) -> MutexGuard<'_, T> {
        self.try_lock().unwrap_or_else(|| self.lock_slowly())
    }

    /// Takes the lock, if it is free.
    ///
    /// # Context
    /// Signal-safe; no system call.
    #[inline]
    pub fn try_lock(&self) -> Option<MutexGuard<'_, T>> {
        // Acquire pairs with the Release of whoever gave it back.
        self.state
            .compare_exchange(FREE, HELD, Ordering::Acquire, Ordering::Relaxed)
            .is_ok()
            .then(|| MutexGuard { mutex: self, not_send: PhantomData })
    }

    #[cold]
    #[inline(never)]
    fn lock_slowly(&self) -> MutexGuard<'_, T> {
        loop {
            let turn = self.turn.load();
            // Acquire: as above.
            if self.state.swap(WANTED, Ordering::Acquire) == FREE {
                return MutexGuard { mutex: self, not_send: PhantomData };
            }
            self.turn.wait(turn, None);
        }
    }

    #[cold]
    #[inline(never)]
    fn wake(&self) {
        self.turn.advance();
        self.turn.wake_one();
    }
}

impl<T: Default> Default for Mutex<T> {
    fn default() -> Self {
        Self::new(T::default())
    }
}

impl<T: fmt::Debug> fmt::Debug for Mutex<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut text = f.debug_struct("Mutex");
        match self.try_lock() {
            Some(value) => text.field("value", &*value),
            None => text.field("value", &format_args!("<held>")),
        };
        text.finish()
    }
}

/// The lock while it is held: dropping this gives it back, on the thread that took it.
pub struct MutexGuard<'m, T> {
    mutex: &'m Mutex<T>,
    /// Whoever debugs a lock that is held wants to find the thread that took it.
    not_send: PhantomData<*const ()>,
}

// SAFETY: shared, it gives no more than a shared value.
unsafe impl<T: Sync> Sync for MutexGuard<'_, T> {}

impl<T> Deref for MutexGuard<'_, T> {
    type Target = T;

    #[inline]
    fn deref(&self) -> &T {
        // SAFETY: the lock is held, and whoever writes needs the guard for itself.
        self.mutex.value.with(|value| unsafe { &*value })
    }
}

impl<T> DerefMut for MutexGuard<'_, T> {
    #[inline]
    fn deref_mut(&mut self) -> &mut T {
        // SAFETY: the lock is held, and the guard is the caller's alone.
        self.mutex.value.with_mut(|value| unsafe { &mut *value })
    }
}

impl<T> Drop for MutexGuard<'_, T> {
    #[inline]
    fn drop(&mut self) {
        // Release pairs with the Acquire of the next holder.
        if self.mutex.state.swap(FREE, Ordering::Release) == WANTED {
            self.mutex.wake();
        }
    }
}

impl<T: fmt::Debug> fmt::Debug for MutexGuard<'_, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        (**self).fmt(f)
    }
}
