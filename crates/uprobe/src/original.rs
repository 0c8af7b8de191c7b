//! Code as it is without our patches.
#![allow(unsafe_code)]

use crate::maps::{self, Mapping};
use crate::sites::State;
use core::ptr;

/// More bytes than any patch has.
const LONGEST_PATCH: usize = 32;

/// Whether the original bytes at an address are these: of functions that are moved as a whole,
/// hundreds.
pub(crate) fn has(state: &State, mappings: &[Mapping<'_>], at: u64, bytes: &[u8]) -> bool {
    const PART: usize = 32;
    let mut there = [0; PART];
    bytes.chunks(PART).zip((at..).step_by(PART)).all(|(bytes, at)| {
        let there = &mut there[..bytes.len()];
        copy_original(state, mappings, at, there) && there == bytes
    })
}

/// Copies the bytes from an address on, as they are without our patches. False: they cannot be
/// read.
pub(crate) fn copy_original(
    state: &State,
    mappings: &[Mapping<'_>],
    start: u64,
    code: &mut [u8],
) -> bool {
    let Some(end) = start.checked_add(code.len() as u64) else { return false };
    if !maps::is_readable(mappings, &(start..end)) {
        return false;
    }
    // SAFETY: the range is mapped and readable; it is code, which nobody but us changes, under the
    // lock that we hold.
    unsafe {
        ptr::copy_nonoverlapping(
            ptr::with_exposed_provenance(start as usize),
            code.as_mut_ptr(),
            code.len(),
        )
    };
    // One that reaches into the range begins at most so far in front of it.
    let first = start.saturating_sub(LONGEST_PATCH as u64);
    for (at, site) in state.sites.range(first..end).filter(|(_, s)| s.armed) {
        for (i, byte) in site.original.iter().take(site.patch.len()).enumerate() {
            if let Some(b) =
                (at + i as u64).checked_sub(start).and_then(|offset| code.get_mut(offset as usize))
            {
                *b = *byte;
            }
        }
    }
    true
}

#[cfg(test)]
mod tests {
    use super::{State, has, maps};

    /// No two parts of it are the same.
    static BYTES: [u8; 512] = {
        let mut bytes = [0; 512];
        let mut n = 0;
        while n < bytes.len() {
            bytes[n] = (n / 2 + n % 3) as u8;
            n += 1;
        }
        bytes
    };

    #[test]
    fn bytes_of_any_length_are_compared() {
        let (state, mappings) = (State::default(), maps::read());
        let at = BYTES.as_ptr().expose_provenance() as u64;
        for len in [0, 1, 31, 32, 33, 64, 65, 512] {
            assert!(has(&state, &mappings, at, &BYTES[..len]), "{len}");
            for wrong in 0..len {
                let mut bytes = BYTES;
                bytes[wrong] ^= 1;
                assert!(!has(&state, &mappings, at, &bytes[..len]), "{wrong} of {len}");
            }
        }
        assert!(!has(&state, &mappings, 0, &[0]), "nothing is there");
    }
}
