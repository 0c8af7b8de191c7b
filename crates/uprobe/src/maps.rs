//! The process's mappings, and the holes between them.

use alloc::{vec, vec::Vec};
use core::ops::{ControlFlow, Range};
pub(crate) use sys::mappings::Mapping;
use sys::mappings::read as read_list;

/// Lowest address that a mapping may have; below are the kernel's guard pages.
const LOWEST: u64 = 0x10000;
/// End of user space with four-level page tables.
const HIGHEST: u64 = 0x7fff_ffff_f000;

/// All mappings, without their paths, ascending. Empty when /proc is not there.
pub(crate) fn read() -> Vec<Mapping<'static>> {
    // Of the heap: the caller's stack may be a small one. The kernel gives a page at a time.
    let mut text = vec![0; 4096];
    let mut mappings = Vec::new();
    let complete = read_list(&mut text, |line| {
        mappings.extend(Mapping::parse(line).map(Mapping::without_path));
        ControlFlow::Continue(())
    });
    if complete.is_ok() { mappings } else { Vec::new() }
}

/// The holes between mappings, ascending.
pub(crate) fn gaps(mappings: &[Mapping<'_>]) -> Vec<Range<u64>> {
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
pub(crate) fn usable_gaps(mappings: &[Mapping<'_>], heap: u64, stack: u64) -> Vec<Range<u64>> {
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
pub(crate) fn is_readable(mappings: &[Mapping<'_>], range: &Range<u64>) -> bool {
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

    use super::{Mapping, gaps, is_readable, read, usable_gaps};
    use crate::descriptor::Descriptor;
    use crate::leaderless;
    use alloc::vec::Vec;
    use core::ptr;
    use sys::memory::{MAP_PRIVATE, PROT_READ, munmap};

    fn mapping(range: core::ops::Range<u64>, readable: bool) -> Mapping<'static> {
        let (offset, dev, ino, path) = (0, 0, 0, &[][..]);
        Mapping { range, readable, writable: true, executable: true, offset, dev, ino, path }
    }

    fn mapped(ranges: &[core::ops::Range<u64>]) -> Vec<Mapping<'static>> {
        ranges.iter().map(|range| mapping(range.clone(), true)).collect()
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
    fn holes_and_what_cannot_be_read() {
        let mut all = mapped(&[0x55d0_c000..0x55d0_e000, 0x55d1_0000..0x55d1_1000]);
        all.insert(1, mapping(0x55d0_e000..0x55d0_f000, false));
        all.push(mapping(0xffff_ffff_ff60_0000..0xffff_ffff_ff60_1000, false));
        assert_eq!(gaps(&all)[1], 0x55d0_f000..0x55d1_0000);
        assert!(is_readable(&all, &(0x55d0_c000..0x55d0_e000)));
        assert!(!is_readable(&all, &(0x55d0_d000..0x55d0_e001)), "the next one cannot be read");
        assert!(!is_readable(&all, &(0x55d1_0000..0x55d1_1001)), "a hole behind");
    }

    #[test]
    fn the_own_process_is_read_to_the_end() {
        let here = &raw const HERE as u64;
        let on_stack = 0_u8;
        let stack = &raw const on_stack as u64;
        // Names are bytes of any kind.
        let file = Descriptor::in_memory(c"\xff", 1 << 20).expect("a file");
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
