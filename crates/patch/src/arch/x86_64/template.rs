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
        let steps = Vec::with_capacity(self.steps.len() + 1 + 2 * ways.cuts.len());
        let mut copy = Copy { at, mark, out, steps, constants: Vec::new() };
        match self.write(ways, &mut copy) {
            Ok(()) => Ok(Body { size: copy.len() as u32, steps: copy.steps }),
            Err(refusal) => {
                out.truncate(mark);
                Err(refusal)
            }
        }
    }

    fn write(&self, ways: Ways<'_>, copy: &mut Copy<'_>) -> Result<(), Refusal> {
        let Ways { redirect, onward, cuts, insert } = ways;
        let moved = self.insert(cuts, insert, copy);
        let moved = |offset: u16| {
            let before = cuts.iter().zip(&moved).rev().find(|(cut, _)| cut.at < offset);
            usize::from(offset) + before.map_or(0, |(_, by)| *by)
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
            let step = Step { offset: 0, len: 0, start: true, sp: 0, original: to };
            match copy.distance(offset + NEAR, onward.unwrap_or(to)) {
                Ok([a, b, c, d]) => copy.put(step, &[JUMP, a, b, c, d]),
                Err(_) if back == Back::Anywhere => {
                    let [a, b] = JUMP_MEMORY;
                    copy.put(step, &[a, b, 0, 0, 0, 0]);
                    copy.constants.push((offset + 2, offset + 6, onward.unwrap_or(to)));
                }
                Err(refusal) => return Err(refusal),
            }
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
        let jump = usize::from(self.steps[step].len) == JCC
            && self.bytes.get(at..at + JCC).is_some_and(|b| b[0] == 0x0f && b[1] & 0xf0 == 0x80);
        !cut.conditional || jump
    }

    /// Appends the instructions, with what is inserted at the cuts. Returns by how much what is
    /// behind each cut has moved; what begins at a cut begins with what is inserted.
    fn insert(
        &self,
        cuts: &[Cut],
        insert: &mut dyn FnMut(usize, u64, &mut Vec<u8>),
        copy: &mut Copy<'_>,
    ) -> Vec<usize> {
        let mut moved = Vec::with_capacity(cuts.len());
        for step in &self.steps {
            let at = step.offset as usize;
            let bytes = self.bytes.get(at..at + usize::from(step.len)).unwrap_or(&[]);
            let Some(cut) = cuts.get(moved.len()).filter(|cut| usize::from(cut.at) == at) else {
                copy.put(*step, bytes);
                continue;
            };
            let inside = Step { start: false, ..*step };
            if cut.conditional {
                // Over all of it if the jump is not taken.
                let condition = bytes.get(1).copied().unwrap_or(0);
                copy.put(*step, &[0x0f, condition ^ 1, 0, 0, 0, 0]);
            }
            let begin = copy.len();
            insert(moved.len(), copy.address(begin), copy.out);
            let end = copy.len();
            let len = (end - begin) as u16;
            let first = if cut.conditional { inside } else { *step };
            copy.steps.push(Step { offset: begin as u32, len, ..first });
            if cut.conditional {
                copy.put(inside, &[JUMP, 0, 0, 0, 0]);
                copy.patch(begin - 4, ((copy.len() - begin) as u32).to_le_bytes());
            } else {
                copy.put(inside, bytes);
            }
            // The displacement of a conditional jump is now that of the jump, a byte earlier.
            moved.push(end - at - usize::from(cut.conditional));
        }
        moved
    }
}

/// What is being written.
struct Copy<'o> {
    at: u64,
    mark: usize,
    out: &'o mut Vec<u8>,
    steps: Vec<Step>,
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

    /// Appends an instruction, whose step is as this one, but for where it is.
    #[inline(never)]
    fn put(&mut self, step: Step, bytes: &[u8]) {
        self.steps.push(Step { offset: self.len() as u32, len: bytes.len() as u16, ..step });
        self.out.extend_from_slice(bytes);
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
