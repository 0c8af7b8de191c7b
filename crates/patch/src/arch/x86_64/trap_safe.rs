//! Jumps that can be written under running threads.
//!
//! A thread that was preempted at an instruction boundary inside the five bytes resumes in the
//! middle of the new jump, in its displacement. If every such byte traps, whatever follows it, the
//! trap handler can send the thread to the relocated instruction. The displacement is chosen by
//! choosing the address of what is jumped to.

use core::ops::Range;

/// What a byte does when it is executed as an opcode.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Trap {
    /// SIGTRAP, with the ip behind the byte.
    Breakpoint,
    /// SIGILL, with the ip at the byte.
    Illegal,
}

/// The bytes that trap as the first of an instruction in long mode, whatever follows.
pub const TRAPS: [u8; 18] = [
    0x06, 0x07, 0x0e, 0x16, 0x17, 0x1e, 0x1f, 0x27, 0x2f, 0x37, 0x3f, 0x60, 0x61, 0x82, 0x9a, 0xcc,
    0xce, 0xea,
];

/// `jmp target` for `site`; `None` when it is out of reach.
pub fn jump(site: u64, target: u64) -> Option<[u8; 5]> {
    let distance = i32::try_from(target.wrapping_sub(site.wrapping_add(5)) as i64).ok()?;
    let [a, b, c, d] = distance.to_le_bytes();
    Some([0xe9, a, b, c, d])
}

/// Whether `jmp target` at `site` traps at each of `boundaries` (offsets 1 to 4 from the site;
/// others are ignored).
pub fn trap_safe(site: u64, boundaries: &[u8], target: u64) -> bool {
    jump(site, target).is_some_and(|bytes| {
        boundaries.iter().all(|&b| !matches!(b, 1..=4) || TRAPS.contains(&bytes[usize::from(b)]))
    })
}

/// Runs of addresses for which [`trap_safe`] holds, ascending. See [`trap_safe_targets`].
#[derive(Clone, Debug)]
pub struct Targets {
    /// What displacements count from: the end of the jump.
    origin: u64,
    /// Whether the byte of the displacement must trap, the highest byte first.
    constrained: [bool; 4],
    /// Displacements still to look at, as unsigned numbers in their order: plus 2^31. One past the
    /// last may be 2^32.
    left: Range<u64>,
}

/// Offset that makes signed displacements ascend as unsigned numbers.
const BIAS: u64 = 1 << 31;

/// All targets in `within` for which [`trap_safe`] holds, as runs of addresses, ascending. With a
/// boundary at offset 1 the runs are one byte long, else at least 256 (clipped to `within`).
///
/// Context: no allocation; a step of the iterator is some dozens of instructions.
pub fn trap_safe_targets(site: u64, boundaries: &[u8], within: Range<u64>) -> Targets {
    let origin = site.wrapping_add(5);
    let biased = |address: u64| {
        (i128::from(address) - i128::from(origin) + i128::from(BIAS)).clamp(0, 1 << 32) as u64
    };
    let constrained = core::array::from_fn(|k| boundaries.contains(&(4 - k as u8)));
    Targets { origin, constrained, left: biased(within.start)..biased(within.end) }
}

impl Targets {
    /// Whether the byte `k` (the highest is 0) may have this value. The highest is biased.
    fn allows(&self, k: usize, byte: u8) -> bool {
        !self.constrained[k] || TRAPS.contains(&(if k == 0 { byte ^ 0x80 } else { byte }))
    }

    /// The least number from `from` on whose bytes are all allowed; `None` when there is none below
    /// 2^32.
    fn least(&self, from: u64) -> Option<u64> {
        let from = u32::try_from(from).ok()?.to_be_bytes();
        // The longest prefix of `from` that can stay, then a greater byte, then the least ones.
        let good = (0..4).take_while(|&k| self.allows(k, from[k])).count();
        if good == 4 {
            return Some(u64::from(u32::from_be_bytes(from)));
        }
        for k in (0..=good).rev() {
            if let Some(byte) =
                (u16::from(from[k]) + 1..256).map(|b| b as u8).find(|&b| self.allows(k, b))
            {
                let mut least = from;
                least[k] = byte;
                for (j, byte) in least.iter_mut().enumerate().skip(k + 1) {
                    *byte = (0..=255).find(|&b| self.allows(j, b))?;
                }
                return Some(u64::from(u32::from_be_bytes(least)));
            }
        }
        None
    }
}

impl Iterator for Targets {
    type Item = Range<u64>;

    fn next(&mut self) -> Option<Range<u64>> {
        let start = self.least(self.left.start).filter(|&s| s < self.left.end)?;
        // Up to the next change of the lowest byte that matters, everything else being free.
        let free = self.constrained.iter().rev().take_while(|&&c| !c).count();
        let end = (((start >> (8 * free)) + 1) << (8 * free)).min(self.left.end);
        self.left.start = end;
        let address = |biased: u64| self.origin.wrapping_add(biased).wrapping_sub(BIAS);
        Some(address(start)..address(end))
    }
}
