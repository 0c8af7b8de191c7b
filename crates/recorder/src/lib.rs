//! Counts probe hits by call stack.
//!
//! A [`Recorder`] is made on a [`wire::Segment`] that has room for stacks, and gives a
//! [`uprobe::Consumer`] for each function to probe. At a hit the consumer takes the call stack
//! ([`unwind`]), turns it into a handle ([`stackdepot`]: each distinct stack is kept once, in the
//! segment), and counts the handle in a table of the thread's own, in the segment, too. Whoever
//! maps the segment reads stacks and counts at any time.
//!
//! # The way of a hit
//! ```text
//! the function's cell += 1
//! the same stack as at an earlier hit of this thread?
//!                     (the words that walks depend on are the same: `stack_cache`)
//!     yes: its cell += 1                                 done
//! unwind; save; find the handle's cell; += 1; remember
//! ```
//! No lock, no allocation and no system call, but for what is seen for the first time: an address,
//! a stack, a thread, a table that is full. Everything written is the thread's own, but for a new
//! stack.
//!
//! # What is lost
//! Nothing in silence: a function's cell counts each hit. What its stacks do not account for had
//! none, by the reasons of [`wire::NoStack`], was evicted ([`wire::Stacks::evict`]), or was in the
//! making when the process was killed. A stack that could not be followed to its thread's start is
//! kept as far as it was, and ends in [`wire::Frame::cut`].
//!
//! # Without a C library
//! This crate needs an allocator and no `std`. The feature `std` (on by default) only hands it on
//! to the crates that it stands on. Without it there is a fork child to be told of
//! ([`Recorder::forked`]): in `uprobe::host::Host::forked`.
#![no_std]
#![deny(unsafe_code)]

extern crate alloc;
#[cfg(test)]
extern crate std;

mod hit;
mod random;
mod recorder;
mod stack_cache;
mod store;
mod thread;

pub use recorder::{Loaded, Probe, Recorder, StartError};
