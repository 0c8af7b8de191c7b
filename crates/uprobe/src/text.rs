//! Writing to code.
//!
//! `/proc/self/mem` writes through page protections, so no page becomes writable and executable,
//! and a write costs 1.2 µs. Where it cannot be opened the pages are made writable for the moment
//! of the write; they stay executable then, because other threads may be in them.
//!
//! The file is opened for each batch and closed at its end: a descriptor that stays open could be
//! closed by the program, and its number be given to a file of the program's.
#![allow(unsafe_code)]

use crate::descriptor::Descriptor;
use core::ptr;
use sys::file::O_WRONLY;
use sys::memory::{self, PROT_EXEC, PROT_READ, PROT_WRITE};

const PAGE: u64 = 4096;

/// Access to the process's code for one batch.
#[derive(Debug)]
pub(crate) struct Text {
    memory: Option<Descriptor>,
}

impl Text {
    pub(crate) fn open() -> Self {
        let (of_thread, of_process) = (c"/proc/thread-self/mem", c"/proc/self/mem");
        Self { memory: Descriptor::open_own(of_thread, of_process, O_WRONLY) }
    }

    /// Where code is written by somebody else: only what has to be, if anything, is written here.
    pub(crate) fn unopened() -> Self {
        Self { memory: None }
    }

    /// Writes `bytes` at `at`, mapped code. False: the system does not allow it, nothing was
    /// written.
    pub(crate) fn write(&self, at: u64, bytes: &[u8]) -> bool {
        self.memory.as_ref().is_some_and(|m| m.write(bytes, at)) || write_protected(at, bytes)
    }
}

fn write_protected(at: u64, bytes: &[u8]) -> bool {
    let start = at / PAGE * PAGE;
    let len = (at + bytes.len() as u64 - start).next_multiple_of(PAGE) as usize;
    let pages = ptr::with_exposed_provenance_mut(start as usize);
    // SAFETY: code keeps all its permissions; callers name mapped code.
    if unsafe { memory::mprotect(pages, len, PROT_READ | PROT_WRITE | PROT_EXEC) }.is_err() {
        return false;
    }
    for (i, byte) in bytes.iter().enumerate() {
        let to = ptr::with_exposed_provenance_mut::<u8>(at as usize + i);
        // SAFETY: the page was just made writable. Volatile: nobody knows that this is an
        // instruction.
        unsafe { to.write_volatile(*byte) };
    }
    // SAFETY: back to what code has.
    let _ = unsafe { memory::mprotect(pages, len, PROT_READ | PROT_EXEC) };
    true
}

#[cfg(test)]
#[allow(unsafe_code)]
mod tests {
    use super::Text;
    use crate::leaderless;
    use core::ptr;
    use sys::memory::{PAGE, PROT_EXEC, PROT_READ, mprotect, pages};

    /// Writes to a page that cannot be written, and looks whether it is what it was otherwise.
    fn through_protections() -> bool {
        let page = pages(PAGE).expect("memory").as_ptr();
        // SAFETY: nobody uses it.
        unsafe { mprotect(page, PAGE, PROT_READ | PROT_EXEC) }.expect("a page of ours");
        let at = page.addr() as u64;
        let text = Text::open();
        let by_file = text.memory.as_ref().is_some_and(|memory| memory.write(b"one", at));
        let by_all = text.write(at + 3, b"two");
        // SAFETY: mapped, and nobody writes any more.
        let there = unsafe { ptr::read(page.cast::<[u8; 6]>()) };
        by_file && by_all && there == *b"onetwo"
    }

    #[test]
    fn code_is_written_by_its_file() {
        assert!(through_protections());
    }

    #[test]
    fn code_is_written_when_the_first_thread_has_ended() {
        assert!(leaderless::ask(through_protections));
    }

    #[test]
    fn where_there_is_no_file_pages_are_made_writable() {
        let page = pages(PAGE).expect("memory").as_ptr();
        // SAFETY: nobody uses it.
        unsafe { mprotect(page, PAGE, PROT_READ | PROT_EXEC) }.expect("a page of ours");
        let at = page.addr() as u64;
        let second = page.wrapping_add(1);
        assert!(Text { memory: None }.write(at + 1, b"x"));
        // SAFETY: mapped.
        assert_eq!(unsafe { second.read() }, b'x');
        assert!(!Text::open().write(u64::from(u32::MAX) << 32, b"x"), "nobody's");
    }
}
