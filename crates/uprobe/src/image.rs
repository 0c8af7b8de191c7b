//! The process as the search for branches into functions sees it.
#![allow(unsafe_code)]

use crate::maps::Mapping;
use core::ops::Range;
use core::ptr;
use patch::Image;

/// What is mapped.
pub(crate) struct Process<'m> {
    pub(crate) mappings: &'m [Mapping<'m>],
    /// Functions that are sought, of which each lies in one part of the code.
    pub(crate) sought: &'m [u64],
}

impl Image for Process<'_> {
    /// Only of objects that functions are sought in: others may be unmapped at any time.
    fn code(&self) -> impl Iterator<Item = (u64, &[u8])> {
        let code = self.mappings.iter().filter(|m| m.executable && m.readable);
        let here = code.filter(|m| self.sought.iter().any(|at| m.range.contains(at)));
        here.map(|m| {
            // SAFETY: a readable mapping of code, which nobody unmaps: one of the functions that
            // are being armed is in it. Others change it with patches only.
            (m.range.start, unsafe { bytes(&m.range) })
        })
    }

    fn read(&self, address: u64, into: &mut [u8]) -> bool {
        let Some(end) = address.checked_add(into.len() as u64) else { return false };
        let mut mappings = self.mappings.iter().filter(|m| m.readable);
        let known = mappings.any(|m| m.range.start <= address && end <= m.range.end);
        if known {
            // SAFETY: inside a readable mapping, of the library that the function belongs to.
            unsafe {
                ptr::copy_nonoverlapping(
                    ptr::with_exposed_provenance(address as usize),
                    into.as_mut_ptr(),
                    into.len(),
                )
            };
        }
        known
    }
}

/// # Safety
/// The range is mapped, readable, and stays so while the result is used.
unsafe fn bytes<'a>(range: &Range<u64>) -> &'a [u8] {
    // SAFETY: the caller's.
    unsafe {
        core::slice::from_raw_parts(
            ptr::with_exposed_provenance(range.start as usize),
            (range.end - range.start) as usize,
        )
    }
}
