//! The memory of a process, from outside.

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

    pub(crate) fn word(&self, at: u64) -> io::Result<u64> {
        let mut bytes = [0; 8];
        self.read(at, &mut bytes)?;
        Ok(u64::from_ne_bytes(bytes))
    }

    /// Writes, also to code. `standing` is a thread of the process that stands.
    pub(crate) fn write(&self, standing: Tid, at: u64, bytes: &[u8]) -> io::Result<()> {
        // Refused by kernels that are told so (`proc_mem.force_override`); debuggers' way is not.
        self.file.write_all_at(bytes, at).or_else(|_| self.poke(standing, at, bytes))
    }

    /// Word by word, with what is around it.
    fn poke(&self, standing: Tid, at: u64, bytes: &[u8]) -> io::Result<()> {
        let first = at & !7;
        let mut words = vec![0; (at - first) as usize + bytes.len()];
        words.resize(words.len().next_multiple_of(8), 0);
        self.read(first, &mut words)?;
        words[(at - first) as usize..][..bytes.len()].copy_from_slice(bytes);
        for (n, word) in words.chunks_exact(8).enumerate() {
            let word = u64::from_ne_bytes(word.try_into().expect("eight bytes"));
            ptrace::poke(standing, first + 8 * n as u64, word)?;
        }
        Ok(())
    }
}
