//! Fixed-capacity object pools for any context, signal handlers included.
//!
//! A pool hands out and takes back objects that were allocated when it was built. Pop and push
//! never allocate, never take a lock and never wait for another thread, nor for the thread that a
//! signal handler interrupted; and their cost does not grow with the number of CPUs. That is what
//! probe hits, allocator hooks and signal handlers need, where `malloc` is forbidden or too slow.
//!
//! # What you give and get
//! - You say at the start how many objects there are ([`Builder`], [`ObjectPool::new`]). Each is
//!   initialised once, and the pool never touches its bytes again.
//! - [`ObjectPool`] gives guards ([`Pooled`], [`OwnedPooled`]) that push when they are dropped.
//!   [`RawPool`] gives addresses, and its `push` detects double and foreign pushes. [`Pool`] is the
//!   dyn-compatible trait over all of them.
//! - `None` is exact: at some moment during the call no object was free. A pool with as many
//!   objects as threads, each holding at most one, never says `None`, however the threads are
//!   preempted.
//! - [`ObjectPool::pop_wait`] and [`pop_timeout`](ObjectPool::pop_timeout) block until an object
//!   comes back, for code that may. A pool for which nobody waits does not know of them: not one
//!   instruction is added to the pops and pushes of the default.
//! - [`Pool::close`] drops what is free at once and every outstanding object when it comes back; a
//!   callback runs once when the last is gone.
//! - [`Statistics`], exact at rest, without a counter that two CPUs share on the fast path.
//!
//! # Three designs and a fourth
//! The Linux kernel needed such a pool for the return instances of kretprobes, and went through
//! three designs:
//!
//! 1. **A CAS list** ([`CasLifo`]; `include/linux/freelist.h`, 2020-2022). One head,
//!    compare-and-swap, a reference count per node against ABA. Right and simple, and slower with
//!    each CPU that takes part: from 17.2 to 2.7 million operations per second between 1 and 96
//!    ARM64 cores.
//! 2. **An array** ([`FlatArray`]; posted in 2022). Pop and push scan from a place that depends on
//!    the CPU. It scales (19 to 1278 million), but each operation first reserved a place and then
//!    filled it, and a thread preempted in between hides an object: in user space 60 to 96 % of the
//!    pops from a full pool missed at 8 to 32 threads.
//! 3. **A ring per CPU** ([`RingArray`]; `lib/objpool.c`, 2023). A claim, a store and an
//!    announcement, with interrupts off. Without that, two pushers on one slot lose objects and
//!    give them twice: the test `posted_ring` shows it. The ring here commits by one
//!    compare-and-swap of an entry that carries its lap.
//!
//! A reviewer asked why not **a free list per CPU** ([`PerCpuList`]). In user space that is the
//! right question: with a tag in the head it needs no reference counts, and each operation is one
//! compare-and-swap on a line that normally no other CPU touches. What remains is the price of that
//! instruction, and [`RseqLifo`], the default, removes it: its per-CPU lists are pushed and popped
//! by restartable sequences, which the kernel restarts when they are preempted. Behind them lie
//! shared bags for what one CPU has too much of; objects move between owner and list or bag in one
//! instruction each, never in two steps, so that exactness survives.
//!
//! Where there are no restartable sequences the default is a [`FlagArray`]: push is a plain store
//! into a word that each object has, pop one compare-and-swap. [`Bitmap`] packs these into bits:
//! less memory to search, and one atomic instruction more.
//!
//! # Which one
//! | | pop / push, atomic instructions | order | choose it |
//! |---|---|---|---|
//! | [`RseqLifo`] | 0 / 0 | LIFO per CPU | unless a row below fits better |
//! | [`FlagArray`] | 1 / 0 | last pushed first, then by number | no rseq, pools up to some thousand objects |
//! | [`Bitmap`] | 1 / 1 | lowest number in a word | no rseq, large pools that are often nearly empty |
//! | [`PerCpuList`] | 1 / 1 | LIFO per CPU | large pools without rseq, the same cost whether full or empty |
//! | [`RingArray`] | 2 / 2 | FIFO per CPU | an object should rest before it is used again |
//! | [`FlatArray`], [`CasLifo`] | 1 / 1, 3 / 2 | | to compare |
//!
//! # When not
//! When the number of objects cannot be bounded, or a thread-local cache is enough: that costs 1.1
//! ns where nothing has to come back from another thread. A pool does not grow.
//!
//! # Where it is used, and where another is the better choice
//! In Trapline, `uprobe` takes chunks of return instances from a [`DefaultPool`]: in signal
//! handlers, where nothing may allocate. The other lists have no user there; they are here to be
//! compared, in `trapline-bench pool` and on modelled machines (`trapline-bench scale`).
//!
//! Where allocation is allowed and a thread gives back what it took itself, an allocator is the
//! better choice: jemalloc takes some 0.65 of what this takes for 64 bytes at one thread, and 0.85
//! of what it takes through guards (quiet runs on an EPYC); lockfree-object-pool takes 0.8 of it
//! there, but 66 ns at two threads. What they do not have: use in handlers, `None` without a miss,
//! pushes that are checked, a cost that does not grow.
//!
//! # Limits
//! 1 to 2^24 objects of up to 64 KiB (one without size takes 8 bytes). Beside the objects a pool
//! needs 16 bytes per object for counts and for who is out (with the default, in its links), and
//! for other free lists 1 to 8 more, and some 128-byte lines per possible CPU. Two pushes of one
//! object by two threads in the same instant are not detected (an owner is one thread); any later
//! one is. `None` and [`Pool::statistics`] cost time in proportion to the CPUs, for the arrays to
//! the capacity.
//!
//! # Context
//! Pop and push are signal-safe, lock-free, allocate nothing and make no system call. Exceptions,
//! all of [`RseqLifo`]: a pop that finds free objects nowhere but in another CPU's private list
//! calls `membarrier` (0.4 µs alone, 9 µs with running siblings; [`Builder::visits`] forbids it),
//! and a thread's first operation registers it where the C library does not. And of every list: a
//! push while a thread waits in [`Pool::pop_wait`] (which blocks, and is not for signal handlers)
//! wakes it by one system call. Call `percpu::init()`
//! at the start of a program whose first use of a pool is inside a signal handler.
//!
//! # Costs
//! `cargo run --release --example cost` prints them for your machine; the table against other pools
//! and allocators is the workspace's `bench -- pool`. CPU time of one pop, a write and one push of
//! 64 bytes at one thread, medians on a 2-core EPYC VM (`bench/results`): [`RseqLifo`] 6.1 ns (4.7
//! through guards, which need no address arithmetic), without rseq 8.0, [`PerCpuList`] 8.6,
//! [`Bitmap`] 9.3, [`FlatArray`] 9.5, [`CasLifo`] 11.3, [`RingArray`] 12.8; jemalloc's malloc +
//! free 4.0, glibc's 8.2, crossbeam's `ArrayQueue` 6.3. [`RseqLifo`] costs the same at 2 threads,
//! and at 32 on the two cores, where [`CasLifo`] costs 350 and `ArrayQueue` 280. A bare per-CPU
//! list takes 2.2 ns; the rest is what makes statistics exact and double pushes visible.
//!
//! # Examples
//! ```
//! use objpool::ObjectPool;
//! use std::thread;
//!
//! let pool: ObjectPool<Vec<u8>> = ObjectPool::new(4, |_| Vec::with_capacity(4096))?;
//! thread::scope(|s| {
//!     for _ in 0..4 {
//!         s.spawn(|| {
//!             for _ in 0..1000 {
//!                 let mut buffer = pool.pop().expect("four buffers, four threads, one each");
//!                 buffer.clear();
//!                 buffer.push(1);
//!             }
//!         });
//!     }
//! });
//! assert_eq!(pool.statistics().hits, 4000);
//! assert_eq!(pool.statistics().misses, 0);
//! # Ok::<(), objpool::BuildError>(())
//! ```
//!
//! # Sources
//! R. K. Treiber, "Systems programming: coping with parallelism" (IBM RJ 5118, 1986); C. Shann, T.
//! Huang, C. Chen, "A practical nonblocking queue algorithm using compare-and-swap" (ICPADS 2000);
//! D. Vyukov, "Bounded MPMC queue" (1024cores.net); C. Desrochers, "Solving the ABA problem for
//! lock-free free lists" (moodycamel.com, 2014); Y. Afek et al., "Atomic snapshots of shared
//! memory" (JACM 1993: the double collect); P. Turner, A. Hunter, M. Desnoyers, restartable
//! sequences (Linux 4.18; tcmalloc's per-CPU caches, librseq). Kernel files as named above. No code
//! of theirs is used.
#![no_std]
#![deny(unsafe_code)]

extern crate alloc;
#[cfg(any(feature = "std", loom, test))]
extern crate std;

mod builder;
mod error;
mod hold;
mod ledger;
mod limits;
mod list;
mod lists;
mod memory;
mod objects;
mod plan;
mod point;
mod pool;
mod raw;
mod statistics;
mod tagged;
mod typed;
mod waiting;

pub use builder::Builder;
pub use error::{BuildError, InitError, PushError};
pub use limits::{MAX_CAPACITY, MAX_OBJECT_SIZE};
pub use list::FreeList;
pub use lists::bitmap::Bitmap;
pub use lists::cas_lifo::CasLifo;
pub use lists::flag_array::FlagArray;
pub use lists::flat_array::FlatArray;
pub use lists::percpu_list::PerCpuList;
pub use lists::ring_array::RingArray;
pub use lists::rseq_lifo::RseqLifo;
pub use pool::Pool;
pub use raw::RawPool;
pub use statistics::Statistics;
pub use typed::{ObjectPool, OwnedPooled, Pooled};

/// What the models in `tests/` need: the free lists without a pool.
#[cfg(loom)]
#[doc(hidden)]
pub mod model {
    pub use crate::list::Taken;
    pub use crate::plan::Plan;
    pub use crate::waiting::{Waiter, Waiting};
}

/// The pool to use unless there is a reason for another.
pub type DefaultPool = RawPool<RseqLifo>;

/// The example of the page that a registry shows is a test.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
