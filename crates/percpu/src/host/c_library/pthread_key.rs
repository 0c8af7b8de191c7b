//! The end of threads: a pthread key that is created at first use.
#![allow(unsafe_code)]

use core::ffi::c_void;
use core::ptr;
use core::sync::atomic::{AtomicU64, Ordering};

type Destructor = extern "C" fn(*mut c_void);

pub(crate) struct Key {
    /// 0: not created; else the key + 1. Created once by whoever wins the compare-and-swap.
    created: AtomicU64,
    destructor: Destructor,
}

impl Key {
    pub(crate) const fn new(destructor: Destructor) -> Self {
        Self { created: AtomicU64::new(0), destructor }
    }

    /// Creates the key if that was not done yet. False: the process has no key left (POSIX: at
    /// least 128, glibc: 1024).
    pub(crate) fn create(&self) -> bool {
        self.key().is_some()
    }

    /// The destructor will run when this thread ends. False: there is no key, or no memory for this
    /// thread's value of it.
    pub(crate) fn arm(&self) -> bool {
        // Any value but null.
        let value = ptr::without_provenance(1);
        match self.key() {
            // SAFETY: the key was created and is never deleted.
            Some(key) => (unsafe { libc::pthread_setspecific(key, value) }) == 0,
            None => false,
        }
    }

    #[inline]
    fn key(&self) -> Option<libc::pthread_key_t> {
        // Relaxed: the key is a number, nothing was written for its reader.
        match self.created.load(Ordering::Relaxed) {
            0 => self.create_slow(),
            k => Some((k - 1) as libc::pthread_key_t),
        }
    }

    #[cold]
    #[inline(never)]
    fn create_slow(&self) -> Option<libc::pthread_key_t> {
        let mut key: libc::pthread_key_t = 0;
        // SAFETY: `extern "C" fn` and `unsafe extern "C" fn` have one layout and the second
        // promises less.
        let destructor: unsafe extern "C" fn(*mut c_void) =
            unsafe { core::mem::transmute(self.destructor) };
        // SAFETY: `key` is writable and the destructor lives as long as the process.
        if unsafe { libc::pthread_key_create(&mut key, Some(destructor)) } != 0 {
            return None;
        }
        match self.created.compare_exchange(
            0,
            u64::from(key) + 1,
            Ordering::Relaxed,
            Ordering::Relaxed,
        ) {
            Ok(_) => Some(key),
            Err(winner) => {
                // SAFETY: this call created `key` and nobody else knows it.
                unsafe { libc::pthread_key_delete(key) };
                Some((winner - 1) as libc::pthread_key_t)
            }
        }
    }
}
