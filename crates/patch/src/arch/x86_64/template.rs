//! Relocated code as data: its bytes, and which of them depend on where it is put. Writing it takes
//! no decoder.

use super::body::{Body, Step};
use crate::Refusal;
use alloc::vec::Vec;
use core::ops::Range;

/// `jmp rel32` before its displacement.
const JUMP: u8 = 0xe9;
/// `jmp [rip+...]` before its displacement.
const JUMP_MEMORY: [u8; 2] = [0xff, 0x25];

/// How relocated code goes back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Back {
    /// `jmp rel32`, or a refusal.
    Near,
    /// The same where it reaches, else through a constant.
    Anywhere,
}

/// Branches to some addresses lead elsewhere in what is emitted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Redirect {
    /// Branches to these addresses...
    pub from: Range<u64>,
    /// ... lead here.
    pub to: u64,
}

/// Code that does the same wherever it is put, within reach of what it refers to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Template {
    /// With zeros for displacements.
    pub(crate) bytes: Vec<u8>,
    /// Of all but the way back.
    pub(crate) steps: Vec<Step>,
    pub(crate) fixes: Vec<Fix>,
    /// Where it goes on behind its last byte, if it comes there.
    pub(crate) back: Option<(u64, Back)>,
}

/// Four bytes that depend on where the code is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Fix {
    /// Offset of the displacement.
    pub(crate) at: u16,
    /// Offset of the end of its instruction, which it counts from.
    pub(crate) end: u16,
    pub(crate) to: To,
}

/// What a displacement leads to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum To {
    /// An operand, or what is called.
    Address(u64),
    /// The target of a jump, and its copy in this code, if there is one.
    Branch {
        /// In the original code.
        to: u64,
        /// Offset in this one.
        copy: Option<u16>,
    },
    /// A constant behind the code with this value.
    Constant(u64),
}

impl Template {
    /// Appends the code for the address `at`, and the way back to behind it. Jumps to what
    /// `redirect` names lead where it says; the way back leads to `onward`, if that is given.
    ///
    /// # Errors
    /// [`Refusal::OutOfReach`]; `out` is then as it was.
    pub(crate) fn emit(
        &self,
        redirect: Option<&Redirect>,
        onward: Option<u64>,
        at: u64,
        out: &mut Vec<u8>,
    ) -> Result<Body, Refusal> {
        let mark = out.len();
        let mut copy = Copy { at, mark, out, constants: Vec::new() };
        let mut steps = self.steps.clone();
        match self.write((redirect, onward), &mut copy, &mut steps) {
            Ok(()) => Ok(Body { size: (out.len() - mark) as u32, steps }),
            Err(refusal) => {
                out.truncate(mark);
                Err(refusal)
            }
        }
    }

    fn write(
        &self,
        (redirect, onward): (Option<&Redirect>, Option<u64>),
        copy: &mut Copy<'_>,
        steps: &mut Vec<Step>,
    ) -> Result<(), Refusal> {
        copy.out.extend_from_slice(&self.bytes);
        for fix in &self.fixes {
            let (place, end) = (usize::from(fix.at), usize::from(fix.end));
            let to = match fix.to {
                To::Constant(value) => {
                    copy.constants.push((place, end, value));
                    continue;
                }
                To::Address(to) => to,
                To::Branch { to, copy: own } => match (redirect, own) {
                    (Some(redirect), _) if redirect.from.contains(&to) => redirect.to,
                    (_, Some(own)) => copy.at.wrapping_add(own.into()),
                    (_, None) => to,
                },
            };
            let displacement = copy.distance(end, to)?;
            copy.patch(place, displacement);
        }
        if let Some((to, back)) = self.back {
            let offset = copy.len();
            let len = match copy.distance(offset + 5, onward.unwrap_or(to)) {
                Ok(displacement) => {
                    copy.out.push(JUMP);
                    copy.out.extend_from_slice(&displacement);
                    5
                }
                Err(_) if back == Back::Anywhere => {
                    copy.out.extend_from_slice(&JUMP_MEMORY);
                    copy.out.extend_from_slice(&[0; 4]);
                    copy.constants.push((offset + 2, offset + 6, onward.unwrap_or(to)));
                    6
                }
                Err(refusal) => return Err(refusal),
            };
            steps.push(Step { offset: offset as u32, len, start: true, sp: 0, original: to });
        }
        copy.put_constants();
        Ok(())
    }
}

/// What is being written.
struct Copy<'o> {
    at: u64,
    mark: usize,
    out: &'o mut Vec<u8>,
    /// Where the displacement is that leads to one, what it counts from, and its value.
    constants: Vec<(usize, usize, u64)>,
}

impl Copy<'_> {
    fn len(&self) -> usize {
        self.out.len() - self.mark
    }

    fn address(&self, offset: usize) -> u64 {
        self.at.wrapping_add(offset as u64)
    }

    /// From the offset `end` to an address.
    fn distance(&self, end: usize, to: u64) -> Result<[u8; 4], Refusal> {
        let distance = to.wrapping_sub(self.address(end)) as i64;
        i32::try_from(distance).map(i32::to_le_bytes).map_err(|_| Refusal::OutOfReach)
    }

    fn patch(&mut self, place: usize, displacement: [u8; 4]) {
        let place = self.mark + place;
        if let Some(bytes) = self.out.get_mut(place..place + 4) {
            bytes.copy_from_slice(&displacement);
        }
    }

    /// The constants, aligned, behind code that never runs into them.
    fn put_constants(&mut self) {
        for (place, end, value) in core::mem::take(&mut self.constants) {
            while !self.address(self.len()).is_multiple_of(8) {
                self.out.push(0xcc);
            }
            let distance = (self.len() - end) as u32;
            self.patch(place, distance.to_le_bytes());
            self.out.extend_from_slice(&value.to_le_bytes());
        }
    }
}
