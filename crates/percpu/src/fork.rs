//! What a fork child has to know: that it is one, and which threads did not come along.

#[cfg(all(feature = "std", not(any(loom, simulated))))]
mod atfork;
#[cfg(all(not(feature = "std"), not(any(loom, simulated))))]
mod wiped;

#[cfg(all(feature = "std", not(any(loom, simulated))))]
use atfork as imp;
#[cfg(all(not(feature = "std"), not(any(loom, simulated))))]
use wiped as imp;

/// Grows by one in each fork child; starts at 1.
///
/// # Context
/// Signal-safe after [`crate::init`] (the first call installs the fork handler, or maps a page);
/// never blocks.
pub fn generation() -> u64 {
    imp::generation()
}

/// Whether the thread with this number can still exist in this process, as far as forks tell.
#[inline]
pub(crate) fn survived(thread: u64) -> bool {
    imp::survived(thread)
}

pub(crate) fn prepare() {
    imp::prepare();
}

/// Models do not fork.
#[cfg(any(loom, simulated))]
mod imp {
    pub(super) fn generation() -> u64 {
        1
    }

    pub(super) fn survived(_thread: u64) -> bool {
        true
    }

    pub(super) fn prepare() {}
}
