//! What the command line and an image that it has put into a process say to each other: functions
//! of the image, and lists of changes to the program's code.
//!
//! The image prepares, the command line writes: code of the program changes only while all its
//! threads stand, and that is done from outside. So the image gives a list of what is to be written
//! where, and is told whether it was.
//!
//! # Functions of the image
//! All are `extern "C"`, take and give words, and run one at a time on a thread of their own.
//!
//! | name | arguments | result |
//! |---|---|---|
//! | [`MAPS`] | a descriptor of `/proc/PID/maps`, for a process that sees no `/proc`; -1: none | 0 |
//! | [`START`] | tables, counters: descriptors of the process; distance of the thread word (`i64`); the bits of [`fresh`] | 0, or a [`Failure`]'s number |
//! | [`ARM`] | | address of a [`Header`]: what arms |
//! | [`DISARM`] | | address of a [`Header`]: what takes back everything that is written |
//! | [`WRITTEN`] | 1: the last list was written; 0: nothing of it was | 0, or a [`Failure`]'s number |
//! | [`OWNER`] | | process that made the segment in use; 0: none is |
//!
//! # Order
//! `START`, `ARM`, `WRITTEN`, `DISARM`, `WRITTEN`, and from the beginning, with the segment of
//! another run. Every list is followed by one `WRITTEN`. A `START` while a segment is in use fails
//! ([`Failure::InUse`]). Whoever finds an image of a command line that is gone begins with
//! `DISARM`: its list has what is written, or may be: an [`ARM`] whose `WRITTEN` never came counts
//! as written where its bytes are there.
//!
//! # Trust
//! [`Header::parse`] and [`decode`] believe nothing: whatever is in the process's memory gives an
//! error or changes that are well formed. Whether their addresses are code of the program is for
//! the caller to see, and that the old bytes are there for whoever writes.

use alloc::vec::Vec;
use core::fmt;
use core::ops::Range;

/// Lends a descriptor of the process's list of mappings, or takes it back.
pub const MAPS: &str = "trapline_maps";
/// Opens a segment and starts the engine.
pub const START: &str = "trapline_start";
/// Looks at what is loaded, and makes the list of changes that arm.
pub const ARM: &str = "trapline_arm";
/// Makes the list of changes that disarm.
pub const DISARM: &str = "trapline_disarm";
/// Says whether the last list was written.
pub const WRITTEN: &str = "trapline_written";
/// Asks whose segment is in use.
pub const OWNER: &str = "trapline_owner";

/// What there is to be said of a process at [`START`] that has yet to run.
pub mod fresh {
    /// It is one.
    pub const IS: u64 = 1;
    /// Breakpoints may be set, if the image's probes see all that the program does about signals:
    /// the C library's functions for that are those of a library.
    pub const TRAPS: u64 = 2;
    /// SIGTRAP was blocked in the thread that there is.
    pub const BLOCKED: u64 = 4;
}

/// Where glibc's control block of a thread has room for four bytes of ours, counted from the
/// thread pointer.
pub const GLIBC_WORD: i64 = 0x100;
/// Where musl's has.
pub const MUSL_WORD: i64 = 68;
/// Where the runtime of a Go program without cgo has: its thread pointer leads into `m.tls`, of
/// whose six words it uses the one before. There the thread pointer itself stands for the thread.
pub const GO_WORD: i64 = 8;

/// The first word of a header.
pub const MAGIC: u64 = u64::from_le_bytes(*b"TRAPLIST");
/// Most bytes of one change.
pub const MOST_BYTES: usize = 16;
/// Most instructions of a window: all of a small function may be moved.
pub const MOST_MOVED: usize = 512;
/// Most words of a list.
pub const MOST_WORDS: usize = 1 << 25;
/// Words of a change without its instructions.
const FIXED: usize = 9;

/// Why the image did not do what it was asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u64)]
pub enum Failure {
    /// The files are no segment of this version, or cannot be mapped.
    Segment = 1,
    /// There is no memory, or no address space near the program.
    Memory = 2,
    /// A segment is in use.
    InUse = 3,
    /// Not in this order.
    Order = 4,
    /// Threads were stopped in the middle of hits for earlier segments, which take memory until
    /// they go on.
    Stopped = 5,
    /// No thread word can be at this distance.
    Word = 6,
    /// What is loaded cannot be read from `/proc/self/maps`.
    Maps = 7,
    /// The process may not do what is needed: a filter, a limit.
    Forbidden = 8,
    /// Anything else; the segment's log may say more.
    Other = 9,
}

impl Failure {
    /// What a function's result says; numbers that are not known are [`Failure::Other`].
    ///
    /// # Errors
    /// It is not 0.
    pub fn check(word: u64) -> Result<(), Self> {
        Err(match word {
            0 => return Ok(()),
            1 => Self::Segment,
            2 => Self::Memory,
            3 => Self::InUse,
            4 => Self::Order,
            5 => Self::Stopped,
            6 => Self::Word,
            7 => Self::Maps,
            8 => Self::Forbidden,
            _ => Self::Other,
        })
    }

    /// Its number.
    pub fn word(self) -> u64 {
        self as u64
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Segment => "the counters cannot be mapped there",
            Self::Memory => "there is no memory, or no room near the program",
            Self::InUse => "another run counts there",
            Self::Order => "it was asked for things in another order",
            Self::Stopped => {
                "threads of it were stopped in the middle of hits for earlier runs: let them go on"
            }
            Self::Word => "no thread has room for the word of this C library",
            Self::Maps => "its mappings cannot be read from inside",
            Self::Forbidden => "it may not make the system calls that are needed",
            Self::Other => "the image failed: -v shows what it had to say",
        })
    }
}

impl core::error::Error for Failure {}

/// Why bytes are no list.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BadList {
    /// Another first word.
    Magic,
    /// Longer than [`MOST_WORDS`], or it would reach around the end of memory.
    Length,
    /// A change is cut off, or has lengths that cannot be.
    Change,
    /// The image says that there is none.
    Failed(Failure),
}

impl fmt::Display for BadList {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Magic | Self::Length | Self::Change => f.write_str("its list of changes is none"),
            Self::Failed(why) => why.fmt(f),
        }
    }
}

impl core::error::Error for BadList {}

/// What the image's result leads to. As words in memory: [`MAGIC`], then the fields.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Header {
    /// Address of the list's words.
    pub words: u64,
    /// How many.
    pub count: u64,
}

impl Header {
    /// Words of a header: [`MAGIC`], address, count, and a [`Failure`]'s number or 0.
    pub const WORDS: usize = 4;

    /// For the image: the words of the header of a list that lies at `words` and stays there.
    pub fn of(words: &[u64]) -> [u64; Self::WORDS] {
        [MAGIC, words.as_ptr().expose_provenance() as u64, words.len() as u64, 0]
    }

    /// For the image: the words of a header that says why there is no list.
    pub fn failed(why: Failure) -> [u64; Self::WORDS] {
        [MAGIC, 0, 0, why.word()]
    }

    /// Checks what was read.
    ///
    /// # Errors
    /// It is none, or says that there is no list.
    pub fn parse([magic, words, count, error]: [u64; Self::WORDS]) -> Result<Self, BadList> {
        if magic != MAGIC {
            return Err(BadList::Magic);
        }
        Failure::check(error).map_err(BadList::Failed)?;
        let in_memory = count.checked_mul(8).and_then(|bytes| words.checked_add(bytes));
        if count > MOST_WORDS as u64 || in_memory.is_none() {
            return Err(BadList::Length);
        }
        Ok(Self { words, count })
    }
}

/// One change: bytes of the program's code, and what a thread does that stands there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Change {
    /// Where.
    pub address: u64,
    /// What is there.
    pub old: Vec<u8>,
    /// What is to be there, as many bytes.
    pub new: Vec<u8>,
    /// From the first byte of the first instruction that is replaced to behind the last; empty
    /// where no thread can stand in the middle (what disarms).
    pub window: Range<u64>,
    /// The instructions of the window: address, and address of the copy.
    pub moved: Vec<(u64, u64)>,
}

/// Adds a change to a list.
///
/// # Panics
/// If the lengths differ, or there are more than [`MOST_BYTES`] or [`MOST_MOVED`].
pub fn encode(
    list: &mut Vec<u64>,
    address: u64,
    (old, new): (&[u8], &[u8]),
    window: Range<u64>,
    moved: &[(u64, u64)],
) {
    assert!(old.len() == new.len() && old.len() <= MOST_BYTES && moved.len() <= MOST_MOVED);
    let words = |bytes: &[u8]| {
        let mut room = [0; MOST_BYTES];
        room[..bytes.len()].copy_from_slice(bytes);
        let number = u128::from_le_bytes(room);
        [number as u64, (number >> 64) as u64]
    };
    list.extend([address, old.len() as u64, window.start, window.end, moved.len() as u64]);
    list.extend(words(old));
    list.extend(words(new));
    list.extend(moved.iter().flat_map(|(from, to)| [*from, *to]));
}

/// The changes that the words are. Allocates.
///
/// # Errors
/// [`BadList::Change`].
pub fn decode(mut words: &[u64]) -> Result<Vec<Change>, BadList> {
    let mut changes = Vec::new();
    while let Some((fixed, rest)) = words.split_first_chunk::<FIXED>() {
        let [address, length, start, end, moved, ..] = *fixed;
        let (Some(length), Some(moved)) = (at_most(length, MOST_BYTES), at_most(moved, MOST_MOVED))
        else {
            return Err(BadList::Change);
        };
        let (Some(pairs), Some(_)) = (rest.get(..2 * moved), address.checked_add(length as u64))
        else {
            return Err(BadList::Change);
        };
        if length == 0 || start > end {
            return Err(BadList::Change);
        }
        let bytes = |words: &[u64]| {
            let all = words.iter().flat_map(|word| word.to_le_bytes());
            all.take(length).collect::<Vec<u8>>()
        };
        changes.push(Change {
            address,
            old: bytes(&fixed[5..7]),
            new: bytes(&fixed[7..9]),
            window: start..end,
            moved: pairs.chunks_exact(2).map(|pair| (pair[0], pair[1])).collect(),
        });
        words = &rest[2 * moved..];
    }
    if words.is_empty() { Ok(changes) } else { Err(BadList::Change) }
}

fn at_most(word: u64, most: usize) -> Option<usize> {
    usize::try_from(word).ok().filter(|word| *word <= most)
}

#[cfg(test)]
mod tests {
    use super::{BadList, Change, Failure, Header, MAGIC, MOST_WORDS, decode, encode};
    use alloc::vec;
    use alloc::vec::Vec;

    fn list(changes: &[Change]) -> Vec<u64> {
        let mut words = Vec::new();
        for Change { address, old, new, window, moved } in changes {
            encode(&mut words, *address, (old, new), window.clone(), moved);
        }
        words
    }

    fn some() -> Vec<Change> {
        let long = Change {
            address: 0x1000,
            old: (0..16).collect(),
            new: vec![0xcc; 16],
            window: 0x1000..0x1010,
            moved: vec![(0x1000, 0x9000), (0x1004, 0x9008)],
        };
        let back = Change {
            address: 0x2003,
            old: vec![0xe9, 1, 2, 3, 4],
            new: vec![5, 6, 7, 8, 9],
            window: 0..0,
            moved: Vec::new(),
        };
        vec![long, back]
    }

    #[test]
    fn there_and_back() {
        assert_eq!(decode(&list(&some())), Ok(some()));
        assert_eq!(decode(&[]), Ok(Vec::new()));
    }

    #[test]
    fn headers() {
        let words = list(&some());
        let header = Header::of(&words);
        let parsed = Header::parse(header).expect("well formed");
        assert_eq!(parsed.words, words.as_ptr().addr() as u64);
        assert_eq!(parsed.count, words.len() as u64);
        let failed = Header::parse(Header::failed(Failure::Memory));
        assert_eq!(failed, Err(BadList::Failed(Failure::Memory)));
        assert_eq!(Header::parse([0, 0, 0, 0]), Err(BadList::Magic));
        assert_eq!(Header::parse([MAGIC, 0, u64::MAX, 0]), Err(BadList::Length));
        assert_eq!(Header::parse([MAGIC, 0, MOST_WORDS as u64 + 1, 0]), Err(BadList::Length));
        assert_eq!(Header::parse([MAGIC, u64::MAX - 7, 1, 0]), Err(BadList::Length));
        assert_eq!(
            Header::parse([MAGIC, 0, 0, 1 << 40]),
            Err(BadList::Failed(Failure::Other)),
            "a number that nobody knows"
        );
    }

    #[test]
    fn numbers_of_failures_are_those_that_are_read() {
        for number in 1..=9 {
            assert_eq!(Failure::check(number).expect_err("a failure").word(), number);
        }
        assert_eq!(Failure::check(0), Ok(()));
    }

    #[test]
    fn every_cut_is_seen() {
        let words = list(&some());
        let first = list(&some()[..1]).len();
        for length in 0..words.len() {
            let whole = length == 0 || length == first;
            assert_eq!(decode(&words[..length]).is_ok(), whole, "{length} words");
        }
    }

    /// Whatever the words are, what comes out is well formed: it can be encoded again, to the same.
    #[test]
    fn garbage_is_refused_or_harmless() {
        let mut state = 0x9e37_79b9_7f4a_7c15_u64;
        let mut random = move || {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            state
        };
        let (mut good, mut bad) = (0, 0);
        for _ in 0..20_000 {
            let mut words = list(&some());
            for _ in 0..random() % 4 {
                let at = (random() % words.len() as u64) as usize;
                words[at] = match random() % 5 {
                    0 => random(),
                    1 => random() % 40,
                    2 => u64::MAX,
                    3 => words[at] ^ 1 << (random() % 64),
                    _ => 0,
                };
            }
            words.truncate((random() % (words.len() as u64 + 4)) as usize);
            match decode(&words) {
                Ok(changes) => {
                    good += 1;
                    assert_eq!(decode(&list(&changes)), Ok(changes));
                }
                Err(why) => {
                    bad += 1;
                    assert_eq!(why, BadList::Change);
                }
            }
        }
        assert!(good > 500 && bad > 500, "{good} and {bad}");
    }
}
