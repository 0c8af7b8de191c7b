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
    /// An error ([`proc::is_of_ended`]) if the thread has ended. What was opened while it lived is
    /// the process's memory from then on.
    pub(crate) fn open(pid: Tid, tid: Tid) -> io::Result<Self> {
        let path = proc::path(pid, tid, "mem");
        // Where the file may not be written, words are written by request.
        let both = OpenOptions::new().read(true).write(true).open(&path);
        let file = both.or_else(|_| File::open(&path))?;
        // Kernels before 6.16 open that of a thread without memory, too, and nothing is read then.
        // Of others it is at most an error: at 0 there is nothing, as a rule.
        if file.read_at(&mut [0], 0).is_ok_and(|count| count == 0) {
            return Err(proc::ended());
        }
        Ok(Self { file })
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

#[cfg(test)]
mod tests {
    use super::Memory;
    use crate::error::Error;
    use crate::target::{Force, Target};
    use std::fs::File;
    use std::process::Command;

    /// What is done where the kernel lets no code be written by way of the file.
    #[test]
    fn words_are_written_with_what_is_around_them() {
        let mut child = Command::new("sleep").arg("1000").spawn().expect("it starts");
        let pid = child.id() as i32;
        let done =
            Target::probe(pid, Force::default()).expect("may be worked on").trace(|tracer| {
                let stopped = tracer.stop_all()?;
                let own = Error::own("a file of its");
                let memory = Memory { file: File::open(format!("/proc/{pid}/mem")).map_err(own)? };
                // Two pages of code, or data: whatever the program's entry point is in.
                let maps = crate::maps::read(pid, pid).map_err(Error::own("its mappings"))?;
                let large = |m: &&crate::maps::Mapping| {
                    m.executable && m.range.end > 0x2000 + m.range.start
                };
                let page = maps.iter().find(large).expect("a program").range.start + 0x1000;
                let read = || {
                    let mut bytes = [0; 64];
                    memory.read(page - 32, &mut bytes).map(|()| bytes)
                };
                for (at, length) in [
                    (0, 5),
                    (27, 5),
                    (30, 5),
                    (28, 4),
                    (32, 5),
                    (35, 5),
                    (3, 20),
                    (20, 24),
                    (31, 8),
                ] {
                    let before = read().expect("mapped");
                    let new: Vec<u8> = before[at..at + length].iter().map(|byte| !byte).collect();
                    memory.write(pid, page - 32 + at as u64, &new).expect("written");
                    let mut expected = before;
                    expected[at..at + length].copy_from_slice(&new);
                    assert_eq!(read().expect("mapped"), expected, "{length} at {at}");
                    memory
                        .write(pid, page - 32 + at as u64, &before[at..at + length])
                        .expect("back");
                }
                assert!(memory.write(pid, 16, &[0]).is_err(), "nowhere");
                drop(stopped);
                Ok(())
            });
        child.kill().expect("ours");
        child.wait().expect("ours");
        done.expect("every step");
    }
}
