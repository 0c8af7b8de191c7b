//! A store that keeps each distinct stack trace once and hands out 32-bit handles.
//!
//! A million live allocations, or a billion probe hits, come from a few thousand distinct stacks. A
//! [`Depot`] turns a stack of return addresses into a [`Handle`] of 4 bytes, the same one for the
//! same stack, from any context and in tens of nanoseconds. It can live in shared memory, where
//! another process resolves the handles with a [`Reader`] while the owner runs or after it was
//! killed.
//!
//! # Examples
//! ```
//! use stackdepot::{Depot, Flags};
//!
//! let depot = Depot::builder().expected_stacks(100_000).budget_bytes(64 << 20).build_mmap()?;
//!
//! // A stack that is kept for ever.
//! let handle = depot.save(&[0x40_1136, 0x40_1200, 0x40_1010], Flags::CAN_GROW);
//! assert_eq!(depot.save(&[0x40_1136, 0x40_1200, 0x40_1010], Flags::NONE), handle);
//!
//! // A stack that is kept as long as somebody holds it.
//! let held = depot.save(&[0x40_1136, 0x40_1010], Flags::GET | Flags::CAN_GROW);
//! let mut buf = [0; 64];
//! assert_eq!(depot.fetch(held, &mut buf)?, [0x40_1136, 0x40_1010]);
//! depot.put(held)?;
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! # What you give and get
//! - `save` is exact: equal stacks have equal handles, whatever hashes collide, and however many
//!   threads save at once. Hits take no lock and write nothing (with [`Flags::GET`]: one counter in
//!   the record).
//! - Every operation is signal-safe, allocates nothing and waits for nobody. Where it would have
//!   to, `save` returns [`Handle::NONE`] and counts the reason ([`Miss`], [`Stats`]).
//! - Evicted stacks make room at once: under churn that never ends a depot takes what is live at
//!   the same time, of each depth, and one record for each thread. [`Builder::no_eviction`] leaves
//!   all of that out.
//! - Memory has a budget, fixed at the start. Pools are mapped as they are needed, by those who
//!   allow it ([`Flags::CAN_GROW`]).
//! - A region holds offsets only, is versioned, and everything read from it is checked: hostile
//!   contents lead to errors and wrong stacks, not to wild accesses.
//! - Fork: a child of private memory has a depot of its own, and locks held by threads that did not
//!   come along do not stop it. In shared memory a child writes along if nothing is evicted; with
//!   eviction it is refused (counted): references are one process's.
//!
//! # When not
//! - Stacks that are mostly different: nothing is saved by keeping each once. Write them to a
//!   buffer.
//! - Keys other than slices of words, or values beside them: a concurrent hash map.
//! - One thread and no signal handlers: a hash map is simpler, and for a thousand stacks as fast.
//!
//! # Where it is used
//! In Trapline, `recorder` keeps the stacks of a recording in one, in the memory that targets and
//! command line share.
//!
//! # Limits
//! - 1 GiB for each depot (27 bits of a handle locate a record, in words; 5 are the caller's), 255
//!   frames for each stack (64 unless told), 2^22 buckets.
//! - A stack that needs room in a full bucket of a full depot is refused although evicted records
//!   of other buckets wait for reuse: buckets overflow into fresh memory. A table of the right size
//!   ([`Builder::expected_stacks`]) overflows rarely.
//! - Evicted records are reused for stacks of the same depth (rounded up to an even number), so a
//!   depot keeps the peak of each depth, and one record of each on top.
//! - A stale handle (used after its last put) is recognised until its place is reused, like a stale
//!   pointer until the next `malloc`.
//! - A count that reaches 2^32 - 1 stays there: the stack becomes persistent.
//! - A thread that is killed or forked away inside a save or a put may lose the one record in its
//!   hands. One writing process at a time with eviction, 31 without; writers recognise each other
//!   by process id and have to be in one pid namespace.
//!
//! # Costs
//! A hit, ns of CPU with the cost of generating the stack subtracted, on a 2-core EPYC VM
//! (2026-11-21), all in one run; the maps use foldhash. Read the ratios.
//!
//! | one thread | 16 frames, 1 k stacks | 100 k | 1 M | 40 frames, 1 k | 100 k | 1 M |
//! |---|---|---|---|---|---|---|
//! | depot | 15.4 | 125 | 189 | 34 | 221 | 352 |
//! | depot without eviction | 15.7 | 104 | 183 | 34 | 207 | 359 |
//! | `Mutex<HashMap>` | 16.4 | 133 | 238 | 45 | 319 | 539 |
//! | DashMap | 20.0 | 172 | 252 | 48 | 326 | 540 |
//! | scc `HashIndex` | 21.7 | 261 | 372 | 44 | 309 | 612 |
//! | hash, one line of a table, compare | 10.0 | 80 | 143 | 36 | 208 | 344 |
//!
//! Two threads cost what one does (15.5 ns for 16 frames and 1 k stacks, where `HashIndex` takes 22
//! and the mutex 126). With [`Flags::GET`] add 4 ns on one thread: a counter, whose line then moves
//! between the threads that count on one stack. (In that run a read-side section, too, which is
//! gone.) For 16 frames of a thousand stacks a locked hash map is as fast as long as one thread
//! uses it.
//!
//! `cargo run --release -p trapline-bench -- depot` measures it with more threads,
//! `--example hit_cost` without peers. Memory for each stack of 16 frames: 136 bytes of record and
//! 5 to 11 of table, that is 1.10 to 1.15 times the frames; 5 percent on top for 40 frames. That
//! counts header, table and overflow buckets; places of evicted stacks come on top.
//!
//! # Layout
//! A record is one head word (references, checksum, depth) and its frames. The table is made of
//! cache-line buckets: twelve 8-bit tags, twelve 32-bit slots with 5 more bits of tag, a lock and a
//! link. A hit touches one line of the table and the lines of one record. Chains of records would
//! touch a line for every record in front of the right one and need a link in each record, which
//! the memory target leaves no room for; open addressing over single slots has no place for a lock.
//! (An argument, not a measurement: neither was built here.) Details: the head of each module in
//! the source.
//!
//! # Sources
//! The interface is that of Linux's `lib/stackdepot.c` (save with GET, put, extra bits, pools,
//! budget). Cache-line buckets with a lock and a link: David, Guerraoui, Trigonakis, "Asynchronized
//! Concurrency" (ASPLOS 2015, CLHT). Tags compared at once: F14 and SwissTable. Records that are
//! reused under the eyes of lookups: Linux's `SLAB_TYPESAFE_BY_RCU`. The free list: Michael, Scott
//! (PODC 1996). Copies validated by a count before and after: sequence locks (Boehm, "Can Seqlocks
//! Get Along with Programming Language Memory Models?", MSPC 2012). Folded multiplication: wyhash.
#![cfg_attr(not(feature = "std"), no_std)]
#![deny(unsafe_code)]

#[cfg(any(test, loom))]
extern crate std;

mod arena;
#[cfg(loom)]
pub mod broken;
mod builder;
mod compare;
mod depot;
mod error;
mod eviction;
mod free;
mod handle;
mod hash;
#[cfg(not(loom))]
mod kernel;
mod layout;
mod memory;
mod open;
#[cfg(not(loom))]
mod reader;
mod record;
mod stats;
mod table;
mod text;
mod view;
mod writer;

#[cfg(loom)]
#[doc(hidden)]
pub mod model;

pub use builder::Builder;
pub use depot::Depot;
pub use error::{Error, FetchError, Miss, Put, PutError};
pub use eviction::{Evict, Eviction, NoEviction};
pub use handle::{Flags, Handle};
pub use memory::{Region, Sharing};
#[cfg(not(loom))]
pub use reader::Reader;
pub use stats::Stats;
pub use text::Display;
pub use view::{Entry, Iter, Refs};

/// The example of the page that a registry shows is a test.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
