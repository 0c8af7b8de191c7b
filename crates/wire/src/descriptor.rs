//! Files that others own.
#![allow(unsafe_code)]

use core::marker::PhantomData;
use sys::{Errno, file};

/// An open file of somebody else's, for `'f`: what the standard library calls a borrowed
/// descriptor, for those who do not have it. With the feature `std` every `&File` becomes one.
#[derive(Clone, Copy, Debug)]
pub struct Descriptor<'f> {
    number: i32,
    owner: PhantomData<&'f ()>,
}

impl Descriptor<'_> {
    /// The file with this number.
    ///
    /// # Safety
    /// It is open as long as `'f`.
    #[must_use]
    pub const unsafe fn borrow(number: i32) -> Self {
        Self { number, owner: PhantomData }
    }

    pub(crate) fn number(self) -> i32 {
        self.number
    }

    /// Bytes of the file.
    pub(crate) fn bytes(self) -> Result<u64, Errno> {
        file::fstat(self.number).map(|stat| stat.size.unsigned_abs())
    }

    /// Gives the file so many bytes.
    pub(crate) fn resize(self, bytes: u64) -> Result<(), Errno> {
        loop {
            // SAFETY: the caller makes a segment of the file, so nobody relies on what it was.
            match unsafe { file::ftruncate(self.number, bytes) } {
                Err(Errno::EINTR) => {}
                done => return done,
            }
        }
    }
}

#[cfg(feature = "std")]
impl<'f, F: std::os::fd::AsFd> From<&'f F> for Descriptor<'f> {
    fn from(file: &'f F) -> Self {
        let number = std::os::fd::AsRawFd::as_raw_fd(&file.as_fd());
        // SAFETY: the owner is borrowed as long.
        unsafe { Self::borrow(number) }
    }
}
