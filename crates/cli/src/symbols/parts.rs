//! Which nameless pieces of code are parts of functions and no functions.
//!
//! GCC splits the unlikely half of a function off and puts it elsewhere, with an unwind entry of
//! its own. In a stripped object nothing else tells it from a function, and where the half that
//! jumps there has pushed nothing, not even the shape of its stack. What does: nobody calls it and
//! nobody takes its address; it is only jumped to. A probe at its start must not be set as at a
//! function's, since the other half's red zone and registers are alive there.
//!
//! The code is not decoded: every byte is read as if an instruction could begin there. What that
//! finds by mistake is harmless, since only targets that are exactly the start of an unwind entry
//! count.

use super::elf::{Elf, PT_LOAD, u32_at};
use super::unwind::Frame;

const CALL: u8 = 0xe8;
const JUMP: u8 = 0xe9;
const LEA: u8 = 0x8d;
/// `mov` of an immediate value to one of eight registers: how addresses are taken in programs that
/// are not position-independent.
const MOVE: u8 = 0xb8;

/// The starts of those of `frames` that other code jumps to, while nobody calls them or takes their
/// address. A function that is only ever tail-called is among them.
pub(super) fn only_jumped_to(elf: &Elf<'_>, frames: &[Frame]) -> Addresses {
    let mut starts = Addresses::covering(frames);
    frames.iter().for_each(|frame| starts.insert(frame.start));
    let (mut jumped, mut referred) = (Addresses::covering(frames), Addresses::covering(frames));
    for segment in elf.segments.iter().filter(|segment| segment.kind == PT_LOAD) {
        let bytes = elf.bytes_from(segment.address);
        if segment.executable() {
            each_target(segment.address, bytes, |target, jump| {
                if starts.contains(target) {
                    if jump { &mut jumped } else { &mut referred }.insert(target);
                }
            });
        } else {
            // Tables of pointers, where they need no relocation or have their value in place
            // (DT_RELR).
            let unaligned = segment.address.wrapping_neg() as usize % 8;
            bytes.get(unaligned..).unwrap_or(&[]).chunks_exact(8).for_each(|word| {
                referred.insert(u64::from_le_bytes(word.try_into().unwrap_or_default()))
            });
        }
    }
    elf.relative().for_each(|(_, target)| referred.insert(target));
    jumped.without(&referred);
    jumped
}

/// Every address that `code` could jump to (true), or call or take (false).
fn each_target(address: u64, code: &[u8], mut see: impl FnMut(u64, bool)) {
    for (at, pair) in code.windows(2).enumerate() {
        let (relative, jump) = match pair[0] {
            CALL => (at + 1, false),
            JUMP => (at + 1, true),
            0x0f if pair[1] & 0xf0 == 0x80 => (at + 2, true),
            LEA if pair[1] & 0xc7 == 5 && at > 0 && matches!(code[at - 1], 0x48 | 0x4c) => {
                (at + 2, false)
            }
            byte if byte & 0xf8 == MOVE => {
                if let Some(target) = u32_at(code, at + 1) {
                    see(u64::from(target), false);
                }
                continue;
            }
            _ => continue,
        };
        if let Some(distance) = u32_at(code, relative) {
            see(
                address
                    .wrapping_add(relative as u64 + 4)
                    .wrapping_add_signed(i64::from(distance.cast_signed())),
                jump,
            );
        }
    }
}

/// A set of addresses in one range, a bit for each.
#[derive(Debug)]
pub(super) struct Addresses {
    first: u64,
    bits: Vec<u64>,
}

impl Addresses {
    /// The longest range, in bytes; starts behind it are in no set.
    const LONGEST: u64 = 1 << 30;

    fn covering(frames: &[Frame]) -> Self {
        let first = frames.iter().map(|frame| frame.start).min().unwrap_or(0);
        let last = frames.iter().map(|frame| frame.start).max().unwrap_or(0);
        let words = (last - first).min(Self::LONGEST) / 64 + 1;
        Self { first, bits: vec![0; words as usize] }
    }

    fn place(&self, address: u64) -> Option<(usize, u64)> {
        let at = address.checked_sub(self.first)?;
        let word = usize::try_from(at / 64).ok().filter(|word| *word < self.bits.len())?;
        Some((word, 1 << (at % 64)))
    }

    fn insert(&mut self, address: u64) {
        if let Some((word, bit)) = self.place(address) {
            self.bits[word] |= bit;
        }
    }

    pub(super) fn contains(&self, address: u64) -> bool {
        self.place(address).is_some_and(|(word, bit)| self.bits[word] & bit != 0)
    }

    fn without(&mut self, other: &Self) {
        self.bits.iter_mut().zip(&other.bits).for_each(|(own, other)| *own &= !other);
    }
}

#[cfg(test)]
mod tests {
    use super::{Addresses, each_target};
    use crate::symbols::unwind::{Entered, Frame};

    #[test]
    fn targets() {
        let mut code = vec![0x90; 48];
        code[3..8].copy_from_slice(&[0xe8, 0x08, 0, 0, 0]);
        code[10..17].copy_from_slice(&[0x48, 0x8d, 0x3d, 0xef, 0xff, 0xff, 0xff]);
        code[20..26].copy_from_slice(&[0x0f, 0x84, 0xe6, 0xff, 0xff, 0xff]);
        code[30..35].copy_from_slice(&[0xe9, 0x01, 0, 0, 0]);
        code[40..45].copy_from_slice(&[0xbf, 0x34, 0x12, 0, 0]);
        let mut found = Vec::new();
        each_target(0x1000, &code, |target, jump| found.push((target, jump)));
        assert_eq!(
            found,
            [(0x1010, false), (0x1000, false), (0x1000, true), (0x1024, true), (0x1234, false)]
        );
        each_target(0x1000, &[0xe8, 0, 0], |_, _| panic!("cut off"));
    }

    #[test]
    fn a_set_keeps_what_lies_in_its_range() {
        let frame =
            |start| Frame { start, end: start + 1, entered: Entered::Called, landing_pads: None };
        let mut set = Addresses::covering(&[frame(1000), frame(5000)]);
        for address in [0, 999, 1000, 3000, 5000, 9000, u64::MAX] {
            set.insert(address);
        }
        assert!([1000, 3000, 5000].iter().all(|address| set.contains(*address)));
        assert!([0, 999, 1001, 9000, u64::MAX].iter().all(|address| !set.contains(*address)));
        let mut far = Addresses::covering(&[frame(0), frame(1 << 46)]);
        far.insert(1 << 46);
        assert!(!far.contains(1 << 46));
        let other = Addresses::covering(&[frame(1000), frame(5000)]);
        set.without(&other);
        assert!(set.contains(1000));
    }
}
