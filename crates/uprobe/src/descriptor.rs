//! A descriptor of the engine's own, for a moment: the program may close what stays open, and give
//! its number to a file of its own.
#![allow(unsafe_code)]

use core::ffi::CStr;
use sys::file::{self, AT_FDCWD, MFD_CLOEXEC, O_CLOEXEC};
use sys::{Errno, memory, process};

/// An open file, closed when this is dropped.
#[derive(Debug)]
pub(crate) struct Descriptor(i32);

impl Descriptor {
    /// Opens a file, for reading or writing as `flags` say.
    pub(crate) fn open(path: &CStr, flags: i32) -> Option<Self> {
        again(|| file::openat(AT_FDCWD, path, flags | O_CLOEXEC, 0)).ok().map(Self)
    }

    /// Opens a file of this process in /proc. The thread's own, where there is one (Linux 3.17):
    /// the process's cannot be used when its first thread has ended.
    pub(crate) fn open_own(of_thread: &CStr, of_process: &CStr, flags: i32) -> Option<Self> {
        Self::open(of_thread, flags).or_else(|| Self::open(of_process, flags))
    }

    /// A new file in memory, which is to have so many bytes. `None`: the system gives none, or the
    /// program has a limit for the sizes of its files, beyond which the kernel would end it.
    pub(crate) fn in_memory(name: &CStr, bytes: usize) -> Option<Self> {
        if bytes as u64 > process::longest_file() {
            return None;
        }
        file::memfd_create(name, MFD_CLOEXEC).ok().map(Self)
    }

    /// Writes `bytes` at `offset`. False: not all of them.
    pub(crate) fn write(&self, mut bytes: &[u8], mut offset: u64) -> bool {
        while !bytes.is_empty() {
            match again(|| file::pwrite(self.0, bytes, offset)) {
                Ok(written @ 1..) => {
                    bytes = &bytes[written..];
                    offset += written as u64;
                }
                Ok(0) | Err(_) => return false,
            }
        }
        true
    }

    /// Makes a new file `bytes` long.
    pub(crate) fn set_len(&self, bytes: usize) -> bool {
        // SAFETY: what is cut off a file of the engine's own is mapped nowhere: callers make new
        // ones longer.
        unsafe { file::ftruncate(self.0, bytes as u64) }.is_ok()
    }

    /// Maps its first bytes: where they are.
    ///
    /// # Safety
    /// As for [`memory::mmap`].
    pub(crate) unsafe fn map(
        &self,
        at: usize,
        bytes: usize,
        protection: i32,
        flags: i32,
    ) -> Option<usize> {
        // SAFETY: the caller's.
        let at = unsafe { memory::mmap(at, bytes, protection, flags, self.0, 0) };
        at.ok().map(<*mut u8>::expose_provenance)
    }
}

impl Drop for Descriptor {
    fn drop(&mut self) {
        // SAFETY: opened here, and known to nobody else. Mappings keep what they are of.
        let _ = unsafe { file::close(self.0) };
    }
}

/// Repeats a call that a signal handler interrupts.
fn again<T>(mut call: impl FnMut() -> Result<T, Errno>) -> Result<T, Errno> {
    loop {
        match call() {
            Err(Errno::EINTR) => {}
            result => return result,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::Descriptor;
    use sys::file::{O_RDONLY, O_WRONLY};
    use sys::memory::{MAP_PRIVATE, PROT_READ};

    #[test]
    fn what_is_written_is_there() {
        let file = Descriptor::in_memory(c"test", 1 << 20).expect("a file");
        assert!(file.set_len(4096) && file.write(b"hello", 4090));
        // SAFETY: a new mapping.
        let at = unsafe { file.map(0, 8192, PROT_READ, MAP_PRIVATE) }.expect("a mapping");
        // SAFETY: mapped, and the file is not written any more.
        let text = unsafe {
            core::slice::from_raw_parts(core::ptr::with_exposed_provenance::<u8>(at + 4090), 5)
        };
        assert_eq!(text, b"hello");
    }

    #[test]
    fn what_cannot_be_done_is_said() {
        assert!(Descriptor::open(c"/nowhere/at/all", O_RDONLY).is_none());
        let null = Descriptor::open(c"/dev/null", O_RDONLY).expect("it is there");
        assert!(!null.write(b"x", 0));
        let full = Descriptor::open(c"/dev/full", O_WRONLY).expect("it is there");
        assert!(full.write(b"", 0) && !full.write(b"x", 0));
    }
}
