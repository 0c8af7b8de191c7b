//! The lock of everything slow, and what it protects: the list of modules, and room to parse in.
//!
//! Holders have signals blocked (see [`Host::slowly`](crate::Host::slowly)), so none is interrupted
//! by a walk of its own thread. Who waits, waits for a holder on another thread, which needs
//! microseconds; for one that was left by a fork it does not wait for ever.
#![allow(unsafe_code)]

use crate::learn::Context;
use crate::module::Module;
use alloc::vec::Vec;
use core::cell::UnsafeCell;
use core::sync::atomic::{AtomicBool, Ordering};
use sys::thread::sched_yield;

/// What the lock protects.
pub(crate) struct Scratch {
    pub(crate) context: Context,
    /// Sorted by address.
    pub(crate) modules: Vec<Module>,
    /// For reading the list of mappings.
    pub(crate) text: [u8; 4096],
}

pub(crate) struct Lock {
    taken: AtomicBool,
    /// No system call is to be made.
    sealed: AtomicBool,
    scratch: UnsafeCell<Scratch>,
}

// SAFETY: the scratch is reached by the holder of the lock alone.
unsafe impl Sync for Lock {}

/// How often to yield before giving up: seconds.
const PATIENCE: u32 = 1 << 20;

impl Lock {
    pub(crate) fn new() -> Self {
        let scratch = Scratch { context: Context::new_in(), modules: Vec::new(), text: [0; 4096] };
        Self {
            taken: AtomicBool::new(false),
            sealed: AtomicBool::new(false),
            scratch: UnsafeCell::new(scratch),
        }
    }

    /// Runs `f` with the lock held; `None` if it was not to be had.
    pub(crate) fn with<R>(&self, f: impl FnOnce(&mut Scratch) -> R) -> Option<R> {
        let mut patience = PATIENCE;
        // Acquire pairs with the Release below.
        while self
            .taken
            .compare_exchange(false, true, Ordering::Acquire, Ordering::Relaxed)
            .is_err()
        {
            patience = patience.checked_sub(1)?;
            if self.is_sealed() {
                core::hint::spin_loop();
            } else {
                sched_yield();
            }
        }
        // SAFETY: this thread holds the lock, and does not come here again before it gives it back.
        let result = f(unsafe { &mut *self.scratch.get() });
        self.taken.store(false, Ordering::Release);
        Some(result)
    }

    /// See [`Unwinder::seal`](crate::Unwinder::seal).
    pub(crate) fn seal(&self) {
        self.sealed.store(true, Ordering::Relaxed);
    }

    pub(crate) fn is_sealed(&self) -> bool {
        self.sealed.load(Ordering::Relaxed)
    }

    /// In a fork child, which has no thread but the caller: whoever held the lock is not there.
    pub(crate) fn forked(&self) {
        self.taken.store(false, Ordering::Release);
    }
}
