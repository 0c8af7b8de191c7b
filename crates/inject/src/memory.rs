//! The memory of a process, from outside.

use crate::arch::PAGE;
use crate::proc;
use crate::ptrace::{self, Tid};
use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::FileExt;

/// The memory of a process. Reads and writes everything that is mapped, whatever its rights.
#[derive(Debug)]
pub(crate) struct Memory {
    file: File,
}

impl Memory {
    pub(crate) fn open(pid: Tid, tid: Tid) -> io::Result<Self> {
        let path = proc::path(pid, tid, "mem");
        // Where the file may not be written, words are written by request.
        let both = OpenOptions::new().read(true).write(true).open(&path);
        both.or_else(|_| File::open(&path)).map(|file| Self { file })
    }

    pub(crate) fn read(&self, at: u64, bytes: &mut [u8]) -> io::Result<()> {
        self.file.read_exact_at(bytes, at)
    }

    /// Reads up to the first byte that cannot be read: how many.
    pub(crate) fn read_some(&self, at: u64, bytes: &mut [u8]) -> usize {
        let mut done = 0;
        while done < bytes.len() {
            match self.file.read_at(&mut bytes[done..], at + done as u64) {
                Ok(0) => break,
                Ok(count) => done += count,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(_) => break,
            }
        }
        done
    }

    pub(crate) fn word(&self, at: u64) -> io::Result<u64> {
        let mut bytes = [0; 8];
        self.read(at, &mut bytes)?;
        Ok(u64::from_ne_bytes(bytes))
    }

    /// Writes, also to code. `standing` is a thread of the process that stands.
    ///
    /// Up to eight bytes in one page are written at once by either way, also if this process is
    /// killed meanwhile.
    pub(crate) fn write(&self, standing: Tid, at: u64, bytes: &[u8]) -> io::Result<()> {
        // Refused by kernels that are told so (`proc_mem.force_override`); debuggers' way is not.
        self.write_file(at, bytes).or_else(|_| self.poke(standing, at, bytes))
    }

    /// Writes, where the kernel lets that be done by way of the file.
    ///
    /// What lies in one page is written at once: the kernel copies page by page, and only in
    /// between does it look whether this process is to end (`__access_remote_vm` in `mm/memory.c`).
    pub(crate) fn write_file(&self, at: u64, bytes: &[u8]) -> io::Result<()> {
        self.file.write_all_at(bytes, at)
    }

    /// Word by word, with what is around it.
    fn poke(&self, standing: Tid, at: u64, bytes: &[u8]) -> io::Result<()> {
        let mut done = 0;
        while done < bytes.len() {
            let next = at + done as u64;
            let page_end = (next & !(PAGE - 1)) + PAGE;
            // Words need not be aligned, but one in two pages would be written in two steps.
            let word = next.min(page_end - WORD);
            let offset = (next - word) as usize;
            let length = (WORD as usize - offset).min(bytes.len() - done);
            let mut new = self.word(word)?.to_ne_bytes();
            new[offset..][..length].copy_from_slice(&bytes[done..][..length]);
            ptrace::poke(standing, word, u64::from_ne_bytes(new))?;
            done += length;
        }
        Ok(())
    }
}

/// Bytes that a tracer writes at a time.
const WORD: u64 = 8;
