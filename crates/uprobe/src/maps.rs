//! The process's mappings, as the kernel lists them.

use crate::descriptor::Descriptor;
use alloc::{vec, vec::Vec};
use core::ops::Range;
use sys::file::O_RDONLY;

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
    // Of the heap: the caller's stack may be a small one. The kernel gives a page at a time.
    let mut text = vec![0; 4096];
    let (mut mappings, mut lines) = (Vec::new(), Lines::default());
    let (of_thread, of_process) = (c"/proc/thread-self/maps", c"/proc/self/maps");
    if let Some(file) = Descriptor::open_own(of_thread, of_process, O_RDONLY) {
        loop {
            let part = file.read(&mut text);
            if part == 0 {
                break;
            }
            lines.add(&text[..part], &mut mappings);
        }
    }
    mappings
}

/// Bytes of a line that are looked at: two addresses and the flags. Names of files come behind.
const HEAD: usize = 40;

/// A text that comes in parts of any length.
struct Lines {
    head: [u8; HEAD],
    /// Bytes of the line so far, at most [`HEAD`].
    len: usize,
}

impl Default for Lines {
    fn default() -> Self {
        Self { head: [0; HEAD], len: 0 }
    }
}

impl Lines {
    /// The next part: puts the mapping of each line that ends in it behind the others.
    fn add(&mut self, part: &[u8], mappings: &mut Vec<Mapping>) {
        for byte in part {
            if *byte == b'\n' {
                mappings.extend(parse(&self.head[..self.len]));
                self.len = 0;
            } else if let Some(place) = self.head.get_mut(self.len) {
                *place = *byte;
                self.len += 1;
            }
        }
    }
}

/// A line's mapping, from its beginning.
fn parse(line: &[u8]) -> Option<Mapping> {
    let mut words = line.split(|byte| matches!(byte, b' ' | b'-'));
    let range = hex(words.next()?)?..hex(words.next()?)?;
    // The flags may have the sign of the range in them.
    let flags = line.split(|byte| *byte == b' ').nth(1)?;
    Some(Mapping {
        range,
        readable: flags.first() == Some(&b'r'),
        writable: flags.get(1) == Some(&b'w'),
        executable: flags.get(2) == Some(&b'x'),
    })
}

fn hex(digits: &[u8]) -> Option<u64> {
    let digit =
        |n: u64, digit: &u8| Some(n.checked_mul(16)? + u64::from(char::from(*digit).to_digit(16)?));
    if digits.is_empty() { None } else { digits.iter().try_fold(0, digit) }
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
#[allow(unsafe_code)]
mod tests {
    extern crate std;

    use super::{Lines, Mapping, gaps, hex, is_readable, read, usable_gaps};
    use crate::descriptor::Descriptor;
    use crate::leaderless;
    use alloc::vec::Vec;
    use core::ptr;
    use sys::memory::{MAP_PRIVATE, PROT_READ, munmap};

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

    fn parsed(text: &[u8], part: usize) -> Vec<Mapping> {
        let (mut mappings, mut lines) = (Vec::new(), Lines::default());
        text.chunks(part).for_each(|part| lines.add(part, &mut mappings));
        mappings
    }

    #[test]
    fn lines_are_understood() {
        // Names are bytes of any kind, and of any length.
        let text = [
            b"55d0c000-55d0e000 r-xp 00001000 fe:00 12  /bin/\xff y\n".as_slice(),
            b"55d0e000-55d0f000 ---p 0 0:0 0\nrubbish\n\n",
            &[b'x'; 9000],
            b"\n55d10000-55d11000 rw-p 0 0:0 0 [heap]\n",
            b"ffffffffff600000-ffffffffff601000 --xp 0 0:0 0 [vsyscall]\n55d12000-5",
        ]
        .concat();
        let all = parsed(&text, text.len());
        assert_eq!(all.len(), 4);
        assert!(
            all[0].readable
                && all[0].executable
                && !all[0].writable
                && !all[1].readable
                && all[2].writable
                && all[3].executable
        );
        assert_eq!(gaps(&all)[1], 0x55d0_f000..0x55d1_0000);
        assert_eq!(all[3].range.end, 0xffff_ffff_ff60_1000);
        assert!(is_readable(&all, &(0x55d0_c000..0x55d0_e000)));
        assert!(!is_readable(&all, &(0x55d0_d000..0x55d0_e001)), "the next one cannot be read");
        assert!(!is_readable(&all, &(0x55d1_0000..0x55d1_1001)), "a hole behind");
        for part in [1, 7, 64, 4096] {
            assert_eq!(parsed(&text, part), all, "in parts of {part}");
        }
    }

    #[test]
    fn numbers_are_hexadecimal_or_none() {
        assert_eq!((hex(b"0"), hex(b"7fffF")), (Some(0), Some(0x7_ffff)));
        assert_eq!((hex(b"ffffffffffffffff"), hex(b"10000000000000000")), (Some(u64::MAX), None));
        assert_eq!((hex(b""), hex(b"+1"), hex(b"g")), (None, None, None));
    }

    #[test]
    fn the_own_process_is_read_to_the_end() {
        let here = &raw const HERE as u64;
        let on_stack = 0_u8;
        let stack = &raw const on_stack as u64;
        // Names are bytes of any kind.
        let file = Descriptor::in_memory(c"\xff").expect("a file");
        // SAFETY: a new mapping.
        let named = unsafe { file.map(0, 4096, PROT_READ, MAP_PRIVATE) }.expect("a mapping");
        let mappings = read();
        assert!(mappings.iter().any(|m| m.range.start == named as u64 && !m.writable));
        assert!(mappings.iter().any(|m| m.range.contains(&here) && m.readable));
        assert!(mappings.iter().any(|m| m.range.contains(&stack) && m.writable));
        assert!(mappings.is_sorted_by_key(|m| m.range.start));
        // Others map and unmap meanwhile.
        let text = std::fs::read("/proc/self/maps").expect("it is there");
        let lines = text.iter().filter(|byte| **byte == b'\n').count();
        assert!(lines.abs_diff(mappings.len()) < 100);
        // SAFETY: mapped above, and nobody looks at it.
        unsafe { munmap(ptr::with_exposed_provenance_mut(named), 4096) }.expect("it is there");
    }

    #[test]
    fn a_process_whose_first_thread_has_ended_is_read() {
        assert!(leaderless::ask(|| {
            let here = &raw const HERE as u64;
            read().iter().any(|m| m.range.contains(&here))
        }));
    }

    static HERE: u8 = 0;
}
