//! What agents have in common, whichever way they came into a process: memory of their own, and
//! blocks of the segment for the process's threads.
//!
//! | module | what |
//! |---|---|
//! | [`Allocator`] | memory that no function of the program's gives |
//! | [`blocks`] | which blocks are this process's, and one for a thread |
//! | [`Budget`] | whether probes have room in it |
//! | [`place()`] | where a function of the segment lies |
//! | [`region`] | where in the address space they go |
//!
//! With the feature `bare` also the functions on bytes that the compiler takes for granted
//! (`memcpy`): for what has no C library.
//!
//! No C library is called, and nothing here needs the standard library.
#![no_std]
#![deny(unsafe_code)]

extern crate alloc;
#[cfg(test)]
extern crate std;

mod allocator;
pub mod blocks;
mod budget;
#[cfg(feature = "bare")]
mod bytes;
mod place;
pub mod region;

pub use allocator::Allocator;
pub use budget::Budget;
pub use place::place;
