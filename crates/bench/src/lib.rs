//! Benchmarks and torture runs of trapline and its primitives, each with its peers in the same run.
//!
//! ```text
//! cargo run --release -p trapline-bench -- pool        object pools against allocators and queues
//! cargo run --release -p trapline-bench -- refscale    ways to keep an object alive for readers
//! cargo run --release -p trapline-bench -- depot       stack stores against concurrent maps
//! cargo run --release -p trapline-bench -- probe       a hit of a probe, by method, beside peers
//! cargo run --release -p trapline-bench -- redis       redis-server under load, bare and traced
//! cargo run --release -p trapline-bench -- inject      processes entered while they run
//! cargo run --release -p trapline-bench -- cost        CPU and memory of the command line itself
//! cargo run --release -p trapline-bench -- http        references to a hot object in a server
//! cargo run --release -p trapline-bench -- scale       the primitives on machines of 1,024 CPUs
//! cargo run --release -p trapline-bench -- torture --all --secs 5
//! ```
//!
//! # What a figure means
//! Nanoseconds of CPU time (`CLOCK_THREAD_CPUTIME_ID`, all threads together) per operation:
//! minimum, median and maximum over the repeats. Each repeat measures every contender once, in
//! rotating order; a ratio is taken within each repeat, and its median counts. Absolute figures
//! change from machine to machine and from hour to hour, ratios hold. A target that is missed is
//! shown and never makes a run fail.
//!
//! # How it is measured
//! Threads are pinned, one per CPU, unless they outnumber the CPUs. Each thread does three blocks
//! of work before its window opens and, when pinned, keeps the load up until the last one has taken
//! its time. Every contended measurement is preceded by one of the time that a cache line takes
//! from core to core, because contended figures follow it.
//!
//! `probe` and `redis` compare with peers that other people's machines may lack: rows of the kernel
//! need root, rows of uftrace and bpftrace need those programs, and `redis` needs redis-server and
//! redis-benchmark. What is missing is named in the notes, and the rest runs. A kernel probe that
//! single-steps costs about 8 us more in a virtual machine than on bare metal; the tables say
//! where.
//!
//! `cost` measures one process, without its children, as its CPU clock and its memory stand at its
//! end; its unit is the run, in milliseconds and MiB.
//!
//! # When not
//! Scalability cannot be read off two cores; what can be seen there is that two threads cost what
//! one costs, and that 32 threads on two cores do not cost more per operation. `scale` has the same
//! code run on a model.
//!
//! # Examples
//! ```
//! use clap::Parser;
//! use trapline_bench::cli::Cli;
//!
//! assert!(Cli::try_parse_from(["trapline-bench", "pool", "--quick", "--threads", "1,2"]).is_ok());
//! assert!(Cli::try_parse_from(["trapline-bench", "pool", "--repeats", "0"]).is_err());
//! ```
#![deny(unsafe_code)]

pub mod affinity;
mod bpftrace;
pub mod cli;
pub mod clock;
pub mod cost;
pub mod depot;
mod executable;
mod group;
pub mod harness;
pub mod histogram;
pub mod http;
pub mod inject;
pub mod line_transfer;
pub mod machine;
pub mod memory;
mod nginx;
pub mod options;
pub mod pool;
pub mod probe;
pub mod programs;
pub mod redis;
pub mod refscale;
pub mod report;
pub mod scale;
pub mod scratch;
pub mod sink;
mod startup;
pub mod stats;
mod web;
