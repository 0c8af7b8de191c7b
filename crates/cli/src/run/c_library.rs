//! Which C library a process has: its threads' control blocks have room for a word of ours, at a
//! place that differs. Go's runtime is taken for one, where it has no other.
//!
//! The layout of a control block is nobody's promise. So it is never believed: what the program's
//! file says and what stands in the block of every thread must agree, and the word must be 0 in all
//! of them.

use crate::symbols::elf::Elf;
use crate::symbols::go::{self, Alone};
use anyhow::Context as _;
use inject::Stopped;
use wire::image::{GLIBC_WORD, GO_WORD, MUSL_WORD};

/// A C library whose control blocks are known.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum CLibrary {
    Glibc,
    Musl,
    /// None: a program of Go's without cgo.
    Go,
}

/// Of what only a program that has glibc in it has all or some: the text that it prints as its
/// version, and the names of its tunables.
const MARKS: [&[u8]; 2] = [b"GNU C Library (", b"glibc.malloc.check"];

/// The code with which musl sets a thread pointer, which is written by hand and in every program
/// that has musl in it: `mov %rdi,%rsi; mov $0x1002,%edi; mov $158,%eax; syscall; ret`.
const MUSLS: [u8; 16] =
    [0x48, 0x89, 0xfe, 0xbf, 2, 0x10, 0, 0, 0xb8, 0x9e, 0, 0, 0, 0x0f, 0x05, 0xc3];

impl CLibrary {
    /// Where the word is, from the thread pointer on.
    pub(super) fn distance(self) -> i64 {
        match self {
            Self::Glibc => GLIBC_WORD,
            Self::Musl => MUSL_WORD,
            Self::Go => GO_WORD,
        }
    }

    fn name(self) -> &'static str {
        match self {
            Self::Glibc => "glibc",
            Self::Musl => "musl",
            Self::Go => "Go",
        }
    }

    /// What a program's file says. `None`: nothing.
    pub(crate) fn of_program(program: &Elf<'_>) -> Option<Self> {
        // A position-independent program of Go's has glibc's loader, and nothing else of glibc.
        if go::kind(program) == Some(Alone(true)) {
            return Some(Self::Go);
        }
        match program.interpreter() {
            Some(loader) if loader.contains("ld-musl") => Some(Self::Musl),
            Some(loader) if loader.contains("ld-linux") => Some(Self::Glibc),
            Some(_) => None,
            None => {
                let has = |mark: &[u8]| memmem(program.data, mark);
                let glibc = MARKS.iter().any(|mark| has(mark)).then_some(Self::Glibc);
                glibc.or_else(|| has(&MUSLS).then_some(Self::Musl))
            }
        }
    }
}

/// What is known of a program from its file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Kind {
    pub(crate) library: CLibrary,
    /// Whether a dynamic linker loads it, which makes the first thread's control block.
    pub(crate) linked: bool,
    /// Whether it is a program of Go's.
    pub(crate) go: bool,
}

impl Kind {
    /// `None`: its C library is not known.
    pub(crate) fn of_program(program: &Elf<'_>) -> Option<Self> {
        let library = CLibrary::of_program(program)?;
        let go = go::kind(program).is_some();
        Some(Self { library, linked: program.interpreter().is_some(), go })
    }

    /// Whether the dynamic linker is glibc's, which preloads what it is asked to. Go's functions
    /// are the image's business.
    pub(crate) fn preloads(self) -> bool {
        self.linked && self.library == CLibrary::Glibc && !self.go
    }
}

/// What a thread's control block looks like.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Looks {
    /// It does not begin with its own address.
    Strange,
    /// Words of the runtime's that it has no use for.
    Go,
    Glibc,
    Musl,
    /// A thread of musl's can be seen that is not in the ring of all threads yet.
    MaybeMusl,
}

impl Looks {
    /// By the words at and behind the thread pointer.
    fn of(word: impl Fn(u64) -> Option<u64>, pointer: u64) -> Self {
        let at = |place: u64| pointer.checked_add(place).and_then(&word);
        if at(0) != Some(pointer) {
            // Behind `m.tls[0]`; the lower half of the second may be ours.
            let second = at(8).is_some_and(|word| word >> 32 == 0);
            let free = [0, 16, 24, 32].iter().all(|place| at(*place) == Some(0));
            return if second && free { Self::Go } else { Self::Strange };
        }
        let (Some(second), Some(third)) = (at(16), at(24)) else { return Self::Strange };
        // glibc: behind the table of modules itself again, and two flags.
        if second == pointer && third as u32 <= 1 && third >> 32 <= 2 {
            return Self::Glibc;
        }
        // musl: the thread before, and the next.
        let (before, next) = (second, third);
        let leads = |from: u64, place: u64| from.checked_add(place).and_then(&word);
        let ring = leads(before, 24) == Some(pointer)
            && leads(next, 16) == Some(pointer)
            && leads(next, 0) == Some(next);
        if ring { Self::Musl } else { Self::MaybeMusl }
    }
}

/// The C library that the file and all threads agree on.
fn agreed(said: Option<CLibrary>, threads: &[Looks]) -> Option<CLibrary> {
    let all = |which: fn(&Looks) -> bool| threads.iter().all(which);
    if said == Some(CLibrary::Glibc) {
        return all(|looks| *looks == Looks::Glibc).then_some(CLibrary::Glibc);
    }
    if said == Some(CLibrary::Go) {
        return all(|looks| *looks == Looks::Go).then_some(CLibrary::Go);
    }
    let musls = all(|looks| matches!(looks, Looks::Musl | Looks::MaybeMusl));
    let known = said == Some(CLibrary::Musl) || threads.contains(&Looks::Musl);
    (musls && known).then_some(CLibrary::Musl)
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
    let mut pointers = Vec::new();
    for tid in stopped.threads() {
        let pointer = stopped.registers(tid).context("the thread has ended")?.fs_base;
        anyhow::ensure!(pointer != 0, "thread {tid} is only just starting: try again");
        pointers.push((tid, pointer));
    }
    anyhow::ensure!(!pointers.is_empty(), "none of its threads could be stopped: try again");
    let looks: Vec<Looks> = pointers.iter().map(|(_, pointer)| Looks::of(word, *pointer)).collect();
    let Some(library) = agreed(said, &looks) else {
        anyhow::bail!(
            "its C library is neither glibc nor musl, or a version that is not known: it cannot be \
                probed while it runs"
        );
    };
    for (tid, pointer) in pointers {
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
    Ok(library)
}

#[cfg(test)]
mod tests {
    use super::{CLibrary, Looks, agreed, memmem};
    use std::collections::HashMap;

    fn of(words: &[(u64, u64)], pointer: u64) -> Looks {
        let words: HashMap<u64, u64> = words.iter().copied().collect();
        Looks::of(|at| words.get(&at).copied(), pointer)
    }

    #[test]
    fn control_blocks() {
        let glibc = [(0x1000, 0x1000), (0x1008, 0x77), (0x1010, 0x1000), (0x1018, 1)];
        assert_eq!(of(&glibc, 0x1000), Looks::Glibc);
        // A single thread of musl's is its own neighbour, also at a low address.
        let alone = [(0x1000, 0x1000), (0x1010, 0x1000), (0x1018, 0x1000)];
        assert_eq!(of(&alone, 0x1000), Looks::Musl);
        let first = [(0x1000, 0x1000), (0x1010, 0x2000), (0x1018, 0x2000)];
        let second = [(0x2000, 0x2000), (0x2010, 0x1000), (0x2018, 0x1000)];
        assert_eq!(of(&[first, second].concat(), 0x1000), Looks::Musl);
        // One that is being made; and Go: no pointer to itself.
        assert_eq!(of(&[(0x1000, 0x1000), (0x1010, 0), (0x1018, 0)], 0x1000), Looks::MaybeMusl);
        assert_eq!(of(&[(0x1000, 0), (0x1010, 0), (0x1018, 0)], 0x1000), Looks::Strange);
        assert_eq!(of(&[(0x1000, 0x1000)], 0x1000), Looks::Strange);
        let gos = [(0x1000, 0), (0x1008, 0), (0x1010, 0), (0x1018, 0), (0x1020, 0)];
        assert_eq!(of(&gos, 0x1000), Looks::Go);
        let used = [(0x1000, 0), (0x1008, 77), (0x1010, 0), (0x1018, 0), (0x1020, 0)];
        assert_eq!(of(&used, 0x1000), Looks::Go);
        for (place, word) in [(0, 1), (1, 1 << 32), (2, 1), (3, 1), (4, 1)] {
            let mut other = gos;
            other[place].1 = word;
            assert_eq!(of(&other, 0x1000), Looks::Strange, "{place}");
        }
        assert_eq!(of(&[], u64::MAX), Looks::Strange);
    }

    #[test]
    fn files_and_threads_agree() {
        use CLibrary::{Glibc, Go, Musl};
        for (said, threads, found) in [
            (Some(Glibc), &[Looks::Glibc, Looks::Glibc][..], Some(Glibc)),
            (Some(Glibc), &[Looks::Glibc, Looks::MaybeMusl], None),
            (Some(Glibc), &[Looks::Musl], None),
            // A static program that does not say so is not taken for glibc's.
            (None, &[Looks::Glibc], None),
            (None, &[Looks::Musl, Looks::MaybeMusl], Some(Musl)),
            (None, &[Looks::MaybeMusl], None),
            (None, &[Looks::Musl, Looks::Strange], None),
            (Some(Musl), &[Looks::MaybeMusl], Some(Musl)),
            (Some(Musl), &[Looks::Glibc], None),
            (Some(Go), &[Looks::Go, Looks::Go], Some(Go)),
            (Some(Go), &[Looks::Go, Looks::Strange], None),
            (Some(Go), &[Looks::Glibc], None),
            // Zeros are nobody's mark.
            (None, &[Looks::Go], None),
            (Some(Musl), &[Looks::Go], None),
        ] {
            assert_eq!(agreed(said, threads), found, "{said:?} {threads:?}");
        }
    }

    #[test]
    fn bytes_in_bytes() {
        assert!(memmem(b"aab", b"ab") && memmem(b"x", b"") && !memmem(b"aa", b"ab"));
    }
}
