//! Where blocks go: a place with much room on both sides.

use alloc::vec::Vec;
use core::ops::ControlFlow;
use sys::mappings;

/// Places are multiples of this, so that nobody's pages share a table with ours.
const ALIGN: usize = 1 << 30;
/// End of user space with four-level page tables.
const HIGHEST: usize = 0x7fff_ffff_f000;

/// Where `bytes` of address space are free, in the middle of the largest hole. Where nothing is
/// known of the address space, somewhere: blocks that cannot be mapped are not used.
///
/// # Context
/// Allocates; some system calls.
pub fn find(bytes: usize) -> usize {
    let mut taken = Vec::new();
    // What was heard before an error is as good as nothing: a place that is not free is not used.
    let _ = mappings::read(&mut [0; 4096], |line| {
        let range = mappings::addresses(line);
        taken.extend(range.map(|(start, end)| (start as usize, end as usize)));
        ControlFlow::Continue(())
    });
    middle(taken.into_iter(), bytes)
}

fn middle(mappings: impl Iterator<Item = (usize, usize)>, bytes: usize) -> usize {
    let (mut end, mut largest) = (ALIGN, (ALIGN, ALIGN));
    for (start, next) in mappings.chain([(HIGHEST, HIGHEST)]).filter(|(start, _)| *start <= HIGHEST)
    {
        if start.saturating_sub(end) > largest.1 - largest.0 {
            largest = (end, start);
        }
        end = end.max(next);
    }
    let spare = (largest.1 - largest.0).saturating_sub(bytes);
    (largest.0 + spare / 2) / ALIGN * ALIGN
}

#[cfg(test)]
mod tests {
    use super::{ALIGN, HIGHEST, find, middle};

    #[test]
    fn in_the_middle_of_the_largest_hole() {
        let low = (0x5555_0000_0000, 0x5555_0001_0000);
        let high = (0x7f00_0000_0000, HIGHEST);
        assert_eq!(middle([low, high].into_iter(), 0), (ALIGN + low.0) / 2 / ALIGN * ALIGN);
        let shadow = (0x1000_0000_0000, 0x5555_0001_0000);
        let at = middle([shadow, high].into_iter(), 1 << 40);
        assert!(at > shadow.1 + (1 << 40) && at + (2 << 40) < high.0, "{at:x}");
        assert_ne!(find(1 << 40), 0);
    }
}
