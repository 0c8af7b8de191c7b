//! A part of a block as the command line reads it: what is there, and no more. Touching a page that
//! a file does not have would make it, or kill where there is no room for it.

use crate::block::Counts;
use crate::descriptor::Descriptor;
use crate::error::Error;
use crate::function::{Function, Kind};
use crate::layout::PAGE;
use crate::memory::{Access, Memory};
use crate::segment::Segment;
use core::ops::Range;

/// A part of a block, mapped for reading.
#[derive(Debug)]
pub struct View {
    memory: Memory,
    /// Where in the block it begins.
    start: usize,
}

impl Segment {
    /// Where the cells of a block lie in the file of the counters.
    pub fn block_range(&self, block: usize) -> Option<Range<u64>> {
        (block < self.layout.shape.blocks).then_some(())?;
        let start =
            self.counters_at + (self.layout.blocks + block * self.layout.block_bytes) as u64;
        Some(start..start + self.layout.block_bytes as u64)
    }

    /// Maps a part of a block that has pages. `part` is a range of the file of the counters, within
    /// the block's; it is rounded to pages.
    ///
    /// # Errors
    /// [`Error::System`].
    pub fn view<'f>(
        &self,
        counters: impl Into<Descriptor<'f>>,
        block: usize,
        part: &Range<u64>,
    ) -> Result<View, Error> {
        let all = self.block_range(block).ok_or(Error::Corrupt("no such block"))?;
        let start = part.start.max(all.start) / PAGE as u64 * PAGE as u64;
        let bytes = part.end.min(all.end).saturating_sub(start) as usize;
        let bytes = bytes.max(1);
        let memory = Memory::map(counters.into(), start, bytes, bytes, Access::Read)?;
        Ok(View { memory, start: (start - all.start) as usize })
    }
}

impl View {
    /// What is counted of a function here. A cell that is only partly in the view has zeros
    /// elsewhere.
    pub fn counts(&self, function: &Function) -> Counts {
        let mut counts = Counts::zero(function.kind == Kind::Time);
        counts.add(|word| {
            let at = (function.cell as usize + word).checked_sub(self.start);
            at.map_or(0, |at| self.memory.load64(at))
        });
        counts
    }

    /// Bytes of the block that are in the view.
    pub fn range(&self) -> Range<usize> {
        self.start..self.start + self.memory.bytes()
    }
}
