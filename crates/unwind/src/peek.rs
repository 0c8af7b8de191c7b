//! Reading memory that may not be there, or not be what somebody says that it is: what cannot be
//! read is an answer, not a fault.
#![allow(unsafe_code)]

use sys::Errno;
use sys::file::{self, AT_FDCWD, O_CLOEXEC, O_RDONLY};
use sys::process;

/// The memory of this process.
pub(crate) struct Memory {
    process: i32,
    /// Descriptor of the memory as a file, where the system call for it is not to be had.
    file: Option<i32>,
}

impl Memory {
    pub(crate) fn own() -> Self {
        Self { process: process::getpid(), file: None }
    }

    /// Reads what is at `address`, up to the first byte that cannot be read: so many bytes.
    pub(crate) fn read(&mut self, address: u64, to: &mut [u8]) -> usize {
        let Ok(from) = usize::try_from(address) else { return 0 };
        if self.file.is_none() {
            match process::read_memory(self.process, from, to) {
                Ok(read) => return read,
                Err(Errno::EFAULT) => return 0,
                // A kernel without it, or a filter.
                Err(_) => {}
            }
        }
        // That of the process is empty when its first thread has ended.
        let open = |path| file::openat(AT_FDCWD, path, O_RDONLY | O_CLOEXEC, 0).ok();
        self.file = self
            .file
            .or_else(|| open(c"/proc/thread-self/mem"))
            .or_else(|| open(c"/proc/self/mem"));
        self.file.and_then(|file| file::pread(file, to, address).ok()).unwrap_or(0)
    }
}

impl Drop for Memory {
    fn drop(&mut self) {
        if let Some(file) = self.file {
            // SAFETY: opened above.
            let _ = unsafe { file::close(file) };
        }
    }
}

#[cfg(test)]
mod tests {
    use super::Memory;
    use sys::file::{self, AT_FDCWD, MFD_CLOEXEC, O_RDONLY};
    use sys::memory::{MAP_SHARED, PAGE, PROT_READ, PROT_WRITE, mmap, munmap};

    #[test]
    fn what_is_not_there_is_an_answer() {
        let one = file::memfd_create(c"one page", MFD_CLOEXEC).unwrap();
        // SAFETY: nobody has it yet.
        unsafe { file::ftruncate(one, PAGE as u64) }.unwrap();
        let both = PROT_READ | PROT_WRITE;
        // SAFETY: a new mapping, of which the second page is behind the end of the file.
        let two = unsafe { mmap(0, 2 * PAGE, both, MAP_SHARED, one, 0) }.unwrap();
        // SAFETY: in the first page.
        unsafe { two.wrapping_add(PAGE - 3).write_bytes(7, 3) };
        let end = (two.expose_provenance() + PAGE) as u64;
        let own = file::openat(AT_FDCWD, c"/proc/self/mem", O_RDONLY, 0).unwrap();
        // No process has the number -1: the second and the third read the file.
        for (process, file) in [(Memory::own().process, None), (-1, None), (-1, Some(own))] {
            let mut memory = Memory { process, file };
            let mut bytes = [0; 8];
            assert_eq!((memory.read(end - 3, &mut bytes), bytes), (3, [7, 7, 7, 0, 0, 0, 0, 0]));
            assert_eq!(memory.read(end, &mut bytes), 0);
            assert_eq!(memory.read(8, &mut bytes), 0);
            assert_eq!(memory.read(u64::MAX - 3, &mut bytes), 0);
        }
        // SAFETY: ours, and nobody has them any more.
        unsafe { munmap(two, 2 * PAGE) }.unwrap();
        // SAFETY: as above.
        unsafe { file::close(one) }.unwrap();
    }
}
