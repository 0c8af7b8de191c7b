//! A deterministic model of a machine with many CPUs, on which ordinary Rust code runs.
//!
//! loom says whether lock-free code is right; this says how it scales, on machines that are not
//! here. Code that takes its atomics, threads and cells from [`sync`], [`thread`] and [`cell`]
//! instead of `std` runs on one thread of the system, on simulated CPUs with virtual clocks. Each
//! access goes through a model of the cache line at its address and costs what the line's state and
//! the distance to its holders make it cost; the CPU whose clock is least goes next. So a
//! scalability test is an ordinary test: the same on every machine, in every run.
//!
//! # What you give and get
//! - A [`Machine`]: how many CPUs, how they are grouped, what things cost. [`Machine::EPYC_64`] and
//!   others are there; a calibration of your own is a constant.
//! - [`Simulation::run`] runs a closure, [`Simulation::throughput`] an operation on any number of
//!   threads. Both return a [`Report`]: the lines, by the time that was lost on them, and the
//!   places in the source that lost it. [`name`] gives lines names.
//!
//! # The model
//! - A line is 64 bytes. It is owned by one CPU, or shared by some, or in memory only. An access
//!   that the state allows is a hit. Any other is a transaction of the line: it waits for those
//!   before it, then takes a transfer from the nearest holder, and for a write the answer of the
//!   farthest and a bit for every other copy.
//! - While a request is under way ([`Costs::request_percent`]), and for a minimum time after a line
//!   has come ([`Costs::hold`]), who has the line goes on using it, as real CPUs do: two that count
//!   in one place do some adds each before the line changes hands; of many, each does one or two.
//! - A line that is mostly read and then written by one CPU after the other, such as the head of a
//!   list, *migrates*: a reader gets it exclusively, and keeps it until it has written it
//!   ([`Costs::patience`]).
//! - How long a line is under way jitters ([`Costs::jitter_percent`]), as the seed decides.
//! - A CPU may be ahead of the others by up to a microsecond while it uses lines that nobody else
//!   has ever asked for, and by 200 ns to read what nobody has written for 2 µs: what shares
//!   nothing runs many times as fast so.
//! - More threads than CPUs share them by time slices. Threads migrate at the rate that you state.
//!   Both abort [restartable sequences](rseq).
//! - Futexes, membarrier and other system calls cost what they cost, and interrupts cost those who
//!   are interrupted ([`system`]).
//!
//! # When not
//! To find races: executions are sequentially consistent, and a seed gives one of them. To predict
//! nanoseconds of code that shares nothing: a CPU here has no pipeline, and what is no access to an
//! atomic or a cell takes no time but by [`time::work`].
//!
//! # Limits
//! 1,024 CPUs. Caches have room for everything; there is no prefetching, no store buffer (a store
//! waits for its line) and no bandwidth but that of a line. `thread_local!` is one for all threads
//! ([`thread::index`] tells them apart). What runs on the model must not block on anything that is
//! not of the model, such as a `std` lock that is held across an access. Stacks have 256 KiB.
//!
//! # Costs
//! `cargo run --release --example counters` prints how fast the model runs: some millions of
//! accesses a second, fewer where each is contended.
//!
//! # Examples
//! ```
//! use coresim::sync::atomic::{AtomicU64, Ordering::Relaxed};
//! use coresim::{Machine, Simulation};
//!
//! let simulation = Simulation::new(Machine::EPYC_64);
//! let count = |threads| {
//!     let counter = AtomicU64::new(0);
//!     let span = 20_000_000; // 20 µs
//!     simulation.throughput(threads, span, counter, |counter, _| {
//!         counter.fetch_add(1, Relaxed);
//!     })
//! };
//! // 64 CPUs together count less often than one alone.
//! assert!(count(64).per_second() < count(1).per_second());
//! assert!(count(64).report.bottleneck().unwrap().to_string().contains("fetch_add"));
//! ```
//!
//! # Sources
//! The states of lines are MESI's (M. Papamarcos, J. Patel, "A low-overhead coherence solution for
//! multiprocessors with private cache memories", ISCA 1984). That costs by distance and sharers
//! explain how synchronisation scales is shown by T. David, R. Guerraoui, V. Trigonakis,
//! "Everything you always wanted to know about synchronization but were afraid to ask" (SOSP 2013).
#![deny(unsafe_code)]

mod calibration;
pub mod cell;
mod context;
mod cpu_set;
mod events;
pub mod fit;
pub mod hint;
mod line;
mod machine;
mod memory;
mod name;
mod operation;
mod random;
mod report;
pub mod rseq;
mod scheduler;
mod simulation;
mod statistics;
pub mod sync;
pub mod system;
pub mod thread;
pub mod time;
mod world;

pub use machine::{Costs, MAX_CPUS, Machine, Picoseconds, Scheduling};
pub use name::name;
pub use report::{LineReport, Report, SiteReport};
pub use simulation::{Simulation, Throughput};
pub use statistics::Counts;

/// The example of the page that a registry shows is a test.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
