//! A process's mappings, and where there is room between them.

use crate::arch::{LOWEST, REACH};
use crate::proc;
use crate::ptrace::Tid;
use std::io;
use std::ops::Range;

/// One mapping.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Mapping {
    pub(crate) range: Range<u64>,
    pub(crate) executable: bool,
    /// Where in its file it begins.
    pub(crate) offset: u64,
    /// Path, `[stack]` and the like, or nothing.
    pub(crate) name: String,
    /// Device and inode of its file.
    pub(crate) file: (u64, u64),
    /// Whether it can be read, written or executed.
    pub(crate) usable: bool,
}

/// All mappings, ascending. An error ([`proc::is_of_ended`]) if the thread has ended.
pub(crate) fn read(pid: Tid, tid: Tid) -> io::Result<Vec<Mapping>> {
    let text = proc::of_memory(pid, tid, "maps")?;
    Ok(text.split(|byte| *byte == b'\n').filter_map(parse).collect())
}

fn parse(line: &[u8]) -> Option<Mapping> {
    let mapping = sys::mappings::Mapping::parse(line)?;
    let usable = mapping.readable || mapping.writable || mapping.executable;
    let sys::mappings::Mapping { range, executable, offset, path, dev, ino, .. } = mapping;
    let name = String::from_utf8_lossy(path).into_owned();
    Some(Mapping { range, executable, offset, name, file: (dev, ino), usable })
}

/// Room that is left free on both sides of what is put into a gap.
const MARGIN: u64 = 64 << 10;
/// What the program and what is put near it may take together, so that all of one reaches all of
/// the other.
const NEAR: u64 = REACH - (64 << 20);
/// A heap may have grown by this much before it comes near what lies above it.
const HEAP: u64 = 1 << 30;

/// Places for `size` bytes within reach of the program, best first. `program` is where it starts,
/// `heap` where its heap starts (0: unknown).
///
/// Above the program the heap grows, and between the two nothing may ever be: so the places are
/// below it. Only where there is no room, for a program at a fixed low address, they are as high as
/// jumps still reach.
pub(crate) fn places(mappings: &[Mapping], program: u64, heap: u64, size: u64) -> Vec<u64> {
    let mut found = Vec::new();
    let lowest = LOWEST.max(program.saturating_sub(NEAR));
    let mut top = program;
    for mapping in mappings.iter().rev().filter(|m| m.range.start < program) {
        found.extend(fitting(mapping.range.end.max(lowest)..top, size));
        top = top.min(mapping.range.start);
    }
    found.extend(fitting(lowest..top, size));
    let above = heap.max(program).saturating_add(HEAP)..program.saturating_add(NEAR);
    let mut bottom = above.start;
    let mut high = Vec::new();
    for mapping in mappings.iter().filter(|m| m.range.end > above.start) {
        high.extend(fitting(bottom..mapping.range.start.min(above.end), size));
        bottom = bottom.max(mapping.range.end);
    }
    high.extend(fitting(bottom..above.end, size));
    found.extend(high.into_iter().rev());
    found
}

/// The highest place in a gap.
fn fitting(gap: Range<u64>, size: u64) -> Option<u64> {
    let whole = size.checked_add(2 * MARGIN)?;
    let place = gap.end.checked_sub(whole).filter(|place| *place >= gap.start)?;
    // Both ends of a gap are multiples of a page, and so is the margin; round all the same, for
    // what is said of the heap is any address.
    Some((place + MARGIN) & !(crate::arch::PAGE - 1))
}

#[cfg(test)]
mod tests {
    use super::{Mapping, parse, places};

    fn mapped(ranges: &[std::ops::Range<u64>]) -> Vec<Mapping> {
        let one = |range: &std::ops::Range<u64>| Mapping {
            range: range.clone(),
            executable: false,
            offset: 0,
            name: String::new(),
            file: (0, 0),
            usable: true,
        };
        ranges.iter().map(one).collect()
    }

    #[test]
    fn lines() {
        let line = b"7ffc0000-7ffd0000 r-xp 00000000 00:00 0                  [stack]";
        let found = parse(line).unwrap();
        assert_eq!((found.range, found.executable), (0x7ffc_0000..0x7ffd_0000, true));
        assert_eq!(found.name, "[stack]");
        let found = parse(b"1000-2000 rw-p 00003000 08:01 77       /a file with  blanks").unwrap();
        assert_eq!((found.name.as_str(), found.offset), ("/a file with  blanks", 0x3000));
        assert_eq!(parse(b"1000-2000 rw-p 00000000 00:00 0 /\xff").unwrap().name, "/\u{fffd}");
        assert_eq!(parse(b"nonsense"), None);
    }

    #[test]
    fn below_the_program_never_between_it_and_its_heap() {
        let program = 0x5555_5555_4000;
        let all = mapped(&[program..program + 0x5000, 0x5555_5660_0000..0x5555_5670_0000]);
        let found = places(&all, program, 0x5555_5660_0000, 0x3000);
        assert_eq!(found[0], program - 0x1_3000);
        assert!(found.iter().all(|at| *at < program || *at > 0x5555_5660_0000 + (1 << 30)));
    }

    #[test]
    fn around_what_lies_below() {
        let program = 0x5555_5555_4000;
        let all = mapped(&[program - 0x2_0000..program - 0x1_0000, program..program + 0x1000]);
        assert_eq!(places(&all, program, 0, 0x1000)[0], program - 0x2_0000 - 0x1_1000);
    }

    #[test]
    fn a_program_at_a_low_address_with_and_without_room() {
        let all = mapped(&[0x40_0000..0x48_0000, 0x48_0000..0x50_0000]);
        assert_eq!(places(&all, 0x40_0000, 0x60_0000, 0x10_0000)[0], 0x40_0000 - 0x11_0000);
        let found = places(&all, 0x40_0000, 0x60_0000, 0x40_0000);
        assert_eq!(found.len(), 1);
        assert!(found[0] > 0x60_0000 + (1 << 30) && found[0] + 0x40_0000 < 0x40_0000 + (1 << 31));
        assert!(places(&all, 0x40_0000, 0x60_0000, 1 << 31).is_empty());
        assert!(places(&all, 0x40_0000, 0x60_0000, u64::MAX).is_empty());
    }
}
