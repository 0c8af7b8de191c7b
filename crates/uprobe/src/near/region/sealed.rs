//! Written to memory files, whose pages are mapped executable and private: nothing that is
//! executable is written again, neither here nor in a fork child. Each batch begins a page.
#![allow(unsafe_code)]

use crate::descriptor::Descriptor;
use crate::mapping::keep_at;
use crate::text::Text;
use alloc::vec::Vec;
use core::ops::Range;
use sys::memory::{MAP_FIXED, MAP_PRIVATE, PROT_EXEC, PROT_READ};

const PAGE: u64 = 4096;
const ALIGN: u64 = 16;

#[derive(Debug)]
pub(crate) struct Region {
    pub(crate) range: Range<u64>,
    pub(crate) next: u64,
    /// What is still to be mapped: from the first byte of a page up to `next`.
    staged: Vec<u8>,
}

impl Region {
    /// One exactly there. `None`: it is taken.
    pub(crate) fn map(at: u64, size: u64) -> Option<Self> {
        let (range, staged) = (at..at + size, Vec::new());
        keep_at(at, size).then_some(Self { range, next: at, staged })
    }

    /// Appends code at `at`, behind all that there is.
    pub(crate) fn put(&mut self, at: u64, code: &[u8]) {
        let end = at + code.len() as u64;
        self.next = end.next_multiple_of(ALIGN);
        self.staged.extend_from_slice(code);
        self.staged.resize(self.staged.len() + (self.next - end) as usize, 0);
    }

    /// Makes executable what was appended. False: the system does not allow it; it is tried again
    /// with the next batch.
    pub(crate) fn seal(&mut self, _: &Text) -> bool {
        if self.staged.is_empty() {
            return true;
        }
        let at = self.next - self.staged.len() as u64;
        let end = self.next.next_multiple_of(PAGE);
        let (protection, flags) = (PROT_READ | PROT_EXEC, MAP_PRIVATE | MAP_FIXED);
        let sealed = Descriptor::in_memory(c"trapline", self.staged.len()).filter(|file| {
            file.write(&self.staged, 0)
                // SAFETY: replaces pages of the region, of which nobody uses any yet.
                && unsafe { file.map(at as usize, (end - at) as usize, protection, flags) }
                    .is_some()
        });
        if sealed.is_none() {
            return false;
        }
        (self.next, self.staged) = (end, Vec::new());
        true
    }
}
