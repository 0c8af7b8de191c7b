//! Where in probed functions the program's code branches to, besides their first bytes: a window
//! must not reach over such a place.
//!
//! A function's own branches the planner sees. Here are the others: branches of all other functions
//! in the same text, and jump tables.

use crate::Function;
use crate::arch::x86_64::branches::{branch_before, branch_targets};
use alloc::vec;
use alloc::vec::Vec;
use core::ops::Range;

/// Bytes from a probe's place on that a window may take, an `endbr64` in front included.
const WINDOW: u64 = 32;
/// Entries of a jump table that are looked at.
const ENTRIES: u64 = 4096;
/// Bytes in front of what looks like a branch from which it is decoded, to see whether it is one.
const RUN_UP: usize = 256;

/// What a program or library has in memory, or will have: a process, or a file.
pub trait Image {
    /// Its code: where each part begins, and its bytes.
    fn code(&self) -> impl Iterator<Item = (u64, &[u8])>;

    /// Copies what lies at an address, as it is when the program runs. False: not all of it is
    /// there, or known.
    fn read(&self, address: u64, into: &mut [u8]) -> bool;
}

/// Every address that one of these functions, or other code of the same image, may branch to;
/// ascending, for [`Options::branch_targets`](crate::Options::branch_targets) of all of them. Of
/// branches that are not these functions', only those into functions that are probed at their
/// entries are there, and into windows of other probes.
///
/// `sought` says for which of them the image is searched; for others, where that is known already,
/// the caller adds what it knows.
///
/// Context: allocates; reads all code of the parts that functions are in (about 1 ms for 100 KiB).
pub fn branches_elsewhere(
    functions: &[Function<'_>],
    sought: impl Fn(usize) -> bool,
    image: &impl Image,
) -> Vec<u64> {
    let mut found = Vec::new();
    let mut tables = Vec::new();
    let mut windows: Vec<Range<u64>> = functions.iter().map(window).collect();
    for (function, window) in functions.iter().zip(&mut windows) {
        tables.clear();
        if branch_targets(function.address, function.code, &mut found, &mut tables)
            && function.site == 0
        {
            // Where it branches back will be patched, too.
            window.end = window.end.max(end_of(function));
        }
        tables.sort_unstable();
        tables.dedup();
        for (i, &table) in tables.iter().enumerate() {
            let end = tables.get(i + 1).copied().unwrap_or(u64::MAX);
            read_table(table..end, function, window, image, &mut found);
        }
        if function.site == 0 {
            // Probes may be put where it leaves.
            window.end = window.end.max(end_of(function));
        }
    }
    for (start, text) in image.code() {
        let range = start..start.saturating_add(text.len() as u64);
        let sought = windows.iter().enumerate().filter(|(i, _)| sought(*i)).map(|(_, w)| w);
        let Some(windows) = Windows::of(sought, &range) else { continue };
        for gap in between(functions, &range) {
            windows.scan(text, gap, &mut found);
        }
    }
    found.sort_unstable();
    found.dedup();
    found
}

/// Those of `all`, which are sorted, that lead into the window of a probe at `site`.
pub fn near(all: &[u64], site: u64) -> &[u64] {
    let from = all.partition_point(|l| *l <= site);
    let to = all.partition_point(|l| *l < site.saturating_add(WINDOW));
    &all[from..to.max(from)]
}

fn end_of(function: &Function<'_>) -> u64 {
    function.address.saturating_add((function.code.len() + function.after.len()) as u64)
}

/// The bytes that a function's window may reach over; its first may be branched to.
fn window(function: &Function<'_>) -> Range<u64> {
    let at = function.address.saturating_add(u64::from(function.site));
    at.saturating_add(1)..at.saturating_add(WINDOW).min(end_of(function))
}

/// Entries of what may be a table that lead into the function's window. How long a table is nobody
/// says: it ends with the first entry that does not lead into the function, or where the function's
/// next one begins.
fn read_table(
    table: Range<u64>,
    function: &Function<'_>,
    window: &Range<u64>,
    image: &impl Image,
    found: &mut Vec<u64>,
) {
    let inside = |to: &u64| to.wrapping_sub(function.address) < function.code.len() as u64;
    let entries = |size: u64| {
        (0..ENTRIES)
            .map_while(move |n| table.start.checked_add(n * size))
            .take_while(move |at| at.checked_add(size).is_some_and(|end| end <= table.end))
    };
    let mut add = |targets: &mut dyn Iterator<Item = u64>| {
        found.extend(targets.take_while(inside).filter(|to| window.contains(to)));
    };
    add(&mut entries(4).map_while(|at| {
        let mut word = [0; 4];
        let distance = image.read(at, &mut word).then(|| i32::from_le_bytes(word))?;
        Some(table.start.wrapping_add_signed(distance.into()))
    }));
    add(&mut entries(8).map_while(|at| {
        let mut word = [0; 8];
        image.read(at, &mut word).then(|| u64::from_le_bytes(word))
    }));
}

/// What of `text` belongs to no function, ascending. A branch that begins in front of a function
/// and ends in it does not exist.
fn between(functions: &[Function<'_>], text: &Range<u64>) -> Vec<Range<u64>> {
    let mut inside: Vec<Range<u64>> = functions
        .iter()
        .map(|f| f.address..f.address.saturating_add(f.code.len() as u64))
        .filter(|r| r.start < text.end && text.start < r.end)
        .collect();
    inside.sort_unstable_by_key(|r| r.start);
    let mut gaps = Vec::with_capacity(inside.len() + 1);
    let mut at = text.start;
    for range in inside {
        if range.start > at {
            gaps.push(at..range.start);
        }
        at = at.max(range.end);
    }
    if at < text.end {
        gaps.push(at..text.end);
    }
    gaps
}

/// The windows in one part of the code, a bit per byte.
struct Windows {
    start: u64,
    len: u64,
    bits: Vec<u64>,
}

impl Windows {
    /// None: there are none.
    fn of<'a>(all: impl IntoIterator<Item = &'a Range<u64>>, text: &Range<u64>) -> Option<Self> {
        let mut here = all.into_iter().filter(|w| text.contains(&w.start)).peekable();
        here.peek()?;
        let len = text.end - text.start;
        let mut bits = vec![0_u64; (len / 64 + 1) as usize];
        for window in here {
            for at in window.clone().filter(|at| text.contains(at)) {
                let bit = at - text.start;
                bits[(bit / 64) as usize] |= 1 << (bit % 64);
            }
        }
        Some(Self { start: text.start, len, bits })
    }

    fn contains(&self, address: u64) -> bool {
        let bit = address.wrapping_sub(self.start);
        bit < self.len && self.bits[(bit / 64) as usize] & 1 << (bit % 64) != 0
    }

    /// Every branch in `range` into a window. What looks like one, at any byte, is decoded from
    /// some way in front of it to see whether it is.
    fn scan(&self, text: &[u8], range: Range<u64>, found: &mut Vec<u64>) {
        let offset = |at: u64| (at - self.start) as usize;
        let part = &text[offset(range.start)..offset(range.end)];
        for (i, byte) in part.iter().enumerate() {
            let near = match byte {
                // jmp and call, and conditional jumps behind their first byte 0f.
                0xe8 | 0xe9 => true,
                0x80..=0x8f => i > 0 && part[i - 1] == 0x0f,
                0xeb | 0x70..=0x7f | 0xe0..=0xe3 => false,
                _ => continue,
            };
            let end = i + if near { 5 } else { 2 };
            let distance = match part.get(i + 1..end) {
                Some(&[a, b, c, d]) => i32::from_le_bytes([a, b, c, d]).into(),
                Some(&[a]) => i64::from(i8::from_le_bytes([a])),
                _ => continue,
            };
            let to = (range.start + end as u64).wrapping_add_signed(distance);
            let end = offset(range.start) + end;
            let from = end.saturating_sub(RUN_UP);
            let around = &text[from..text.len().min(end + 16)];
            if self.contains(to)
                && branch_before(self.start + from as u64, around, end - from) == Some(to)
            {
                found.push(to);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{Image, Windows, between, branches_elsewhere, window};
    use crate::Function;
    use std::vec::Vec;

    fn function(address: u64, code: &[u8]) -> Function<'_> {
        Function { address, code, after: &[], site: 0 }
    }

    #[test]
    fn branches_into_a_window_are_found_and_others_not() {
        // A function of 16 bytes at 0x1010 in a text of 64 that branches into it.
        let text: Vec<u8> = [[0xcc; 16], [0x90; 16]]
            .concat()
            .into_iter()
            // What is no branch: mov $0xf0eb, %eax, which has the bytes of a jmp to 0x1013 in it.
            .chain([0xb8, 0xeb, 0xf0, 0, 0])
            // jmp 0x1012, jne 0x1013, call 0x1010 (its first byte), jmp short 0x1014
            .chain([0xe9, 0xe8, 0xff, 0xff, 0xff])
            .chain([0x0f, 0x85, 0xe3, 0xff, 0xff, 0xff])
            .chain([0xe8, 0xdb, 0xff, 0xff, 0xff])
            .chain([0xeb, 0xdd])
            .collect();
        let all = 0x1000..0x1000 + text.len() as u64;
        let functions = [function(0x1010, &text[16..32])];
        let places = functions.map(|f| window(&f));
        let windows = Windows::of(&places, &all).expect("a function is there");
        let gaps = between(&functions, &all);
        assert_eq!(gaps, [0x1000..0x1010, 0x1020..all.end]);
        let mut found = Vec::new();
        gaps.into_iter().for_each(|gap| windows.scan(&text, gap, &mut found));
        assert_eq!(found, [0x1012, 0x1013, 0x1014]);
        assert!(Windows::of(&places, &(0x5000..0x6000)).is_none());
    }

    /// Code, and data behind it.
    struct Memory {
        address: u64,
        bytes: Vec<u8>,
        code: usize,
    }

    impl Image for Memory {
        fn code(&self) -> impl Iterator<Item = (u64, &[u8])> {
            core::iter::once((self.address, &self.bytes[..self.code]))
        }

        fn read(&self, address: u64, into: &mut [u8]) -> bool {
            let from = address.wrapping_sub(self.address);
            let part = usize::try_from(from).ok().and_then(|from| self.bytes.get(from..));
            let part = part.and_then(|part| part.get(..into.len()));
            part.map(|part| into.copy_from_slice(part)).is_some()
        }
    }

    #[test]
    fn relative_and_absolute_tables_are_read() {
        // Two times lea table(%rip), %rdx; then jmp *%rdx; and a table for each, which say that
        // bytes 2 and 4 are targets.
        let (address, code) = (0x1000_u64, 64);
        let (relative, absolute) = (address + 64, address + 80);
        let mut bytes = [0x90, 0x90, 0x48, 0x8d, 0x15].to_vec();
        bytes.extend((relative.wrapping_sub(address + 9) as i32).to_le_bytes());
        bytes.extend([0x48, 0x8d, 0x15]);
        bytes.extend((absolute.wrapping_sub(address + 16) as i32).to_le_bytes());
        bytes.extend([0xff, 0xe2]);
        let len = bytes.len();
        bytes.resize(code, 0x90);
        bytes.extend(((address + 2).wrapping_sub(relative) as i32).to_le_bytes());
        bytes.resize(80, 0);
        for entry in [address, address + 4, 1] {
            bytes.extend(entry.to_le_bytes());
        }
        let image = Memory { address, bytes, code };
        let functions = [function(address, &image.bytes[..len])];
        let found = branches_elsewhere(&functions, |_| true, &image);
        assert!(found.contains(&(address + 2)) && found.contains(&(address + 4)), "{found:x?}");
    }
}
