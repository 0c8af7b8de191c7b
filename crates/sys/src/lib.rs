//! Linux system calls without a C library.
//!
//! What runs inside somebody else's process must not call that process's C library: its functions
//! may be interposed, probed, cancellation points, or not there at all. This crate asks the kernel
//! itself.
//!
//! # What is here
//!
//! | module | what it gives |
//! |---|---|
//! | [`raw`], [`number`] | any system call, by number, with 0 to 6 arguments |
//! | [`Errno`] | the kernel's error convention as a `Result` |
//! | [`memory`] | mappings |
//! | [`mappings`] | the kernel's list of them |
//! | [`file`](mod@file) | descriptors: open, read, write, close, memory files |
//! | [`futex`] | sleeping while a word is what it was |
//! | [`process`], [`thread`] | who and where one is, other processes, the end |
//! | [`random`] | numbers that nobody can guess |
//! | [`signal`] | dispositions, masks, signal stacks |
//! | [`time`] | clocks and sleeping |
//!
//! There are typed wrappers for what Trapline's crates call, and no others: the rest of the
//! kernel is behind [`raw`].
//!
//! # Context
//! Unless its documentation says otherwise, every function here makes exactly one system call, is
//! signal-safe, allocates nothing, leaves the C library's `errno` alone, and is not a cancellation
//! point of POSIX threads. It blocks if the system call does. Nothing is retried: `EINTR` is the
//! caller's.
//!
//! # When not
//! A program that has a C library gains nothing but the above, and its sanitizers and tools that
//! look at calls of the C library see none of these.
//!
//! # Limits
//! Linux on x86-64 and aarch64.
//!
//! # Examples
//! ```
//! let mut text = [0; 64];
//! let fd = sys::file::openat(sys::file::AT_FDCWD, c"/proc/self/comm", sys::file::O_RDONLY, 0)?;
//! let bytes = sys::file::read(fd, &mut text)?;
//! // SAFETY: opened above, and nobody else has the descriptor.
//! unsafe { sys::file::close(fd) }?;
//! assert!(bytes > 0);
//! # Ok::<(), sys::Errno>(())
//! ```
#![no_std]
#![deny(unsafe_code)]

mod arch;
mod errno;
pub mod file;
pub mod futex;
pub mod mappings;
pub mod memory;
pub mod process;
pub mod random;
pub mod raw;
pub mod signal;
pub mod sort;
pub mod thread;
pub mod time;

pub use arch::number;
pub use errno::Errno;

/// The example of the page that a registry shows is a test.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
