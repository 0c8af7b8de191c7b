//! Safe memory reclamation: who may still be looking at this object?
//!
//! A lock-free structure can unlink an object in one instruction; when its memory may be used again
//! is the hard part. This crate has the five answers that Linux and the literature have found, on
//! one ground (asymmetric fences, thread records that survive exit and fork: [`percpu`]), for user
//! space, with signal handlers and `fork` in mind.
//!
//! # Which one
//!
//! | | a reader | the object stays | garbage is bounded by | choose it for |
//! |---|---|---|---|---|
//! | [`hazptr`] | announces one pointer and looks again | while that pointer is announced | L = max(1000, 2 × slots) objects, and L/8 for each further thread that reclaims, whatever readers do | one or a few objects at a time; long or preempted readers; a memory budget |
//! | [`rcu`] | marks a section | until all sections that were open are over | nothing: the longest section | traversing long structures; the cheapest readers in bulk; polled grace periods |
//! | [`srcu`] | marks a section of one domain | until that domain's sections are over | nothing: the longest section of that domain | readers that sleep, or hand their section to another thread |
//! | [`percpu_ref`] | counts itself on its CPU | until killed and counted down to zero | does not apply | one long-lived thing with a definite end: a device, a module, a tenant |
//! | [`cached`] | counts itself on its thread | until no reference and no cache entry is left | four objects per thread | an `Arc` that threads clone and drop again and again |
//!
//! What each costs a reader (enter + exit, nanoseconds, 2-core EPYC VM, any number of threads
//! unless said otherwise), and what it asks of the other side:
//!
//! | | reader | the other side | when not |
//! |---|---|---|---|
//! | [`hazptr`], kept holder | 0.55 to 0.7 | retire + reclaim 6 to 8 per object, a membarrier per ~800 objects | many objects under one protection |
//! | [`hazptr`], slot from thread-local storage | 0.75 | the same | the same |
//! | [`rcu`] | 0.9 | a membarrier per grace period; waits for whole time slices if readers are preempted | readers that block; a bound on memory |
//! | [`srcu`] fast / normal | 1.4 / 4.3 | two membarriers / two fences per grace period | many small domains: memory per CPU each |
//! | [`percpu_ref`] get + put | 1.8 | a membarrier to kill; 128 bytes per CPU | objects that come and go |
//! | [`cached`] clone + drop | 1.1 | a membarrier to flush idle threads | the moment of dropping matters; more than four objects take turns |
//! | `Arc` clone + drop, for comparison | 3.9 alone, 19 and more contended | nothing | it is shared by busy threads |
//! | a crossbeam-epoch pin, for comparison | 3.4 | 38 per object | a stalled reader must not keep all garbage |
//!
//! A membarrier is a system call of 0.35 µs when no other thread of the process runs, and of 8 to 9
//! µs when one does. Where the kernel refuses it, readers pay a full fence (2 to 16 ns) and
//! everything else stays as it is.
//!
//! # Where each is used, and where another crate is the better choice
//! Of the five only [`rcu`] has a user in Trapline. The others have a load: the server of
//! `trapline-bench http`, whose requests take references to a configuration that is replaced a
//! hundred times a second, and `trapline-bench refscale`; figures are that one's
//! (`bench/results/2026-11-21-vm-refscale.txt`, one and two readers).
//!
//! | | in Trapline | another crate is better |
//! |---|---|---|
//! | [`rcu`] | sites and consumers of probes while they are removed, in `uprobe` | where structures are built on crossbeam-epoch already; liburcu's qsbr (0.74 ns) where every thread can announce its quiescent states |
//! | [`hazptr`] | nowhere | crossbeam-epoch or [`rcu`] for traversals; `Arc` where an object is to outlive its reader's thread and nobody else counts it |
//! | [`srcu`] | nowhere | a crossbeam-epoch pin costs 0.8 of a normal section (3.45 ns to 4.26) at one thread; at two, 8.6 to 4.26: take it only if readers sleep or hand sections over |
//! | [`percpu_ref`] | nowhere | `Arc` for what comes and goes, and wherever one thread counts: it needs no kill |
//! | [`cached`] | nowhere | arc-swap's `Cache` (0.41 ns to 1.26) where a thread only looks at what is current and keeps no reference of its own |
//!
//! # They can be mixed
//! The choice is per object: what matters is that all readers of an object use the scheme that its
//! writer waits for. A hazard pointer can take over an object found in an RCU section, to hold it
//! beyond the section's end, if the writer waits for both.
//!
//! # What all of them do
//! - **Signal handlers**: reading is signal-safe (except the owning handles of [`cached`]). Call
//!   [`percpu::init`] early if a handler may come before anything else.
//! - **Threads** may come and go; what a thread leaves behind is taken over. Nothing is registered
//!   by hand.
//! - **Fork**: in the child, the threads that did not come along protect nothing any more; each
//!   module says what that means for it.
//! - **Deleters and callbacks** run on threads that asked for work that can run them, never in a
//!   signal handler that only reads or defers, and never under a lock.
//! - **Panics** of deleters, callbacks and drops stop nobody else's: the others run, then the first
//!   panic goes on in whoever asked for the work (`reclaim`, `barrier`, the drop of a domain and so
//!   on). On helper threads, at thread and at process end it is counted or dropped, after the panic
//!   hook has reported it. Without `std` nothing is caught: the panic passes through, the rest
//!   waits for the next call.
//! - **Models**: the protocols run under loom, each beside a twin that lacks one fence or one check
//!   and is caught (`tests/loom_*.rs`).
//!
//! # Limits
//! 64-bit Linux. `no_std` with the feature `alloc` (default: `std`): without `std` there are no
//! helper threads, and no C library is needed ([`percpu::host`]). Without `alloc` there are
//! [`hazptr`] with intrusive heads, and [`rcu`].
//!
//! # Examples
//! ```
//! use reclaim::hazptr::{HazardPointer, Shared};
//!
//! let config = Shared::new(String::from("v1"));
//! let mut hp = HazardPointer::new();
//! let seen = config.load(&mut hp).unwrap();
//! config.store(String::from("v2")); // another thread, usually
//! assert_eq!(seen, "v1"); // protected until `hp` is used again
//! ```
//! Larger ones are in `examples/`; each module's page has its own.
//!
//! # Sources
//! Named on each module's page: Michael's hazard pointers, McKenney's and Desnoyers's user-level
//! RCU, Linux's `srcutree.c` and `percpu-refcount.c`, folly's `Hazptr.h`, and the hazptr series on
//! the Linux kernel mailing list with its review.
#![no_std]
#![deny(unsafe_code)]

#[cfg(feature = "alloc")]
extern crate alloc;
#[cfg(any(feature = "std", test, loom))]
extern crate std;

mod asymmetric;
mod backoff;
#[cfg(feature = "alloc")]
pub mod cached;
mod callbacks;
pub mod hazptr;
mod panics;
#[cfg(feature = "alloc")]
pub mod percpu_ref;
mod policy;
pub mod rcu;
#[cfg(feature = "alloc")]
pub mod srcu;

/// The example of the page that a registry shows is a test.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
