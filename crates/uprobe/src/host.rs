//! What only the C library of the process can do for the engine: the seam to it.
//!
//! Everything else here is memory, and system calls by `sys`. An engine for processes without a C
//! library needs another body of this module, and these two, which have seams of their own:
//!
//! | | |
//! |---|---|
//! | [`crate::arch::x86_64::tls`] | where a thread's words are: thread-local storage that the loader has given out |
//! | `percpu::host` | how the end of a thread is noticed |
//!
//! What it says of signals is in the words of its headers ([`crate::c_signals`]): so does the
//! program.

mod c_library;

pub(crate) use c_library::{first_stack_end, keeping_errno, on_fork, sigaction};
