//! Executable memory near code: where stubs live.
//!
//! A jump reaches 2 GiB, so each neighbourhood has regions of its own. They are filled from the
//! front and never given back: a thread may be asleep in a stub long after its site was disarmed.
//! How what is written to them becomes executable is a [`region`](Region)'s business. No page is
//! ever writable and executable at once.

mod region;

use crate::text::Text;
use alloc::vec::Vec;
use core::ops::Range;
use region::Region;

const PAGE: u64 = 4096;
/// Room for some hundreds of stubs.
const REGION: u64 = 256 << 10;
/// Longest code that one reservation holds.
pub(crate) const LONGEST: u64 = 4096;

/// All regions.
#[derive(Debug, Default)]
pub(crate) struct Near {
    regions: Vec<Region>,
    /// Holes in the address space, when last looked.
    gaps: Vec<Range<u64>>,
}

impl Near {
    /// Looks at the address space anew, at the start of a batch.
    pub(crate) fn refresh(&mut self, gaps: Vec<Range<u64>>) {
        self.gaps = gaps;
    }

    /// An address from which [`LONGEST`] bytes can be written, all of them within `reach`, as close
    /// to `wanted` as there is room. [`Near::commit`] takes what was needed.
    pub(crate) fn reserve(&mut self, reach: &Range<u64>, wanted: u64) -> Option<u64> {
        let fits =
            |r: &Region| r.next >= reach.start && r.next + LONGEST <= r.range.end.min(reach.end);
        if let Some(region) = self.regions.iter().find(|r| fits(r)) {
            return Some(region.next);
        }
        self.map(reach, wanted)
    }

    fn map(&mut self, reach: &Range<u64>, wanted: u64) -> Option<u64> {
        let usable = reach.start.next_multiple_of(PAGE)..reach.end / PAGE * PAGE;
        for size in [REGION, 16 * PAGE, 2 * PAGE] {
            let mut places: Vec<u64> =
                self.gaps.iter().filter_map(|gap| place(gap, &usable, size, wanted)).collect();
            sys::sort::by_key(&mut places, |at| at.abs_diff(wanted));
            // Not all: each costs a system call, and a gap that fails was taken by somebody just
            // now.
            for at in places.into_iter().take(16) {
                if let Some(region) = Region::map(at, size) {
                    self.regions.push(region);
                    self.take(at..at + size);
                    return Some(at);
                }
            }
        }
        None
    }

    /// Removes `range` from the gaps.
    fn take(&mut self, range: Range<u64>) {
        let mut left = Vec::with_capacity(self.gaps.len() + 1);
        for gap in self.gaps.drain(..) {
            if gap.end <= range.start || range.end <= gap.start {
                left.push(gap);
                continue;
            }
            left.extend(
                [gap.start..range.start, range.end..gap.end]
                    .into_iter()
                    .filter(|g| g.start < g.end),
            );
        }
        self.gaps = left;
    }

    /// Takes `code` for `at`, which [`Near::reserve`] gave, and keeps it. It is there when the
    /// batch is sealed.
    pub(crate) fn commit(&mut self, at: u64, code: &[u8]) -> bool {
        let region =
            self.regions.iter_mut().find(|r| r.next == at && r.range.end >= at + code.len() as u64);
        region.map(|region| region.put(at, code)).is_some()
    }

    /// Makes everything that was committed executable. False: the system does not allow it.
    pub(crate) fn seal(&mut self, text: &Text) -> bool {
        // All of them, also behind one that fails: what is staged belongs to this batch.
        self.regions.iter_mut().filter_map(|region| (!region.seal(text)).then_some(())).count() == 0
    }

    /// Bytes mapped.
    pub(crate) fn bytes(&self) -> u64 {
        self.regions.iter().map(|r| r.range.end - r.range.start).sum()
    }
}

/// Where in `gap` a mapping of `size` bytes lies within `usable`, as close to `wanted` as possible.
fn place(gap: &Range<u64>, usable: &Range<u64>, size: u64, wanted: u64) -> Option<u64> {
    // A page is left free on both sides: the heap and stacks grow, and nobody wants to run into a
    // stub.
    let low = (gap.start + PAGE).next_multiple_of(PAGE).max(usable.start);
    let high = (gap.end.checked_sub(PAGE)? / PAGE * PAGE).min(usable.end).checked_sub(size)?;
    (low <= high).then(|| (wanted / PAGE * PAGE).clamp(low, high))
}

#[cfg(test)]
mod tests {
    use super::place;

    #[test]
    fn places_are_as_close_as_the_gap_allows() {
        let all = 0..u64::MAX;
        assert_eq!(place(&(0x10000..0x20000), &all, 0x1000, 0x15678), Some(0x15000));
        assert_eq!(place(&(0x10000..0x20000), &all, 0x1000, 0x5000), Some(0x11000));
        assert_eq!(place(&(0x10000..0x20000), &all, 0x1000, 0x90000), Some(0x1e000));
        assert_eq!(place(&(0x10000..0x12000), &all, 0x1000, 0), None);
        assert_eq!(place(&(0x10000..0x20000), &(0x18000..0x1a000), 0x1000, 0), Some(0x18000));
        assert_eq!(place(&(0x10000..0x20000), &(0x18000..0x18800), 0x1000, 0), None);
    }
}
