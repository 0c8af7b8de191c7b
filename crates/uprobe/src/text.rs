//! Writing to code.
//!
//! `/proc/self/mem` writes through page protections, so no page becomes writable and executable,
//! and a write costs 1.2 µs. Where it cannot be opened the pages are made writable for the moment
//! of the write; they stay executable then, because other threads may be in them.
//!
//! The file is opened for each batch and closed at its end: a descriptor that stays open could be
//! closed by the program, and its number be given to a file of the program's.
#![allow(unsafe_code)]

use core::ptr;
use std::fs::File;
use std::os::unix::fs::FileExt;

const PAGE: u64 = 4096;

/// Access to the process's code for one batch.
#[derive(Debug)]
pub(crate) struct Text {
    memory: Option<File>,
}

impl Text {
    pub(crate) fn open() -> Self {
        Self { memory: File::options().write(true).open("/proc/self/mem").ok() }
    }

    /// Writes `bytes` at `at`, mapped code. False: the system does not allow it, nothing was
    /// written.
    pub(crate) fn write(&self, at: u64, bytes: &[u8]) -> bool {
        self.memory.as_ref().is_some_and(|m| m.write_all_at(bytes, at).is_ok())
            || write_protected(at, bytes)
    }
}

fn write_protected(at: u64, bytes: &[u8]) -> bool {
    let start = at / PAGE * PAGE;
    let len = (at + bytes.len() as u64 - start).next_multiple_of(PAGE) as usize;
    let pages = ptr::with_exposed_provenance_mut(start as usize);
    // SAFETY: code keeps all its permissions; callers name mapped code.
    if unsafe { libc::mprotect(pages, len, libc::PROT_READ | libc::PROT_WRITE | libc::PROT_EXEC) }
        != 0
    {
        return false;
    }
    for (i, byte) in bytes.iter().enumerate() {
        let to = ptr::with_exposed_provenance_mut::<u8>(at as usize + i);
        // SAFETY: the page was just made writable. Volatile: nobody knows that this is an
        // instruction.
        unsafe { to.write_volatile(*byte) };
    }
    // SAFETY: back to what code has.
    unsafe { libc::mprotect(pages, len, libc::PROT_READ | libc::PROT_EXEC) };
    true
}
