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
    use super::{gaps, is_readable, parse};

    #[test]
    fn lines_are_understood() {
        let lines = [
            "55d0c000-55d0e000 r-xp 00001000 fe:00 12  /bin/x y",
            "55d0e000-55d0f000 ---p 0 0:0 0",
            "55d10000-55d11000 rw-p 0 0:0 0 [heap]",
        ];
        let all: Vec<_> = lines.iter().filter_map(|l| parse(l)).collect();
        assert_eq!(all.len(), 3);
        assert!(all[0].readable && all[0].executable && !all[0].writable && !all[1].readable && all[2].writable);
        assert_eq!(gaps(&all)[1], 0x55d0_f000..0x55d1_0000);
        assert!(is_readable(&all, &(0x55d0_c000..0x55d0_e000)));
        assert!(!is_readable(&all, &(0x55d0_d000..0x55d0_e001)), "the next one cannot be read");
        assert!(!is_readable(&all, &(0x55d1_0000..0x55d1_1001)), "a hole behind");
        assert!(parse("rubbish").is_none());
    }
}
