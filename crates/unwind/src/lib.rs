//! Call stacks of the running thread: by unwind tables or frame pointers, in nanoseconds a frame,
//! from any context.
//!
//! A profiler or a heap tracer asks for the same few thousand return addresses again and again.
//! [`Unwinder::walk`] learns of each, once, how its frame leads to the caller's (from `.eh_frame`,
//! parsed by gimli), and keeps that in a table of one word for each address: a frame then costs a
//! look-up, an addition and two loads.
//!
//! # Examples
//! ```
//! use unwind::{Bounds, End, Host, Method, Module, Start, Unwinder};
//!
//! /// Nothing here replaces return addresses, and nobody interrupts slow code.
//! struct Plain;
//!
//! impl Host for Plain {
//!     fn original(&self, _: u64, _: &mut dyn FnMut(u64, u64)) -> Option<u64> {
//!         None
//!     }
//!
//!     fn slowly(&self, f: &mut dyn FnMut()) {
//!         f();
//!     }
//! }
//!
//! let unwinder = Unwinder::new().ok_or("no memory")?;
//! unwinder.set_modules(Module::all(&mut |_| 0));
//!
//! // Where we are. A profiler takes this from a signal's frame, a probe from its registers.
//! let (pc, sp, bp): (u64, u64, u64);
//! unsafe {
//!     std::arch::asm!(
//!         "lea {}, [rip]",
//!         "mov {}, rsp",
//!         "mov {}, rbp",
//!         out(reg) pc,
//!         out(reg) sp,
//!         out(reg) bp,
//!     )
//! };
//!
//! let mut frames = [0; 64];
//! let start = Start { pc, sp, bp, entry: false };
//! let mut bounds = Bounds::default();
//! let (callers, end) = unwinder.walk(&Plain, start, Method::Tables, &mut bounds, &mut frames);
//! assert!(callers > 1 && end == End::Complete, "up to the start of the thread");
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! # What you give and get
//! - You say what is loaded ([`Unwinder::set_modules`]), where to start ([`Start`]), and how to run
//!   slow code ([`Host`]); you keep a [`Bounds`] for each thread.
//! - You get frames that do not depend on where a module was loaded: its [`tag`](Module::tag) plus
//!   the address in its file. Stacks of several processes can be compared.
//! - A walk allocates nothing and takes no lock. For an address or a stack that it meets for the
//!   first time it calls [`Host::slowly`], and there a lock and a few system calls.
//! - It never reads outside the mapping that the stack pointer is in, whatever the tables say, and
//!   only upwards, but for functions that have switched stacks and describe their frame by the
//!   frame pointer (`__morestack` of `-fsplit-stack`): there it goes on in the readable and
//!   writable mapping that the caller's frame is in.
//! - Signal handlers, alternative stacks, stacks aligned by `and rsp`, calls through procedure
//!   linkage tables, functions that were probed at their return ([`Host::original`]).
//!
//! # Without a C library
//! This crate needs an allocator and neither `std` nor a C library: it asks the kernel itself, and
//! finds what is loaded by the kernel's list of mappings and the objects' headers in memory
//! ([`Module::all`]), in static programs, too.
//!
//! # When not
//! - Other processes, core files, other machines: framehop.
//! - One backtrace for an error message: the standard library's.
//!
//! # Limits
//! - x86-64. Frames that are described by other registers than rsp and rbp, or by other expressions
//!   than compilers and glibc use, end the walk ([`End::Unsupported`]).
//! - Code without unwind information ends it, too ([`End::NoTable`]); with
//!   [`Method::FramePointers`] only where it has no frame pointer either.
//!
//! # Costs
//! 5 to 6 ns a frame on a 2-core EPYC VM where callers differ from walk to walk, less where they
//! are mostly the same; `cargo run --release -p trapline-bench -- probe --stack` measures it beside
//! others. The first sight of an address takes microseconds. Memory: 32 bytes for each address, in
//! a table that is at most half full.
//!
//! # Sources
//! The rules are those of the DWARF standard (6.4, call frame information) and of the System V ABI
//! for x86-64. Caching a rule for each address: libunwind's `unw_tdep_trace` (Lerch, 2011), and
//! framehop.
#![no_std]
#![deny(unsafe_code)]

extern crate alloc;
#[cfg(any(test, loom))]
extern crate std;

mod bounds;
#[cfg(not(loom))]
mod cache;
#[cfg(loom)]
pub mod cache;
mod host;
mod learn;
mod module;
mod objects;
mod peek;
mod rule;
mod scratch;
mod unwinder;
mod walk;

pub use bounds::Bounds;
pub use host::{EXACT, Host, NoTrace, Trace};
pub use module::Module;
pub use objects::ProgramHeader;
pub use sys::mappings::Mapping;
pub use unwinder::Unwinder;
pub use walk::{End, Method, Start};
