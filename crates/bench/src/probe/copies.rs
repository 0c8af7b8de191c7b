//! Copies of the probed functions, one for each row of the engine: a site belongs to one action for
//! good, and a detour that stays where it is needs no arming between measurements.
#![allow(unsafe_code)]

use super::functions::{CALL, FUNCTIONS, LOOP};
use std::io;

const PAGE: usize = 4096;
/// Loops lie this far apart on the page behind the functions, as those of the originals.
const STRIDE: usize = 64;

const _: () =
    assert!(LOOP <= STRIDE && FUNCTIONS.len() * STRIDE <= PAGE, "the loops fit on a page");

/// A copy of a function at the start of its own page, with 0xcc behind it, and of its loop.
#[derive(Clone, Copy, Debug)]
pub(super) struct Copy {
    address: u64,
    size: usize,
    calls: unsafe extern "C" fn(u64),
}

impl Copy {
    /// One of each function, in their order.
    pub(super) fn of_all() -> io::Result<[Self; FUNCTIONS.len()]> {
        let loops = PAGE * FUNCTIONS.len();
        let length = loops + PAGE;
        let (access, kind) =
            (libc::PROT_READ | libc::PROT_WRITE, libc::MAP_PRIVATE | libc::MAP_ANONYMOUS);
        // SAFETY: a new mapping at an address of the kernel's choice.
        let start = unsafe { libc::mmap(std::ptr::null_mut(), length, access, kind, -1, 0) };
        if start == libc::MAP_FAILED {
            return Err(io::Error::last_os_error());
        }
        let start = start.cast::<u8>();
        // SAFETY: the mapping is writable and that long; nobody else knows it.
        unsafe { start.write_bytes(0xcc, length) };
        for (index, function) in FUNCTIONS.iter().enumerate() {
            // SAFETY: inside the mapping.
            let page = unsafe { start.add(index * PAGE) };
            // SAFETY: a function is shorter than a page, and the two do not overlap.
            unsafe { std::ptr::copy_nonoverlapping(function.code().as_ptr(), page, function.size) };
            let calls = relocated(function.calls(), index * PAGE, loops + index * STRIDE);
            // SAFETY: inside the last page of the mapping.
            let place = unsafe { start.add(loops + index * STRIDE) };
            // SAFETY: a loop is shorter than the distance between two.
            unsafe { std::ptr::copy_nonoverlapping(calls.as_ptr(), place, LOOP) };
        }
        // SAFETY: the mapping is ours, and nothing refers to it as data from here on.
        if unsafe { libc::mprotect(start.cast(), length, libc::PROT_READ | libc::PROT_EXEC) } != 0 {
            return Err(io::Error::last_os_error());
        }
        // Never unmapped: stubs jump back into it.
        let start = start.expose_provenance();
        Ok(std::array::from_fn(|index| {
            let calls = std::ptr::with_exposed_provenance::<()>(start + loops + index * STRIDE);
            // SAFETY: a whole loop of the C convention was copied there.
            let calls =
                unsafe { std::mem::transmute::<*const (), unsafe extern "C" fn(u64)>(calls) };
            Self { address: (start + index * PAGE) as u64, size: FUNCTIONS[index].size, calls }
        }))
    }

    /// Where it is.
    pub(super) fn address(&self) -> u64 {
        self.address
    }

    /// Its bytes.
    pub(super) fn size(&self) -> u32 {
        self.size as u32
    }

    /// Bytes behind it that belong to nobody.
    pub(super) fn after(&self) -> u32 {
        (PAGE - self.size) as u32
    }

    /// Calls it `n` times.
    #[inline]
    pub(super) fn call(&self, n: u64) {
        // SAFETY: the loop and its function are whole and run anywhere, in a mapping that stays.
        unsafe { (self.calls)(n) };
    }
}

/// A loop at `at` that calls the function at `function`, both as offsets in one mapping.
fn relocated(calls: &[u8; LOOP], function: usize, at: usize) -> [u8; LOOP] {
    let mut code = *calls;
    let distance = function as i32 - (at + CALL + 5) as i32;
    code[CALL + 1..CALL + 5].copy_from_slice(&distance.to_le_bytes());
    code
}

#[cfg(test)]
mod tests {
    use super::Copy;

    #[test]
    fn copies_run() {
        for copy in Copy::of_all().expect("a mapping") {
            copy.call(3);
        }
    }
}
