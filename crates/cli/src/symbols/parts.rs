//! Which nameless pieces of code are parts of functions and no functions.
//!
//! GCC splits the unlikely half of a function off and puts it elsewhere, with an unwind entry of its own. In a stripped object nothing else tells it from a function, and where the
//! half that jumps there has pushed nothing, not even the shape of its stack. What does: nobody calls it and nobody takes its address; it is only jumped to. A probe at its start must not be set as at a
//! function's, since the caller's red zone and registers are alive there.

use super::elf::{Elf, PT_LOAD, u32_at};
use super::unwind::Frame;
use std::collections::HashSet;

const CALL: u8 = 0xe8;
const LEA: u8 = 0x8d;
/// `mov` of an immediate value to one of eight registers.
const MOVE: u8 = 0xb8;
const RELATIVE: u32 = 8;
const RELA: usize = 24;

/// The starts of those of `frames` that other code jumps to, while nobody calls them or takes their address. A function that is only ever tail-called is among them.
pub(super) fn only_jumped_to(elf: &Elf<'_>, frames: &[Frame]) -> HashSet<u64> {
    let mut targets = Vec::new();
    for frame in frames {
        let bytes = elf.bytes_from(frame.start);
        let size = usize::try_from(frame.end - frame.start).unwrap_or(usize::MAX).min(bytes.len());
        patch::branch_targets(frame.start, &bytes[..size], &mut targets);
    }
    let starts: HashSet<u64> = frames.iter().map(|frame| frame.start).collect();
    let mut found: HashSet<u64> = targets.into_iter().filter(|target| starts.contains(target)).collect();
    for segment in elf.segments.iter().filter(|segment| segment.kind == PT_LOAD) {
        let bytes = elf.bytes_from(segment.address);
        if segment.executable() {
            referred_to(segment.address, bytes, |target| {
                found.remove(&target);
            });
        } else {
            // Tables of pointers, where they need no relocation or have their value in place (DT_RELR).
            let unaligned = segment.address.wrapping_neg() as usize % 8;
            for word in bytes.get(unaligned..).unwrap_or(&[]).chunks_exact(8) {
                if word[6] == 0 && word[7] == 0 {
                    found.remove(&u64::from_le_bytes(word.try_into().unwrap_or_default()));
                }
            }
        }
    }
    for section in elf.sections.iter().filter(|section| section.name == ".rela.dyn") {
        for entry in section.data.chunks_exact(RELA).filter(|entry| u32_at(entry, 8) == Some(RELATIVE)) {
            if let (Some(low), Some(high)) = (u32_at(entry, 16), u32_at(entry, 20)) {
                found.remove(&(u64::from(low) | u64::from(high) << 32));
            }
        }
    }
    found
}

/// Everything in `code` that could be the target of a call, or an address that `lea` or `mov` takes. Read at each byte: too many do no harm, since only starts of functions are looked for.
fn referred_to(address: u64, code: &[u8], mut see: impl FnMut(u64)) {
    for (at, &byte) in code.iter().enumerate() {
        let relative = if byte == CALL {
            at + 1
        } else if byte & 0xf8 == MOVE {
            // In programs that are not position-independent.
            if let Some(target) = u32_at(code, at + 1) {
                see(u64::from(target));
            }
            continue;
        } else if byte == LEA && at > 0 && matches!(code[at - 1], 0x48 | 0x4c) && code.get(at + 1).is_some_and(|modrm| modrm & 0xc7 == 5) {
            at + 2
        } else {
            continue;
        };
        if let Some(distance) = u32_at(code, relative) {
            see(address.wrapping_add(relative as u64 + 4).wrapping_add_signed(i64::from(distance.cast_signed())));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::referred_to;

    #[test]
    fn calls_and_addresses_are_found() {
        let mut code = vec![0x90; 32];
        code[3..8].copy_from_slice(&[0xe8, 0x08, 0, 0, 0]);
        code[10..17].copy_from_slice(&[0x48, 0x8d, 0x3d, 0xef, 0xff, 0xff, 0xff]);
        let mut found = Vec::new();
        referred_to(0x1000, &code, |target| found.push(target));
        assert_eq!(found, [0x1010, 0x1000]);
        referred_to(0x1000, &[0xe8, 0, 0], |_| panic!("cut off"));
    }
}
