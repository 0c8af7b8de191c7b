//! Restartable sequences of the program's (`rseq(2)`).

/// Offset of the pointer to the running sequence's description in a thread's area.
const RUNNING: u64 = 8;

/// If `instruction` is inside the sequence that the thread runs, where it has to go on instead: at
/// the sequence's abort handler. `area` is the thread's, `read` reads a word of its memory.
///
/// To be asked before the first remote call: on its way out of that the kernel finds the thread
/// outside of its sequence and forgets the sequence, and the thread would go on in the middle of it
/// unprotected.
pub(crate) fn abort_of(
    area: u64,
    instruction: u64,
    mut read: impl FnMut(u64) -> Option<u64>,
) -> Option<u64> {
    let description = read(area.checked_add(RUNNING)?)?;
    if description == 0 {
        return None;
    }
    // `struct rseq_cs`: version and flags, start, length, abort handler.
    let mut word = |n: u64| read(description.checked_add(8 * n)?);
    let (start, length, abort) = (word(1)?, word(2)?, word(3)?);
    (instruction.wrapping_sub(start) < length).then_some(abort)
}

#[cfg(test)]
mod tests {
    use super::abort_of;

    #[test]
    fn only_inside_a_sequence() {
        let area = 0x1000;
        let memory = |at: u64| match at {
            0x1008 => Some(0x2000),
            0x2008 => Some(0x40_0000),
            0x2010 => Some(0x20),
            0x2018 => Some(0x40_1000),
            _ => None,
        };
        let asked = |at| abort_of(area, at, memory);
        assert_eq!(asked(0x40_0000), Some(0x40_1000));
        assert_eq!(asked(0x40_001f), Some(0x40_1000));
        assert_eq!(asked(0x40_0020), None, "behind its end");
        assert_eq!(asked(0x3f_ffff), None);
        assert_eq!(abort_of(area, 0x40_0000, |_| Some(0)), None, "in none");
        assert_eq!(abort_of(area, 0x40_0000, |_| None), None, "unreadable");
    }
}
