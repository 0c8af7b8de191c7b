//! Which standard streams the process was given.
//!
//! Rust opens `/dev/null` for those that are closed before `main` runs, so that no file takes their
//! number. What is written there would be lost in silence: it is asked before.
#![allow(unsafe_code)]

use std::sync::atomic::{AtomicU8, Ordering};

/// A bit for each of the descriptors 0, 1 and 2 that was closed.
static CLOSED: AtomicU8 = AtomicU8::new(0);

/// Called by the C library before `main`, and so before Rust looks at the streams.
// SAFETY: the section holds pointers to functions of the C calling convention that may take any
// arguments; this one takes none, returns, and needs nothing that is set up later.
#[used]
#[unsafe(link_section = ".init_array")]
static LOOK: extern "C" fn() = look;

extern "C" fn look() {
    for stream in 0..3 {
        // SAFETY: asks for the flags of a number; touches no memory.
        if unsafe { libc::fcntl(stream, libc::F_GETFD) } < 0 {
            // Relaxed: there are no threads yet; `was_closed` is called by those that come later.
            CLOSED.fetch_or(1 << stream, Ordering::Relaxed);
        }
    }
}

/// Whether standard input (0), output (1) or error (2) was closed when the process began.
pub(crate) fn was_closed(stream: u8) -> bool {
    // Relaxed: written before there were threads, see `look`.
    CLOSED.load(Ordering::Relaxed) & (1 << stream) != 0
}
