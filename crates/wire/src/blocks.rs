//! Where the blocks' cells are, for this process.

use crate::memory::{Access, Memory};
use crate::spaces::{Places, Spaces};
use core::ptr::{self, NonNull};

#[derive(Debug)]
pub(crate) enum Blocks {
    /// All of them, mapped: in one process, for few of them.
    Whole { memory: Memory, block_bytes: usize },
    /// Those of this process's threads.
    Spaces(Spaces),
    /// Nowhere: the command line looks at parts of them ([`crate::View`]).
    Unmapped,
}

impl Blocks {
    pub(crate) fn open(&self, index: usize, bytes: usize, filled: usize) -> bool {
        match self {
            Self::Whole { memory, block_bytes } => {
                filled == 0 || memory.populate(index * block_bytes, filled)
            }
            Self::Spaces(spaces) => spaces.map(index, bytes, filled),
            Self::Unmapped => false,
        }
    }

    pub(crate) fn close(&self, index: usize) {
        if let Self::Spaces(spaces) = self {
            spaces.unmap(index);
        }
    }

    /// As [`Spaces::vacate`].
    pub(crate) fn vacate(&self) -> Places {
        match self {
            Self::Spaces(spaces) => spaces.vacate(),
            _ => Places::default(),
        }
    }

    /// The blocks below `len` that are mapped.
    pub(crate) fn mapped(&self, len: usize) -> impl Iterator<Item = usize> {
        (0..len).filter(|index| match self {
            Self::Whole { .. } => true,
            Self::Spaces(spaces) => spaces.mapped(*index) > 0,
            Self::Unmapped => false,
        })
    }

    pub(crate) fn cells(&self, index: usize) -> Option<(NonNull<u8>, usize)> {
        match self {
            Self::Whole { memory, block_bytes } => {
                Some((memory.pointer(index * block_bytes, *block_bytes)?, *block_bytes))
            }
            Self::Spaces(spaces) => {
                let place = NonNull::new(ptr::with_exposed_provenance_mut(spaces.place(index)))?;
                Some((place, spaces.mapped(index))).filter(|(_, bytes)| *bytes > 0)
            }
            Self::Unmapped => None,
        }
    }

    pub(crate) fn index(&self, address: usize) -> Option<usize> {
        match self {
            Self::Whole { memory, block_bytes } => {
                let first = memory.pointer(0, 0)?.as_ptr().addr();
                let offset = address.checked_sub(first)?;
                (offset.is_multiple_of(*block_bytes) && offset < memory.bytes())
                    .then_some(offset / block_bytes)
            }
            Self::Spaces(spaces) => spaces.index(address),
            Self::Unmapped => None,
        }
    }

    /// A word of a block's cells; 0 where it is not mapped as a whole.
    pub(crate) fn load(&self, index: usize, offset: usize) -> u64 {
        match self {
            Self::Whole { memory, block_bytes } => memory.load64(index * block_bytes + offset),
            _ => 0,
        }
    }

    pub(crate) fn whole(memory: Memory, block_bytes: usize) -> Self {
        Self::Whole { memory, block_bytes }
    }

    pub(crate) const ACCESS: Access = Access::Write;
}
