//! Which C library a process has: its threads' control blocks have room for a word of ours, at a
//! place that differs.
//!
//! The layout of a control block is nobody's promise. So it is never believed: what the program's
//! file says and what stands in the block of every thread must agree, and the word must be 0 in all
//! of them.

use crate::symbols::elf::Elf;
use anyhow::Context as _;
use inject::Stopped;
use wire::image::{GLIBC_WORD, MUSL_WORD};

/// A C library whose control blocks are known.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum CLibrary {
    Glibc,
    Musl,
}

/// Of what only a program that has glibc in it has all or some: the text that it prints as its
/// version, and the names of its tunables.
const MARKS: [&[u8]; 2] = [b"GNU C Library (", b"glibc.malloc.check"];

impl CLibrary {
    /// Where the word is, from the thread pointer on.
    pub(super) fn distance(self) -> i64 {
        match self {
            Self::Glibc => GLIBC_WORD,
            Self::Musl => MUSL_WORD,
        }
    }

    fn name(self) -> &'static str {
        match self {
            Self::Glibc => "glibc",
            Self::Musl => "musl",
        }
    }

    /// What a program's file says. `None`: nothing.
    pub(crate) fn of_program(program: &Elf<'_>) -> Option<Self> {
        match program.interpreter() {
            Some(loader) if loader.contains("ld-musl") => Some(Self::Musl),
            Some(loader) if loader.contains("ld-linux") => Some(Self::Glibc),
            Some(_) => None,
            None => {
                let has = |mark: &&[u8]| memmem(program.data, mark);
                MARKS.iter().any(has).then_some(Self::Glibc)
            }
        }
    }

    /// What a thread's control block looks like, by the words at and behind the thread pointer.
    fn of_thread(word: impl Fn(u64) -> Option<u64>, pointer: u64) -> Option<Self> {
        let at = |place: u64| pointer.checked_add(place).and_then(&word);
        // Both begin with their own address.
        (at(0)? == pointer).then_some(())?;
        if at(16)? == pointer && at(24)? >> 40 == 0 {
            // Behind the table of modules: itself again, and flags.
            return Some(Self::Glibc);
        }
        // A ring of all threads: the one before, and the next.
        let (before, next) = (at(16)?, at(24)?);
        let ring = word(before.checked_add(24)?)? == pointer
            && word(next.checked_add(16)?)? == pointer
            && word(next)? == next;
        ring.then_some(Self::Musl)
    }
}

fn memmem(bytes: &[u8], wanted: &[u8]) -> bool {
    let Some((first, rest)) = wanted.split_first() else { return true };
    let mut left = bytes;
    while let Some(at) = left.iter().position(|byte| byte == first) {
        left = &left[at + 1..];
        if left.starts_with(rest) {
            return true;
        }
    }
    false
}

/// The C library of a process whose threads stand. `said` is what its program's file says. With an
/// image of ours in it (`used`) its threads may have something in their words.
///
/// # Errors
/// It is not known, or somebody else uses the word.
pub(super) fn check(
    stopped: &Stopped<'_>,
    said: Option<CLibrary>,
    used: bool,
) -> anyhow::Result<CLibrary> {
    let word = |address| {
        let mut bytes = [0; 8];
        stopped.read(address, &mut bytes).ok().map(|()| u64::from_ne_bytes(bytes))
    };
    let mut found = said;
    for tid in stopped.threads() {
        let pointer = stopped.registers(tid).context("the thread has ended")?.fs_base;
        anyhow::ensure!(pointer != 0, "thread {tid} is only just starting: try again");
        let Some(library) = CLibrary::of_thread(word, pointer) else {
            anyhow::bail!(
                "its C library is not known: thread {tid} has no control block of glibc's or \
                    musl's (Go without cgo has none); it cannot be probed while it runs"
            );
        };
        let known = *found.get_or_insert(library);
        anyhow::ensure!(
            known == library,
            "its C library is not known: its program says {}, its thread {tid} {}",
            known.name(),
            library.name()
        );
        let mut bytes = [0; 4];
        let place = pointer.wrapping_add_signed(library.distance());
        anyhow::ensure!(
            stopped.read(place, &mut bytes).is_ok() && (used || bytes == [0; 4]),
            "somebody else uses the word in its threads' control blocks that trapline needs \
                (thread {tid}): another tool is in the process, or its {} is a version that is not \
                known",
            library.name()
        );
    }
    found.context("none of its threads could be stopped: try again")
}

#[cfg(test)]
mod tests {
    use super::{CLibrary, memmem};
    use std::collections::HashMap;

    fn of(words: &[(u64, u64)], pointer: u64) -> Option<CLibrary> {
        let words: HashMap<u64, u64> = words.iter().copied().collect();
        CLibrary::of_thread(|at| words.get(&at).copied(), pointer)
    }

    #[test]
    fn control_blocks() {
        let glibc = [(0x1000, 0x1000), (0x1008, 0x77), (0x1010, 0x1000), (0x1018, 1)];
        assert_eq!(of(&glibc, 0x1000), Some(CLibrary::Glibc));
        // A single thread of musl's is its own neighbour, which glibc's never looks like.
        let alone = [(0x1000, 0x1000), (0x1010, 0x1000), (0x1018, 0x1000)];
        let far: Vec<_> = alone.map(|(at, w)| (at | 0x7f00_0000_0000, w | 0x7f00_0000_0000)).into();
        assert_eq!(of(&far, 0x7f00_0000_1000), Some(CLibrary::Musl));
        let first = [(0x1000, 0x1000), (0x1010, 0x2000), (0x1018, 0x2000)];
        let second = [(0x2000, 0x2000), (0x2010, 0x1000), (0x2018, 0x1000)];
        assert_eq!(of(&[first, second].concat(), 0x1000), Some(CLibrary::Musl));
        // Go: no pointer to itself. And neighbours that do not know of it.
        assert_eq!(of(&[(0x1000, 0)], 0x1000), None);
        let strange = [(0x2000, 0x2000), (0x2010, 0x3000), (0x2018, 0x3000)];
        assert_eq!(of(&[first, strange].concat(), 0x1000), None);
        assert_eq!(of(&[], u64::MAX), None);
    }

    #[test]
    fn bytes_in_bytes() {
        assert!(memmem(b"aab", b"ab") && memmem(b"x", b"") && !memmem(b"aa", b"ab"));
    }
}
