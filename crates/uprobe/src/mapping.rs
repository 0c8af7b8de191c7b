//! New mappings.
#![allow(unsafe_code)]

use crate::sealed;
#[cfg(not(feature = "std"))]
use sys::memory::PROT_NONE;
use sys::memory::{
    self, MAP_ANONYMOUS, MAP_FIXED_NOREPLACE, MAP_NORESERVE, MAP_PRIVATE, PROT_READ, PROT_WRITE,
};

/// Memory that costs nothing until it is touched. None where the program has given up system calls.
pub(crate) fn zeros(bytes: usize) -> Option<*mut u8> {
    if sealed::is_sealed() {
        return None;
    }
    let flags = MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE;
    // SAFETY: a new mapping of its own.
    let memory = unsafe { memory::mmap(0, bytes, PROT_READ | PROT_WRITE, flags, -1, 0) }.ok()?;
    memory.expose_provenance();
    Some(memory)
}

/// Maps writable memory exactly there.
pub(crate) fn map_at(at: u64, size: u64) -> bool {
    map(at, size, PROT_READ | PROT_WRITE)
}

/// Takes the addresses exactly there, for mappings of our own. Nothing can be done there.
#[cfg(not(feature = "std"))]
pub(crate) fn keep_at(at: u64, size: u64) -> bool {
    map(at, size, PROT_NONE)
}

fn map(at: u64, size: u64, protection: i32) -> bool {
    let (at, size, flags) =
        (at as usize, size as usize, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE);
    // SAFETY: NOREPLACE takes nothing from anybody.
    let Ok(got) = (unsafe { memory::mmap(at, size, protection, flags, -1, 0) }) else {
        return false;
    };
    if got.expose_provenance() == at {
        return true;
    }
    // Kernels before 4.17 take the address as a hint.
    // SAFETY: the mapping was just made and is unused.
    let _ = unsafe { memory::munmap(got, size) };
    false
}
