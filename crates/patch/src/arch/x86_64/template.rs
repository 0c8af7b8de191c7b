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

/// Bytes of `jmp rel32` and of `jcc rel32`.
const NEAR: usize = 5;
const JCC: usize = 6;
/// What is inserted is presented in pieces of this length.
const LONGEST_STEP: usize = 255;

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

/// An instruction in front of which something is inserted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Cut {
    /// Its offset in the template, where a step begins.
    pub(crate) at: u16,
    /// It is a conditional jump, and what is inserted runs only if it jumps.
    pub(crate) conditional: bool,
}

/// What is different in a copy.
pub(crate) struct Ways<'w> {
    /// Jumps to what it names lead where it says.
    pub(crate) redirect: Option<&'w Redirect>,
    /// Where the way back leads, if not back.
    pub(crate) onward: Option<u64>,
    /// Ascending.
    pub(crate) cuts: &'w [Cut],
    /// Appends what is inserted at a cut, given its number and the address.
    pub(crate) insert: &'w mut dyn FnMut(usize, u64, &mut Vec<u8>),
}

impl<'w> Ways<'w> {
    /// Without cuts.
    pub(crate) fn of(
        redirect: Option<&'w Redirect>,
        onward: Option<u64>,
        insert: &'w mut dyn FnMut(usize, u64, &mut Vec<u8>),
    ) -> Self {
        Self { redirect, onward, cuts: &[], insert }
    }
}

impl Template {
    /// Appends the code for the address `at`, and the way back to behind it.
    ///
    /// # Errors
    /// [`Refusal::OutOfReach`]; `out` is then as it was.
    pub(crate) fn emit(&self, ways: Ways<'_>, at: u64, out: &mut Vec<u8>) -> Result<Body, Refusal> {
        let mark = out.len();
        let mut copy = Copy { at, mark, out, constants: Vec::new() };
        let mut steps = Vec::with_capacity(self.steps.len() + 1 + 2 * ways.cuts.len());
        match self.write(ways, &mut copy, &mut steps) {
            Ok(()) => Ok(Body { size: (out.len() - mark) as u32, steps }),
            Err(refusal) => {
                out.truncate(mark);
                Err(refusal)
            }
        }
    }

    fn write(
        &self,
        ways: Ways<'_>,
        copy: &mut Copy<'_>,
        steps: &mut Vec<Step>,
    ) -> Result<(), Refusal> {
        let Ways { redirect, onward, cuts, insert } = ways;
        let moved = self.insert(cuts, insert, copy, steps);
        let moved = |offset: u16| {
            let after = moved.partition_point(|(cut, _)| *cut < offset);
            usize::from(offset) + moved[..after].last().map_or(0, |(_, by)| *by)
        };
        for fix in &self.fixes {
            let (place, end) = (moved(fix.at), moved(fix.end));
            let to = match fix.to {
                To::Constant(value) => {
                    copy.constants.push((place, end, value));
                    continue;
                }
                To::Address(to) => to,
                To::Branch { to, copy: own } => match (redirect, own) {
                    (Some(redirect), _) if redirect.from.contains(&to) => redirect.to,
                    (_, Some(own)) => copy.address(moved(own)),
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

    /// Whether something can be inserted there: a step begins, and if it is to be a conditional
    /// jump, it is one.
    pub(crate) fn takes(&self, cut: Cut) -> bool {
        let at = usize::from(cut.at);
        let Ok(step) = self.steps.binary_search_by_key(&u32::from(cut.at), |s| s.offset) else {
            return false;
        };
        let jump = self.steps[step].len == JCC as u8
            && self.bytes.get(at..at + JCC).is_some_and(|b| b[0] == 0x0f && b[1] & 0xf0 == 0x80);
        !cut.conditional || jump
    }

    /// Appends the bytes, with what is inserted at the cuts, and the steps. Returns by how much
    /// what is behind each cut has moved; what begins at a cut begins with what is inserted.
    fn insert(
        &self,
        cuts: &[Cut],
        insert: &mut dyn FnMut(usize, u64, &mut Vec<u8>),
        copy: &mut Copy<'_>,
        steps: &mut Vec<Step>,
    ) -> Vec<(u16, usize)> {
        let mut moved = Vec::with_capacity(cuts.len());
        let (mut from, mut shift) = (0, 0);
        let mut rest = self.steps.iter().peekable();
        for (k, &Cut { at, conditional }) in cuts.iter().enumerate() {
            let cut = usize::from(at);
            copy.out.extend_from_slice(self.bytes.get(from..cut).unwrap_or(&[]));
            while let Some(step) = rest.next_if(|step| step.offset < u32::from(at)) {
                steps.push(Step { offset: step.offset + shift as u32, ..*step });
            }
            let Some(&step) = rest.next() else { break };
            if conditional {
                // Over all of it if the jump is not taken.
                steps.push(Step { offset: copy.len() as u32, len: JCC as u8, ..step });
                let condition = self.bytes.get(cut + 1).copied().unwrap_or(0);
                copy.out.extend_from_slice(&[0x0f, condition ^ 1, 0, 0, 0, 0]);
            }
            let begin = copy.len();
            insert(k, copy.address(begin), copy.out);
            let end = copy.len();
            for offset in (begin..end).step_by(LONGEST_STEP) {
                let len = (end - offset).min(LONGEST_STEP) as u8;
                let start = step.start && !conditional && offset == begin;
                steps.push(Step { offset: offset as u32, len, start, ..step });
            }
            let start = step.start && !conditional && begin == end;
            if conditional {
                steps.push(Step { offset: end as u32, len: NEAR as u8, start, ..step });
                copy.out.extend_from_slice(&[JUMP, 0, 0, 0, 0]);
                copy.patch(begin - 4, ((copy.len() - begin) as u32).to_le_bytes());
                from = cut + JCC;
            } else {
                steps.push(Step { offset: end as u32, start, ..step });
                from = cut;
            }
            // The displacement of a conditional jump is now that of the jump, a byte earlier.
            shift = end - cut - usize::from(conditional);
            moved.push((at, shift));
        }
        copy.out.extend_from_slice(self.bytes.get(from..).unwrap_or(&[]));
        steps.extend(rest.map(|step| Step { offset: step.offset + shift as u32, ..*step }));
        moved
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
