//! One word that has both the head of a thread's free list and the top of its active list, so that a hit changes both in one instruction.
//!
//! Bits 0..24: offset of the first free instance (0: none). Bits 24..48: offset of the newest active one (that of a chunk's header: none). Bits 48..64: a version.
//!
//! Only the thread and its signal handlers change it. A handler that interrupts a change between the read of the word and its compare-and-swap has finished its own
//! changes when the interrupted code goes on, whose compare-and-swap then fails on the version, and which starts again. So the instruction needs no lock prefix, and no order of
//! nesting is assumed: a handler may leave instances behind, or switch to another stack for good.

use crate::instance::OFFSET;

/// A value of the word.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Word(pub(crate) u64);

impl Word {
    /// First free instance, 0 if there is none.
    #[inline]
    pub(crate) fn free(self) -> u32 {
        self.0 as u32 & OFFSET
    }

    /// Newest active instance, or a header.
    #[inline]
    pub(crate) fn top(self) -> u32 {
        (self.0 >> 24) as u32 & OFFSET
    }

    /// The word after this one.
    #[inline]
    pub(crate) fn then(self, top: u32, free: u32) -> Self {
        let version = (self.0 >> 48).wrapping_add(1);
        Self(version << 48 | u64::from(top & OFFSET) << 24 | u64::from(free & OFFSET))
    }
}

#[cfg(test)]
mod tests {
    use super::Word;

    #[test]
    fn parts_are_kept_apart_and_the_version_wraps() {
        let word = Word(0xffff_0000_0000_0000).then(0xff_ffc0, 0x40);
        assert_eq!((word.top(), word.free(), word.0 >> 48), (0xff_ffc0, 0x40, 0));
        assert_eq!(word.then(0, 0).0 >> 48, 1);
    }
}
