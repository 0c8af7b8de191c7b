//! SRCU: RCU whose readers may block, one domain at a time.
//!
//! As in [`rcu`](crate::rcu) a reader marks a section, and a writer waits, or asks, until the
//! sections that were open are over. Here a section belongs to a [`SrcuDomain`] and to no thread:
//! it may sleep, wait for I/O, and end on another thread. A slow reader holds up its own domain
//! only.
//!
//! | flavour | a reader pays | a grace period pays |
//! |---|---|---|
//! | [`Normal`] | two locked instructions | two full fences |
//! | [`Fast`] | two plain adds to its thread's counters | two `membarrier` system calls |
//!
//! # When not
//! - Short sections on one thread: [`rcu`](crate::rcu) costs less, and tells a writer that waits
//!   for itself.
//! - Many small domains: a normal one has 128 bytes per possible CPU, and only 15 fast ones at a
//!   time have their counters in the threads' records; further ones cost 640 bytes per possible CPU
//!   and twice the time. An object each of its own wants [`percpu_ref`](crate::percpu_ref).
//!
//! # Limits
//! - [`SrcuDomain::synchronize`] inside a section of the same domain waits for ever;
//!   [`SrcuDomain::synchronize_for`] reports it.
//! - In a fork child the sections of the other threads stay open until
//!   [`SrcuDomain::forget_readers`].
//! - A leaked guard leaves its section open for ever, also when its thread ends.
//!
//! # Costs
//! On a 2-core EPYC VM, begin + end, with crossbeam-epoch's `pin` at 2.3 to 3.1 ns in the same run:
//! fast 1.4 ns, normal 5.8 ns (two locked adds), both the same at any number of threads.
//! [`SrcuDomain::synchronize`] without readers: normal 0.02 µs, fast 1.1 µs, and 18 µs with a
//! running sibling thread (two `membarrier` calls). Waiting sums two counters per possible CPU or,
//! if fast, per thread.
//!
//! # Sources
//! Linux `kernel/rcu/srcutree.c` and `include/linux/srcutree.h` (McKenney; the fast flavour is
//! `srcu_read_lock_fast`); the two-counter scheme is Lai Jiangshan's.
//!
//! # Examples
//! ```
//! use reclaim::srcu::Srcu;
//! use std::sync::atomic::{AtomicPtr, Ordering};
//!
//! let domain = Srcu::new();
//! let table = AtomicPtr::new(Box::into_raw(Box::new(vec![1, 2, 3])));
//!
//! std::thread::scope(|s| {
//!     s.spawn(|| {
//!         let _section = domain.read_lock();
//!         // SAFETY: replaced tables live until a grace period has passed; this section is open.
//!         let table = unsafe { &*table.load(Ordering::Acquire) };
//!         std::thread::sleep(std::time::Duration::from_millis(1));
//!         assert!(table.len() >= 3);
//!     });
//!     let old = table.swap(Box::into_raw(Box::new(vec![1, 2, 3, 4])), Ordering::AcqRel);
//!     domain.synchronize();
//!     // SAFETY: unlinked, and no section that may have found it is open.
//!     drop(unsafe { Box::from_raw(old) });
//! });
//! # drop(unsafe { Box::from_raw(table.into_inner()) });
//! ```

mod arch;
mod counters;
mod domain;
mod flavour;
mod machine;
mod per_thread;
mod sections;

pub use crate::callbacks::{Callback, Head};
pub use domain::{Cookie, Guard, Index, SrcuDomain, Stalled};
pub use flavour::{Fast, Flavour, Normal};

/// A domain whose readers fence: what to take if nothing speaks for [`SrcuFast`]. Code for both
/// takes a [`SrcuDomain<K>`](SrcuDomain).
pub type Srcu = SrcuDomain<Normal>;

/// A domain whose readers do not fence.
pub type SrcuFast = SrcuDomain<Fast>;

pub(crate) use sections::{SLOTS, Sections};

/// What the models in `tests/` need: the machine itself, over any fences and counters.
#[cfg(loom)]
#[doc(hidden)]
pub mod model {
    pub use super::counters::{Atomic, Counters};
    pub use super::machine::{Machine, Protocol};
    pub use crate::policy::{Asymmetric, Fences, broken};
}
