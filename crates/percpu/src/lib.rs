//! Per-CPU data in user space, and what the other trapline primitives share.
//!
//! # What is here
//!
//! | module | what it gives |
//! |---|---|
//! | [`rseq`] | restartable sequences: per-CPU add and LIFO push/pop without a locked instruction |
//! | [`cpu`], [`PerCpu`], [`Counter`] | the current CPU, one padded value per CPU, a counter that never bounces a line |
//! | [`fence`] | `light()`/`heavy()`: a full barrier of which only one side pays |
//! | [`tls`], [`thread`], [`fork`] | pointer-sized thread-local slots that never allocate, thread numbers, fork generations |
//! | [`Registry`] | records that threads own for a while; they outlive the thread and survive fork |
//! | [`Mutex`], [`OnceLock`] | a lock on which threads sleep, a value that is made once: without the standard library |
//! | [`sync`] | one facade over atomics, cells and threads: the machine, a model checker, or a modelled machine |
//! | [`host`] | what a freestanding image says of the process that it is in (without `std`) |
//!
//! # When not
//! A counter that one thread writes needs none of this, and a value that is read far more often
//! than written needs an ordinary atomic. Per-CPU slots cost 128 bytes per possible CPU and object.
//!
//! # Limits
//! 64-bit Linux. The restartable sequences are x86-64 assembly and need Linux 5.10 (for the
//! membarrier command that lets another CPU look into a slot); [`rseq::available`] says whether
//! they work here, and everything built on them has a path without. A child made by `fork(3)` is
//! supported; one made by a raw `clone` system call without `CLONE_VM` is not seen by [`fork`].
//! Without the feature `std` there is no C library either, and the image has to say where a
//! thread's data is: see [`host`].
//!
//! # Costs
//! Measured on a 2-core EPYC VM, Linux 6.18: per-CPU add 0.6 ns, LIFO pop + push 2.2 ns,
//! [`tls::get`] 0.3 ns, [`fence::light`] below 0.3 ns, [`fence::heavy`] 0.35 µs alone and 8 to 9 µs
//! with a running sibling.
//!
//! # Examples
//! ```
//! # #[cfg(feature = "std")] {
//! use percpu::Counter;
//! use std::thread;
//!
//! let hits = Counter::new();
//! thread::scope(|s| {
//!     for _ in 0..4 {
//!         s.spawn(|| (0..1000).for_each(|_| hits.add(1)));
//!     }
//! });
//! assert_eq!(hits.sum(), 4000);
//! # }
//! ```
#![no_std]
#![deny(unsafe_code)]
#![cfg_attr(
    any(not(target_arch = "x86_64"), percpu_no_asm, loom, miri, simulated),
    allow(dead_code, reason = "what only the assembly reads is compiled everywhere")
)]

#[cfg(feature = "alloc")]
extern crate alloc;
#[cfg(any(feature = "std", loom))]
extern crate std;

mod arch;
#[cfg(feature = "alloc")]
mod counter;
pub mod cpu;
pub mod fence;
pub mod fork;
#[cfg(not(loom))]
pub mod host;
#[cfg(not(any(loom, simulated)))]
mod kernel;
mod mutex;
mod numbers;
mod once_lock;
mod padded;
mod registry;
pub mod rseq;
#[cfg(feature = "alloc")]
mod slots;
pub mod sync;
pub mod thread;
pub mod tls;

#[cfg(feature = "alloc")]
pub use counter::Counter;
pub use mutex::{Mutex, MutexGuard};
pub use once_lock::OnceLock;
pub use padded::CachePadded;
pub use registry::{Record, Records, Registry};
#[cfg(feature = "alloc")]
pub use slots::PerCpu;

/// Does now what the first use of each part would do: registers with the kernel, installs the fork
/// and thread-exit hooks, counts the CPUs.
///
/// Optional. Call it early in a process whose first use of these crates may otherwise come from
/// inside a signal handler: `pthread_atfork` and `pthread_key_create` are not on POSIX's list of
/// signal-safe functions.
///
/// # Context
/// Makes a few system calls and opens one file in `/sys`; allocates nothing; can be called again
/// and from any thread.
pub fn init() {
    fence::mode();
    rseq::available();
    cpu::count();
    fork::generation();
    tls::prepare();
    thread::id();
}

/// The example of the page that a registry shows is a test.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
