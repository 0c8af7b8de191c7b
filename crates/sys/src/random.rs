//! Numbers that nobody can guess.
#![allow(unsafe_code)]

use crate::Errno;
use crate::number;
use crate::raw::syscall3;

/// An error rather than waiting, where the kernel has not gathered enough yet.
pub const GRND_NONBLOCK: u32 = 1;

/// `getrandom(2)`: how many bytes were written. Up to 256 come at once; of more, a signal handler
/// may leave some out.
///
/// # Errors
/// `EAGAIN` with [`GRND_NONBLOCK`], `EINTR`, `EINVAL`, `ENOSYS` (before Linux 3.17).
pub fn getrandom(buffer: &mut [u8], flags: u32) -> Result<usize, Errno> {
    let (at, bytes) = (buffer.as_mut_ptr().expose_provenance(), buffer.len());
    // SAFETY: `buffer` is writable for its length.
    unsafe { syscall3(number::GETRANDOM, at, bytes, flags as usize) }
}
