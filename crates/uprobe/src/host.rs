//! What only the process around can do or say for the engine: the seam to its C library.
//!
//! With the feature `std` the engine is linked into an object of that process, and asks the C
//! library. Without, it is in an image that was put into the process from outside, calls nothing of
//! it, and knows what the image has said (`supply`, in builds with `--no-default-features`).
//! Everything else here is memory, and system calls by `sys`; these have two bodies, too:
//!
//! | | |
//! |---|---|
//! | `arch::x86_64::tls` | where a thread's words are |
//! | `arch::x86_64::area` | return instances, which only a loader can show to unwinders |
//! | `near::region` | how stubs become executable |
//! | `percpu::host` | how the end of a thread is noticed |
//!
//! What it says of signals is in the words of its headers (`c_signals`): so does the
//! program.

#[cfg(feature = "std")]
mod c_library;
#[cfg(feature = "std")]
pub(crate) use c_library::{SEES, first_stack_end, forked, keeping_errno, on_fork, sigaction};

#[cfg(not(feature = "std"))]
mod freestanding;
#[cfg(not(feature = "std"))]
pub use freestanding::{Host, supply};
#[cfg(not(feature = "std"))]
pub(crate) use freestanding::{SEES, first_stack_end, forked, keeping_errno, on_fork, sigaction};
