//! Written, then made executable. What later batches add to the rest of a region is kept until they
//! are complete, and then written at once through [`crate::text`].
#![allow(unsafe_code)]

use crate::mapping::map_at;
use crate::text::Text;
use alloc::vec::Vec;
use core::ops::Range;
use core::ptr;
use sys::memory::{self, PROT_EXEC, PROT_READ};

const ALIGN: u64 = 16;

#[derive(Debug)]
pub(crate) struct Region {
    pub(crate) range: Range<u64>,
    pub(crate) next: u64,
    executable: bool,
    /// What is still to be written to an executable region: its last bytes up to `next`.
    staged: Vec<u8>,
}

impl Region {
    /// One exactly there. `None`: it is taken.
    pub(crate) fn map(at: u64, size: u64) -> Option<Self> {
        let (range, staged) = (at..at + size, Vec::new());
        map_at(at, size).then_some(Self { range, next: at, executable: false, staged })
    }

    /// Appends code at `at`, behind all that there is.
    pub(crate) fn put(&mut self, at: u64, code: &[u8]) {
        let end = at + code.len() as u64;
        let next = end.next_multiple_of(ALIGN);
        if self.executable {
            self.staged.extend_from_slice(code);
            self.staged.resize(self.staged.len() + (next - end) as usize, 0);
        } else {
            let to = ptr::with_exposed_provenance_mut(at as usize);
            // SAFETY: the bytes lie in a writable region of ours, behind everything that was handed
            // out before.
            unsafe { ptr::copy_nonoverlapping(code.as_ptr(), to, code.len()) };
        }
        self.next = next;
    }

    /// Writes what is to be written, and makes it executable. False: the system does not allow it.
    pub(crate) fn seal(&mut self, text: &Text) -> bool {
        if self.executable {
            let staged = core::mem::take(&mut self.staged);
            return staged.is_empty() || text.write(self.next - staged.len() as u64, &staged);
        }
        let at = ptr::with_exposed_provenance_mut(self.range.start as usize);
        let len = (self.range.end - self.range.start) as usize;
        // SAFETY: the whole region is ours.
        self.executable = unsafe { memory::mprotect(at, len, PROT_READ | PROT_EXEC) }.is_ok();
        self.executable
    }
}
