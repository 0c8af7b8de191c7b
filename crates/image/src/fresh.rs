//! What was said of a process that has yet to run when the segment in use was opened, and what
//! became of it.

use core::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use uprobe::Outside;
use wire::image::fresh;

static SAID: AtomicU64 = AtomicU64::new(0);
/// The image's probes on the C library's functions for signals are there, or no breakpoint is.
static TRAPS: AtomicBool = AtomicBool::new(false);

/// For the segment that is opened: the bits of [`fresh`].
pub(crate) fn begin(said: u64) {
    // Relaxed, here and below: calls of the image come one after the other.
    SAID.store(said, Ordering::Relaxed);
    TRAPS.store(said & fresh::TRAPS != 0, Ordering::Relaxed);
}

/// What the next list may have in it. Once the process has run it may be in any code.
pub(crate) fn outside() -> Outside {
    let unused = SAID.load(Ordering::Relaxed) & fresh::IS != 0;
    Outside { traps: TRAPS.load(Ordering::Relaxed), unused }
}

/// A list was made: the program runs.
pub(crate) fn ran() {
    SAID.fetch_and(!fresh::IS, Ordering::Relaxed);
}

/// No breakpoint is set from now on.
pub(crate) fn no_traps() {
    TRAPS.store(false, Ordering::Relaxed);
}

/// Whether the calling thread, the first of its process to come by, believes that SIGTRAP is
/// blocked. Once.
///
/// # Context
/// Signal-safe.
pub(crate) fn take_blocked() -> bool {
    SAID.load(Ordering::Relaxed) & fresh::BLOCKED != 0
        && SAID.fetch_and(!fresh::BLOCKED, Ordering::Relaxed) & fresh::BLOCKED != 0
}
