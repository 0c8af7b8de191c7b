//! Pointer-sized thread-local slots that can be read anywhere, and functions that run when a thread exits.
//!
//! On x86-64 a slot is one load at a fixed distance from the thread pointer: no call to `__tls_get_addr`, hence no malloc at a thread's first
//! access, also when this code is in a shared object. Elsewhere they come from `thread_local!` (feature `std`) or from pthread keys.
//!
//! A slot holds a pointer whose meaning belongs to the crate that the [`Key`] names. It is null when a thread starts; in a fork child the
//! surviving thread keeps its values.

use crate::arch;

/// Which slot. Each belongs to one user, because there is no run-time registration to get wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(usize)]
pub enum Key {
    /// `reclaim::rcu`.
    Rcu = 0,
    /// `reclaim::hazptr`.
    Hazptr = 1,
    /// `reclaim::cached`.
    CachedRef = 2,
    /// `objpool`.
    Pool = 3,
    /// The probe engine.
    User0 = 4,
    /// Free for the program.
    User1 = 5,
    /// Free for the program.
    User2 = 6,
}

/// The slot after the public keys: the thread's number.
pub(crate) const THREAD_ID_SLOT: usize = 7;

const _: () = assert!(THREAD_ID_SLOT < arch::tls::SLOTS, "the block holds every key and the thread number");

/// This thread's value of `key`.
///
/// # Context
/// Signal-safe, never allocates, never blocks.
#[inline(always)]
pub fn get(key: Key) -> *mut () {
    arch::tls::get(key as usize)
}

/// Sets this thread's value of `key`.
///
/// # Context
/// Signal-safe, never allocates, never blocks (without assembly and `std`: a pthread key, which may allocate once per thread).
#[inline(always)]
pub fn set(key: Key, value: *mut ()) {
    arch::tls::set(key as usize, value);
}

/// Makes `f` run in every thread that exits after it called [`arm_exit`]. Registering the same function again changes nothing.
///
/// Functions run in the order of registration, after the destructors of Rust and C++ thread-locals, and again (at most four times, as POSIX has it) if one
/// of them armed the exit anew. False: the table of 8 is full.
///
/// # Context
/// Signal-safe after [`crate::init`]; never allocates.
pub fn on_thread_exit(f: extern "C" fn()) -> bool {
    exit::register(f)
}

/// This thread will run the functions of [`on_thread_exit`] when it ends by returning or by `pthread_exit`. `_exit` and a fatal signal skip them.
///
/// # Context
/// Signal-safe after [`crate::init`]; never blocks.
pub fn arm_exit() {
    exit::arm();
}

pub(crate) fn prepare() {
    exit::prepare();
}

#[cfg(not(loom))]
mod exit {
    use crate::sys::pthread_key::Key;
    use core::sync::atomic::{AtomicUsize, Ordering};

    const FUNCTIONS: usize = 8;

    /// 0, or a function's address. Filled from the front by compare-and-swap, never emptied.
    static TABLE: [AtomicUsize; FUNCTIONS] = [const { AtomicUsize::new(0) }; FUNCTIONS];
    static KEY: Key = Key::new(Some(run));

    pub(super) fn register(f: extern "C" fn()) -> bool {
        prepare();
        let address = f as usize;
        for entry in &TABLE {
            // Relaxed: the entry is code, nothing was written for its reader.
            match entry.compare_exchange(0, address, Ordering::Relaxed, Ordering::Relaxed) {
                Ok(_) => return true,
                Err(there) if there == address => return true,
                Err(_) => {}
            }
        }
        false
    }

    pub(super) fn arm() {
        KEY.set(core::ptr::without_provenance_mut(1));
    }

    pub(super) fn prepare() {
        KEY.create();
    }

    extern "C" fn run(_value: *mut core::ffi::c_void) {
        for entry in &TABLE {
            let address = entry.load(Ordering::Relaxed);
            if address != 0 {
                call(address);
            }
        }
    }

    #[allow(unsafe_code)]
    fn call(address: usize) {
        // SAFETY: `register` stored the address of an `extern "C" fn()`.
        let f: extern "C" fn() = unsafe { core::mem::transmute(address) };
        f();
    }
}

/// Thread exit is not modelled: a model calls the exit function by hand.
#[cfg(loom)]
mod exit {
    pub(super) fn register(_f: extern "C" fn()) -> bool {
        true
    }

    pub(super) fn arm() {}

    pub(super) fn prepare() {}
}
