//! Call stacks of the running thread: by unwind tables or frame pointers, in nanoseconds a frame, from any context.
//!
//! A profiler or a heap tracer asks for the same few thousand return addresses again and again. [`Unwinder::walk`] learns of each, once, how its frame leads to the caller's (from `.eh_frame`, parsed
//! by gimli), and keeps that in a table of one word for each address: a frame then costs a look-up, an addition and two loads.
//!
//! # What you give and get
//! - You say what is loaded ([`Unwinder::set_modules`]), where to start ([`Start`]), and how to run slow code ([`Host`]); you keep a [`Bounds`] for each thread.
//! - You get frames that do not depend on where a module was loaded: its [`tag`](Module::tag) plus the address in its file. Stacks of several processes can be compared.
//! - A walk allocates nothing and takes no lock. For an address or a stack that it meets for the first time it calls [`Host::slowly`], and there a lock and a few system calls.
//! - It never reads outside the mapping that the stack pointer is in, whatever the tables say, and only upwards.
//! - Signal handlers, alternative stacks, stacks aligned by `and rsp`, calls through procedure linkage tables, functions that were probed at their return ([`Host::original`]).
//!
//! # When not
//! - Other processes, core files, other machines: framehop.
//! - One backtrace for an error message: the standard library's.
//!
//! # Limits
//! - x86-64. Frames that are described by other registers than rsp and rbp, or by other expressions than compilers and glibc use, end the walk ([`End::Unsupported`]).
//! - Code without unwind information ends it, too ([`End::NoTable`]); with [`Method::FramePointers`] only where it has no frame pointer either.
//!
//! # Costs
//! `cargo run --release -p trapline-bench -- probe --stack` measures it beside others. Memory: 32 bytes for each address, in a table that is at most half full.
//!
//! # Sources
//! The rules are those of the DWARF standard (6.4, call frame information) and of the System V ABI for x86-64. Caching a rule for each address: libunwind's `unw_tdep_trace` (Lerch, 2011), and framehop.
#![deny(unsafe_code)]

mod bounds;
mod cache;
mod learn;
mod module;
mod rule;
mod scratch;
mod walk;

pub use bounds::Bounds;
pub use module::Module;
pub use walk::{EXACT, End, Host, Method, NoTrace, Start, Trace, Unwinder};
