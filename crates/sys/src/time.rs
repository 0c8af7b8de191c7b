//! Clocks and sleeping.
#![allow(unsafe_code)]

use crate::Errno;
use crate::number;
use crate::raw::syscall2;
use core::time::Duration;

/// Seconds and nanoseconds, as the kernel has them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
#[repr(C)]
pub struct Timespec {
    /// Seconds.
    pub sec: i64,
    /// Nanoseconds, below 1,000,000,000.
    pub nsec: i64,
}

const SECOND: i64 = 1_000_000_000;

impl Timespec {
    /// So much later; what is beyond the range is its end.
    #[must_use]
    pub fn after(self, time: Duration) -> Self {
        let seconds = i64::try_from(time.as_secs()).unwrap_or(i64::MAX);
        let nanoseconds = self.nsec + i64::from(time.subsec_nanos());
        Self {
            sec: self.sec.saturating_add(seconds).saturating_add(nanoseconds / SECOND),
            nsec: nanoseconds % SECOND,
        }
    }
}

/// The clock that nobody sets.
pub const CLOCK_MONOTONIC: i32 = 1;

/// `clock_gettime(2)`. A system call, where a C library asks the vDSO: a hundred nanoseconds or
/// two.
///
/// # Errors
/// `EINVAL` for a clock that does not exist.
pub fn clock_gettime(clock: i32) -> Result<Timespec, Errno> {
    let mut now = Timespec::default();
    let at = (&raw mut now).expose_provenance();
    // SAFETY: `now` has the kernel's layout.
    unsafe { syscall2(number::CLOCK_GETTIME, clock as isize as usize, at) }?;
    Ok(now)
}

/// `nanosleep(2)`: until the time is over or a signal handler has run. What is left is not asked
/// for.
///
/// # Errors
/// `EINTR`.
pub fn nanosleep(time: Duration) -> Result<(), Errno> {
    let time = Timespec::default().after(time);
    let at = (&raw const time).expose_provenance();
    // SAFETY: `time` is readable; a null pointer asks for nothing.
    unsafe { syscall2(number::NANOSLEEP, at, 0) }.map(drop)
}

#[cfg(test)]
mod tests {
    use super::Timespec;
    use core::time::Duration;

    #[test]
    fn later_is_later_and_the_end_is_the_end() {
        let at = Timespec { sec: 1, nsec: 999_999_999 };
        assert_eq!(at.after(Duration::from_nanos(1)), Timespec { sec: 2, nsec: 0 });
        assert_eq!(at.after(Duration::from_secs(5)), Timespec { sec: 6, nsec: 999_999_999 });
        assert_eq!(at.after(Duration::MAX).sec, i64::MAX);
    }
}
