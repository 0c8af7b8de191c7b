//! The kernel's error convention.

use core::fmt;
use core::num::NonZeroU16;

/// Why the kernel refused: a number from 1 to 4095.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
#[repr(transparent)]
pub struct Errno(NonZeroU16);

const MAX: usize = 4095;

impl Errno {
    /// What a system call has left in the result register: the last 4095 values are errors.
    #[inline(always)]
    pub(crate) const fn check(result: usize) -> Result<usize, Self> {
        if result > usize::MAX - MAX { Err(Self::of(result.wrapping_neg())) } else { Ok(result) }
    }

    const fn of(number: usize) -> Self {
        match NonZeroU16::new(number as u16) {
            Some(number) => Self(number),
            None => panic!("0 is no error"),
        }
    }

    /// The number, as `errno` would have it.
    #[must_use]
    #[inline]
    pub const fn number(self) -> i32 {
        self.0.get() as i32
    }
}

macro_rules! names {
    ($($name:ident = $number:literal, $text:literal;)+) => {
        impl Errno {
            $(
                #[doc = concat!($text, ".")]
                pub const $name: Self = Self::of($number);
            )+

            /// The name of those that have one here.
            const fn name(self) -> Option<&'static str> {
                match self {
                    $(Self::$name => Some(stringify!($name)),)+
                    _ => None,
                }
            }
        }
    };
}

names! {
    EPERM = 1, "Not permitted";
    ENOENT = 2, "No such file";
    ESRCH = 3, "No such process";
    EINTR = 4, "A signal handler has run";
    EIO = 5, "The device failed";
    EBADF = 9, "No such descriptor";
    EAGAIN = 11, "Not now";
    ENOMEM = 12, "No memory, or not mapped";
    EACCES = 13, "No right to it";
    EFAULT = 14, "Not an address";
    EBUSY = 16, "Taken already";
    EEXIST = 17, "Something is there already";
    ENOTDIR = 20, "Not a directory";
    EINVAL = 22, "Not an argument that the call takes";
    ENOSPC = 28, "The file system is full";
    ERANGE = 34, "Too long for the place";
    ENOSYS = 38, "The kernel does not know the call";
    ETIMEDOUT = 110, "The time is over";
}

impl fmt::Debug for Errno {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.name() {
            Some(name) => f.write_str(name),
            None => write!(f, "Errno({})", self.0),
        }
    }
}

impl fmt::Display for Errno {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.name() {
            Some(name) => write!(f, "{name} (os error {})", self.0),
            None => write!(f, "os error {}", self.0),
        }
    }
}

impl core::error::Error for Errno {}

#[cfg(test)]
mod tests {
    extern crate std;

    use super::Errno;
    use std::format;

    #[test]
    fn the_last_4095_values_are_errors() {
        let last = usize::MAX;
        assert_eq!(Errno::check(last), Err(Errno::EPERM));
        assert_eq!(Errno::check(last - 4094).map_err(Errno::number), Err(4095));
        for good in [0, 1, 0x7fff_ffff_ffff, last - 4095, last - (1 << 20)] {
            assert_eq!(Errno::check(good), Ok(good));
        }
    }

    #[test]
    fn names_where_there_are_some() {
        assert_eq!(format!("{:?} {0}", Errno::ENOMEM), "ENOMEM ENOMEM (os error 12)");
        assert_eq!(format!("{:?} {0}", Errno::of(99)), "Errno(99) os error 99");
    }

    #[test]
    fn a_result_without_a_value_is_two_bytes() {
        assert_eq!(size_of::<Result<(), Errno>>(), 2);
    }
}
