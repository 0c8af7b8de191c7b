//! The process's mappings, as the kernel lists them.

use core::ops::Range;
use std::fs;

/// Lowest address that a mapping may have; below are the kernel's guard pages.
const LOWEST: u64 = 0x10000;
/// End of user space with four-level page tables.
const HIGHEST: u64 = 0x7fff_ffff_f000;

/// One mapping.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Mapping {
    pub(crate) range: Range<u64>,
    pub(crate) readable: bool,
    pub(crate) writable: bool,
    pub(crate) executable: bool,
}

/// All mappings, ascending. Empty when /proc is not there.
pub(crate) fn read() -> Vec<Mapping> {
    fs::read_to_string("/proc/self/maps").unwrap_or_default().lines().filter_map(parse).collect()
}

fn parse(line: &str) -> Option<Mapping> {
    let mut words = line.split_ascii_whitespace();
    let (start, end) = words.next()?.split_once('-')?;
    let flags = words.next()?.as_bytes();
    let hex = |s| u64::from_str_radix(s, 16).ok();
    Some(Mapping {
        range: hex(start)?..hex(end)?,
        readable: flags.first() == Some(&b'r'),
        writable: flags.get(1) == Some(&b'w'),
        executable: flags.get(2) == Some(&b'x'),
    })
}

/// The holes between mappings, ascending.
pub(crate) fn gaps(mappings: &[Mapping]) -> Vec<Range<u64>> {
    let mut gaps = Vec::with_capacity(mappings.len() + 1);
    let mut end = LOWEST;
    for m in mappings {
        if m.range.start > end {
            gaps.push(end..m.range.start.min(HIGHEST));
        }
        end = end.max(m.range.end);
    }
    if end < HIGHEST {
        gaps.push(end..HIGHEST);
    }
    gaps
}

/// The holes that nobody but the engine has a use for: not where the heap grows, up to where code
/// of the program itself would hardly reach, nor in front of a program at low addresses, where
/// runtimes lay out memory of their own, nor where the first stack grows. `heap`: the program
/// break, `stack`: an address in the first stack.
pub(crate) fn usable_gaps(mappings: &[Mapping], heap: u64, stack: u64) -> Vec<Range<u64>> {
    /// Room at the end of what the program's first function reaches.
    const LAST: u64 = 64 << 20;
    const REACH: u64 = 1 << 31;
    const LOW: u64 = 1 << 32;
    /// The kernel keeps at least so much free below the first stack.
    const STACK: u64 = 128 << 20;
    let program = mappings.iter().find(|m| m.range.start + REACH > heap && m.range.start <= heap);
    let program = program.map_or(heap, |m| m.range.start);
    let grows = mappings.iter().find(|m| m.range.contains(&stack)).map_or(stack, |m| m.range.start);
    let taken = [
        LOWEST..if program < LOW { program } else { LOWEST },
        heap..heap.max(program.saturating_add(REACH - LAST)),
        grows.saturating_sub(STACK)..grows,
    ];
    let mut usable = gaps(mappings);
    for taken in taken {
        usable = usable.into_iter().flat_map(|gap| without(&gap, &taken)).collect();
    }
    usable
}

/// What of `gap` lies outside `taken`.
fn without(gap: &Range<u64>, taken: &Range<u64>) -> impl Iterator<Item = Range<u64>> + use<> {
    let below = gap.start..gap.end.min(taken.start.max(gap.start));
    let above = gap.start.max(taken.end.min(gap.end))..gap.end;
    let parts = if taken.is_empty() { [gap.clone(), 0..0] } else { [below, above] };
    parts.into_iter().filter(|part| !part.is_empty())
}

/// Whether all of `range` is mapped readable.
pub(crate) fn is_readable(mappings: &[Mapping], range: &Range<u64>) -> bool {
    let mut at = range.start;
    let first = mappings.partition_point(|m| m.range.end <= at);
    for m in &mappings[first..] {
        if at >= range.end || m.range.start > at || !m.readable {
            break;
        }
        at = m.range.end;
    }
    at >= range.end
}

#[cfg(test)]
mod tests {
    use super::{Mapping, gaps, is_readable, parse, usable_gaps};

    fn mapped(ranges: &[core::ops::Range<u64>]) -> Vec<Mapping> {
        let all = |range: &core::ops::Range<u64>| Mapping {
            range: range.clone(),
            readable: true,
            writable: true,
            executable: true,
        };
        ranges.iter().map(all).collect()
    }

    #[test]
    fn gaps_where_the_heap_and_the_stack_grow_are_left_alone() {
        let libraries = 0x7fff_f000_0000..0x7fff_f100_0000;
        let stack = 0x7fff_ff00_0000..0x7fff_ff02_0000;
        // At low addresses.
        let all = mapped(&[0x40_0000..0x50_0000, libraries.clone(), stack.clone()]);
        let usable = usable_gaps(&all, 0x50_0000, stack.start + 8);
        assert_eq!(usable[0].start, 0x40_0000 + (1 << 31) - (64 << 20));
        assert_eq!(usable[0].end, libraries.start);
        assert_eq!(usable[1], libraries.end..stack.start - (128 << 20));
        assert_eq!(usable.len(), 3);
        // At high ones, where what is below is nobody's; the heap has a place of its own.
        let (program, heap) =
            (0x5555_5555_4000..0x5555_5565_4000, 0x5555_5600_0000..0x5555_5602_1000);
        let all = mapped(&[program.clone(), heap.clone(), libraries, stack.clone()]);
        let usable = usable_gaps(&all, heap.end, stack.start + 8);
        assert_eq!(usable[0].end, program.start);
        assert_eq!(usable[1], program.end..heap.start);
        assert!(usable[2].start > heap.end + (1 << 30));
    }

    #[test]
    fn lines_are_understood() {
        let lines = [
            "55d0c000-55d0e000 r-xp 00001000 fe:00 12  /bin/x y",
            "55d0e000-55d0f000 ---p 0 0:0 0",
            "55d10000-55d11000 rw-p 0 0:0 0 [heap]",
        ];
        let all: Vec<_> = lines.iter().filter_map(|l| parse(l)).collect();
        assert_eq!(all.len(), 3);
        assert!(
            all[0].readable
                && all[0].executable
                && !all[0].writable
                && !all[1].readable
                && all[2].writable
        );
        assert_eq!(gaps(&all)[1], 0x55d0_f000..0x55d1_0000);
        assert!(is_readable(&all, &(0x55d0_c000..0x55d0_e000)));
        assert!(!is_readable(&all, &(0x55d0_d000..0x55d0_e001)), "the next one cannot be read");
        assert!(!is_readable(&all, &(0x55d1_0000..0x55d1_1001)), "a hole behind");
        assert!(parse("rubbish").is_none());
    }
}
