//! Where in probed functions the program's code branches to, besides their first bytes: a window must not reach over such a place.
//!
//! A function's own branches the planner sees. Here are the others: branches of all other functions in the same text, and jump tables.
#![allow(unsafe_code)]

use crate::batch::Target;
use crate::maps::Mapping;
use core::ops::Range;
use core::ptr;
use patch::{branch_before, branch_targets};

/// Bytes from a probe's place on that a window may take, an `endbr64` in front included.
const WINDOW: u64 = 32;
/// Entries of a jump table that are looked at.
const ENTRIES: usize = 4096;
/// Bytes in front of what looks like a branch from which it is decoded, to see whether it is one.
const RUN_UP: usize = 256;

/// Every address that a function of the batch, or other code of the same objects, may branch to; ascending. Of branches that are not the batch's, only those into windows are
/// there.
///
/// `known` says where the search can be spared, for the function was armed before: what is known is taken instead.
pub(crate) fn find<'a>(
    targets: &[Target],
    codes: &[Option<Vec<u8>>],
    mappings: &[Mapping],
    known: impl Fn(&Target) -> Option<&'a [u64]>,
) -> Vec<u64> {
    let is_new: Vec<bool> = targets.iter().map(|t| known(t).is_none()).collect();
    let mut landings = Vec::new();
    let mut tables = Vec::new();
    for (target, code) in targets.iter().zip(codes) {
        let Some(code) = code else { continue };
        tables.clear();
        branch_targets(target.address, &code[..target.size as usize], &mut landings, &mut tables);
        tables.sort_unstable();
        tables.dedup();
        for (i, &table) in tables.iter().enumerate() {
            let end = tables.get(i + 1).copied().unwrap_or(u64::MAX);
            read_table(table..end, target, mappings, &mut landings);
        }
    }
    for mapping in mappings.iter().filter(|m| m.executable && m.readable) {
        let new = targets.iter().zip(&is_new).filter(|(_, new)| **new).map(|(target, _)| target);
        let Some(windows) = Windows::of(new, &mapping.range) else { continue };
        // SAFETY: a readable mapping of code, which nobody unmaps: one of the functions that are being armed is in it. Others change it with patches only.
        let text = unsafe { bytes(&mapping.range) };
        for gap in between(targets, codes, &mapping.range) {
            windows.scan(text, gap, &mut landings);
        }
    }
    landings.extend(targets.iter().filter_map(known).flatten());
    landings.sort_unstable();
    landings.dedup();
    landings
}

/// Those of `landings`, which are sorted, that lead into the window of a probe at `site`.
pub(crate) fn near(landings: &[u64], site: u64) -> &[u64] {
    let from = landings.partition_point(|l| *l <= site);
    let to = landings.partition_point(|l| *l < site + WINDOW);
    &landings[from..to]
}

/// The bytes of a target that its window may reach over; its first may be branched to.
fn window(target: &Target) -> Range<u64> {
    let at = target.address + u64::from(target.offset);
    at + 1..(at + WINDOW).min(target.address + u64::from(target.size + target.after))
}

/// Entries of what may be a table that lead into the target's window. How long a table is nobody says: it ends with the first entry that does not lead into the function, or where
/// the function's next one begins.
fn read_table(table: Range<u64>, target: &Target, mappings: &[Mapping], landings: &mut Vec<u64>) {
    let Some(mapping) = mappings.iter().find(|m| m.range.contains(&table.start) && m.readable) else { return };
    let end = mapping.range.end.min(table.end);
    let entries = |size: u64| (table.start..end.saturating_sub(size - 1)).step_by(size as usize).take(ENTRIES);
    // SAFETY: inside a readable mapping, of the library that the function belongs to.
    let word = |at: u64| unsafe { ptr::read_unaligned(ptr::with_exposed_provenance::<i32>(at as usize)) };
    // SAFETY: as above.
    let absolute = |at: u64| unsafe { ptr::read_unaligned(ptr::with_exposed_provenance::<u64>(at as usize)) };
    let (function, window) = (target.range(), window(target));
    let mut add = |targets: &mut dyn Iterator<Item = u64>| {
        landings.extend(targets.take_while(|to| function.contains(to)).filter(|to| window.contains(to)));
    };
    add(&mut entries(4).map(|at| table.start.wrapping_add_signed(word(at).into())));
    add(&mut entries(8).map(absolute));
}

/// What of `text` belongs to no target, ascending. A branch that begins in front of a function and ends in it does not exist.
fn between(targets: &[Target], codes: &[Option<Vec<u8>>], text: &Range<u64>) -> Vec<Range<u64>> {
    let mut inside: Vec<Range<u64>> = targets
        .iter()
        .zip(codes)
        .filter(|(_, code)| code.is_some())
        .map(|(t, _)| t.address..t.address + u64::from(t.size))
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

/// The windows in one mapping, a bit per byte.
struct Windows {
    start: u64,
    len: u64,
    bits: Vec<u64>,
}

impl Windows {
    /// None: there are none.
    fn of<'a>(targets: impl IntoIterator<Item = &'a Target>, text: &Range<u64>) -> Option<Self> {
        let mut here = targets.into_iter().filter(|t| text.contains(&t.address)).peekable();
        here.peek()?;
        let len = text.end - text.start;
        let mut bits = vec![0_u64; (len / 64 + 1) as usize];
        for target in here {
            for at in window(target).filter(|at| text.contains(at)) {
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

    /// Every branch in `range` into a window. What looks like one, at any byte, is decoded from some way in front of it to see whether it is.
    fn scan(&self, text: &[u8], range: Range<u64>, landings: &mut Vec<u64>) {
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
            if self.contains(to) && branch_before(self.start + from as u64, around, end - from) == Some(to) {
                landings.push(to);
            }
        }
    }
}

/// # Safety
/// The range is mapped, readable, and stays so while the result is used.
unsafe fn bytes<'a>(range: &Range<u64>) -> &'a [u8] {
    // SAFETY: the caller's.
    unsafe { core::slice::from_raw_parts(ptr::with_exposed_provenance(range.start as usize), (range.end - range.start) as usize) }
}

#[cfg(test)]
mod tests {
    use super::{Windows, between, find};
    use crate::batch::{Action, Target};
    use crate::maps;

    fn target(address: u64, size: u32) -> Target {
        Target::entry(address, size, Action::Count { cell: 0 })
    }

    #[test]
    fn branches_from_outside_are_found() {
        // At 0x1000: 16 bytes of padding, a function of 16 bytes at 0x1010, and behind it branches.
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
        let targets = [target(0x1010, 16)];
        let windows = Windows::of(&targets, &all).expect("a target is there");
        let gaps = between(&targets, &[Some(Vec::new())], &all);
        assert_eq!(gaps, [0x1000..0x1010, 0x1020..all.end]);
        let mut landings = Vec::new();
        gaps.into_iter().for_each(|gap| windows.scan(&text, gap, &mut landings));
        assert_eq!(landings, [0x1012, 0x1013, 0x1014]);
        assert!(Windows::of(&targets, &(0x5000..0x6000)).is_none());
    }

    #[test]
    fn relative_and_absolute_tables_are_read() {
        // lea table(%rip), %rdx; jmp *%rdx; and a table of this test's own, which says that byte 2 is a target.
        #[repr(C)]
        struct Memory {
            code: [u8; 64],
            absolute: [u64; 4],
            relative: [i32; 4],
        }
        let memory = Box::leak(Box::new(Memory { code: [0x90; 64], absolute: [0; 4], relative: [0; 4] }));
        let code = (&raw mut memory.code).expose_provenance() as u64;
        let relative = (&raw mut memory.relative).expose_provenance() as u64;
        let absolute = (&raw mut memory.absolute).expose_provenance() as u64;
        memory.relative[0] = (code + 2).wrapping_sub(relative) as i32;
        memory.absolute = [code, code + 4, 1, 0];
        let mut bytes = vec![0x90, 0x90, 0x48, 0x8d, 0x15];
        bytes.extend((relative.wrapping_sub(code + 9) as i32).to_le_bytes());
        bytes.extend([0x48, 0x8d, 0x15]);
        bytes.extend((absolute.wrapping_sub(code + 16) as i32).to_le_bytes());
        bytes.extend([0xff, 0xe2]);
        let mut mappings = maps::read();
        // The code is in data here: what matters is that a table's entries lead to code.
        mappings.iter_mut().for_each(|m| m.executable |= m.range.contains(&code));
        let found = find(&[target(code, bytes.len() as u32)], &[Some(bytes)], &mappings, |_| None);
        assert!(found.contains(&(code + 2)) && found.contains(&(code + 4)), "{found:x?} {code:x}");
    }
}
