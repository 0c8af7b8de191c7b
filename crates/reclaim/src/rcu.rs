//! RCU: readers that pay about a nanosecond and write nothing shared; writers that wait for them,
//! or ask later.
//!
//! A reader marks a section; whatever it finds in shared structures during the section stays alive
//! until the section ends. A writer unlinks an object, and frees it after a *grace period*: a span
//! of time at whose end every section that was open at its beginning has ended.
//!
//! | to wait for a grace period | |
//! |---|---|
//! | [`synchronize`] | block until it is over |
//! | [`call`], [`defer_drop`] | have a function called, or a box dropped, afterwards; [`run_callbacks`], [`barrier`] or a [`Helper`] does it |
//! | [`get_state`] or [`start_poll`], then [`poll`] | take a [`Cookie`] now, ask later; nobody ever waits |
//!
//! There is no background thread. Whoever polls moves the grace period forward: a compare-and-swap
//! to begin it, one `heavy()` fence, and a look at each reader's word. No step takes a lock, so any
//! number of threads, signal handlers and fork children may poll at once.
//!
//! # What you give and get
//! Readers get constant cost, nesting, and use in signal handlers. Writers get batches: all who ask
//! during one grace period share the next. You give up a bound on garbage: one section that stays
//! open keeps everything that is queued after it.
//!
//! # When not
//! - Sections that sleep, wait or run for long, or that end on another thread:
//!   [`srcu`](crate::srcu), whose domains do not hold each other up.
//! - A bound on unreclaimed memory, or readers that get preempted all the time (more threads than
//!   CPUs): hazard pointers.
//! - Objects that stay referenced beyond a section: a reference count.
//!   [`percpu_ref`](crate::percpu_ref) is one that scales.
//!
//! # Limits
//! - A grace period ends when the slowest open section does. With more threads than CPUs a reader
//!   that is preempted inside its section holds it up for whole time slices.
//! - 65,535 nested sections per thread (checked); 2^47 grace periods between taking a cookie and
//!   asking.
//! - Waiting inside a section is detected: [`synchronize`] and [`barrier`] panic,
//!   [`try_synchronize`] returns an error.
//! - The process's first section should not be in a signal handler; call [`percpu::init`] early. A
//!   thread's first section may be.
//! - In a fork child the sections of the threads that did not come along are over. `_exit` and a
//!   fatal signal need no care.
//! - A thread that ends inside a section (a leaked guard) ends the section.
//!
//! # Costs
//! On a 2-core EPYC VM, in a loop, with crossbeam-epoch's `pin` at 2.3 to 3.1 ns in the same run:
//! [`read_lock`] and drop 0.8 ns (also nested, and with any number of threads), [`get_state`] and a
//! true [`poll`] 2 ns each (one full fence). [`synchronize`] with nobody reading 0.5 µs, 9 µs with
//! a running sibling thread: that is `membarrier`. A thread that polls pays one `membarrier` per
//! grace period, and a few loads per poll while a reader holds it up. 512 bytes per thread, most of
//! them for [`srcu`](crate::srcu)'s counters.
//!
//! # Sources
//! P. McKenney, M. Desnoyers, L. Jiangshan, A. Stern, M. Michel, J. Walpole: "User-Level
//! Implementations of Read-Copy Update" (IEEE TPDS 2012), the signal- and membarrier-based
//! flavours. Linux `kernel/rcu/tree.c` and `include/linux/rcupdate.h` for the polled interface and
//! what it promises.
//!
//! # Examples
//! ```
//! use reclaim::rcu;
//! use std::sync::atomic::{AtomicPtr, Ordering};
//!
//! static CONFIG: AtomicPtr<String> = AtomicPtr::new(std::ptr::null_mut());
//! CONFIG.store(Box::into_raw(Box::new("old".to_string())), Ordering::Release);
//!
//! // A reader.
//! {
//!     let _section = rcu::read_lock();
//!     // SAFETY: replaced values live until a grace period has passed, and this section is open.
//!     let config = unsafe { &*CONFIG.load(Ordering::Acquire) };
//!     assert_eq!(config, "old");
//! }
//!
//! // A writer.
//! let old = CONFIG.swap(Box::into_raw(Box::new("new".to_string())), Ordering::AcqRel);
//! let cookie = rcu::start_poll();
//! // ... do something useful ...
//! while !rcu::poll(cookie) {
//!     std::thread::yield_now();
//! }
//! // SAFETY: unlinked before the cookie was taken, and the grace period is over: nobody has it.
//! drop(unsafe { Box::from_raw(old) });
//! # drop(unsafe { Box::from_raw(CONFIG.load(Ordering::Relaxed)) });
//! ```

mod domain;
#[cfg(all(feature = "std", not(loom)))]
mod helper;
mod local;
mod machine;
mod reader;

pub use crate::callbacks::{Callback, Head};
pub use domain::{Cookie, Domain, Error, Guard, Reader};
#[cfg(all(feature = "std", not(loom)))]
pub use helper::Helper;
#[cfg(feature = "alloc")]
pub(crate) use local::{all_threads, this_fenceless_thread, this_thread};
#[cfg(feature = "alloc")]
pub(crate) use local::{ensure_registered, is_registered};
pub use local::{is_inside, read_lock, read_lock_raw, read_unlock_raw, register_thread};
#[cfg(feature = "alloc")]
pub(crate) use reader::ReaderState;

use core::ptr::NonNull;

/// What the models in `tests/` need: the machine itself, over any fences.
#[cfg(loom)]
#[doc(hidden)]
pub mod model {
    pub use super::machine::Machine;
    pub use super::reader::ReaderState;
    pub use crate::policy::{Asymmetric, Fences, broken};
}

/// [`Domain::get_state`] of the global domain.
#[inline]
pub fn get_state() -> Cookie {
    Domain::global().get_state()
}

/// [`Domain::start_poll`] of the global domain.
pub fn start_poll() -> Cookie {
    Domain::global().start_poll()
}

/// [`Domain::poll`] of the global domain.
#[inline]
pub fn poll(cookie: Cookie) -> bool {
    Domain::global().poll(cookie)
}

/// [`Domain::synchronize`] of the global domain.
///
/// # Panics
/// The calling thread is inside a section.
#[track_caller]
pub fn synchronize() {
    Domain::global().synchronize();
}

/// [`Domain::try_synchronize`] of the global domain.
///
/// # Errors
/// [`Error::InsideSection`].
pub fn try_synchronize() -> Result<(), Error> {
    Domain::global().try_synchronize()
}

/// [`Domain::call`] of the global domain.
///
/// # Safety
/// See there.
#[inline]
#[allow(unsafe_code)]
pub unsafe fn call(head: NonNull<Head>, callback: Callback) {
    // SAFETY: the caller's promise is the same.
    unsafe { Domain::global().call(head, callback) };
}

/// [`Domain::defer_drop`] of the global domain.
#[cfg(feature = "alloc")]
pub fn defer_drop<T: Send + 'static>(value: alloc::boxed::Box<T>) {
    Domain::global().defer_drop(value);
}

/// [`Domain::run_callbacks`] of the global domain.
pub fn run_callbacks() -> usize {
    Domain::global().run_callbacks()
}

/// [`Domain::barrier`] of the global domain.
///
/// # Panics
/// See there.
#[track_caller]
pub fn barrier() {
    Domain::global().barrier();
}

/// [`Domain::drain`] of the global domain.
///
/// # Panics
/// See there.
#[track_caller]
pub fn drain() {
    Domain::global().drain();
}
