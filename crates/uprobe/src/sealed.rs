//! Programs that have given up system calls: a filter of theirs kills for what the engine does now
//! and then (seccomp). From then on the engine does without.
//!
//! What that costs: signals are not blocked around slow paths. A handler that comes in between
//! finds the thread as it is while a consumer runs: what it hits is lost, and said to be. Threads
//! count up to the functions that run at their end; hits of those of the C library behind that are
//! lost. What is not known to be readable is left alone: a frame that was left on a stack that is
//! not the thread's own keeps its instance.

use core::sync::atomic::{AtomicBool, Ordering};

/// No system calls but [`MASKS`].
static SEALED: AtomicBool = AtomicBool::new(false);
/// `rt_sigprocmask` is gone, too.
static MASKS: AtomicBool = AtomicBool::new(false);

/// From here on no system call is made but, with `masks`, `rt_sigprocmask`. For the engine's user,
/// when the program is about to install such a filter; it is never undone.
///
/// # Context
/// Signal-safe; no system call.
pub fn seal(masks: bool) {
    // Relaxed: the thread that installs the filter comes behind, and for others it is there only
    // when the kernel has told them.
    if !masks {
        MASKS.store(true, Ordering::Relaxed);
    }
    SEALED.store(true, Ordering::Relaxed);
}

/// Whether [`seal`] was called, in this process or in one that it is a fork of.
///
/// # Context
/// As there.
#[inline]
pub fn is_sealed() -> bool {
    SEALED.load(Ordering::Relaxed)
}

/// Whether masks may still be changed.
#[inline]
pub(crate) fn may_mask() -> bool {
    !MASKS.load(Ordering::Relaxed)
}
