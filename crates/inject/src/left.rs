//! What a tracer leaves that is killed in the middle of a remote call, so that the next one can
//! clear it away: a note in the target's memory, in front of the frame with which the thread puts
//! itself back.

use crate::arch::gadget::CALL_AND_RETURN;

/// Bytes of a note.
pub(crate) const NOTE: u64 = 64;
/// Where in it the two descriptors are of a pair of sockets, as the kernel writes them, or 0.
pub(crate) const PAIR: u64 = 0;
/// What was where the code for calls is.
const CODE: usize = 8;
/// Behind what it is there for: if the stack has grown over the note, then over this first.
const MARK: usize = 32;
const MARK_BYTES: [u8; 16] = *b"trapline's note\n";

/// A note.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Note {
    /// Two descriptors of the process's, or nothing.
    pub(crate) pair: Option<[u64; 2]>,
    /// The program's bytes.
    pub(crate) code: [u8; CALL_AND_RETURN.len()],
}

impl Note {
    /// As it is to be written.
    pub(crate) fn bytes(code: &[u8]) -> [u8; NOTE as usize] {
        let mut bytes = [0; NOTE as usize];
        bytes[CODE..CODE + code.len()].copy_from_slice(code);
        bytes[MARK..MARK + MARK_BYTES.len()].copy_from_slice(&MARK_BYTES);
        bytes
    }

    /// `None`: there is none.
    pub(crate) fn parse(bytes: &[u8]) -> Option<Self> {
        (bytes.get(MARK..MARK + MARK_BYTES.len())? == MARK_BYTES).then_some(())?;
        let pair = u64::from_le_bytes(bytes.get(..8)?.try_into().ok()?);
        let pair = (pair != 0).then_some([pair & 0xffff_ffff, pair >> 32]);
        let code = bytes.get(CODE..CODE + CALL_AND_RETURN.len())?.try_into().ok()?;
        Some(Self { pair, code })
    }
}

#[cfg(test)]
mod tests {
    use super::{Note, PAIR};

    #[test]
    fn notes() {
        let code = [1, 2, 3, 4, 5, 6, 7, 8, 9];
        let mut bytes = Note::bytes(&code);
        assert_eq!(Note::parse(&bytes), Some(Note { pair: None, code }));
        bytes[PAIR as usize..][..8].copy_from_slice(&[5, 0, 0, 0, 9, 0, 0, 0]);
        assert_eq!(Note::parse(&bytes), Some(Note { pair: Some([5, 9]), code }));
        bytes[40] = 0;
        assert_eq!(Note::parse(&bytes), None);
        assert_eq!(Note::parse(&[0; 64]), None);
        assert_eq!(Note::parse(&[]), None);
    }
}
