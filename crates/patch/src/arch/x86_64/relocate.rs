//! Displaced instructions, written so that they do the same at another address.
//!
//! | original                     | relocated                                                                                           |
//! |------------------------------|-----------------------------------------------------------------------------------------------------|
//! | rip-relative operand         | the same bytes with another displacement                                                            |
//! | `jmp`, `jcc`, short or near  | near                                                                                                |
//! | `jrcxz X`, `loop X`          | `jrcxz 1f; jmp 2f; 1: jmp X; 2:`                                                                    |
//! | `call X`, `call [m]`         | `call 1f; 1: lea rsp,[rsp+8]; push [return address]; jmp X` (or `jmp [m]`)                          |
//! | everything else              | the same bytes                                                                                      |
//!
//! A call pushes the return address that the original pushes, a constant behind the code, so that unwinders and `__builtin_return_address` see nothing of the detour; the `call 1f` keeps the processor's
//! return predictor paired. A branch to another displaced instruction goes to its copy. No expansion touches a flag or a register.

use super::body::{Body, Step};
use super::decode::{Decoded, Text, direct_target, ends_flow, ip_relative, opcode_at};
use super::window::JUMP;
use crate::Refusal;
use core::ops::Range;
use iced_x86::{Instruction, OpKind, Register};

/// `lea rsp,[rsp+8]`.
const LEA_RSP: [u8; 5] = [0x48, 0x8d, 0x64, 0x24, 0x08];
/// `call` to the next instruction.
const CALL_NEXT: [u8; 5] = [0xe8, 0, 0, 0, 0];
/// `push [rip+...]`: the two bytes before the displacement, and all of it.
const PUSH_RIP: [u8; 2] = [0xff, 0x35];
const PUSH_LEN: u64 = 6;

/// How relocated code goes back.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Back {
    /// `jmp rel32`, or a refusal.
    Near,
    /// The same where it reaches, else through a constant.
    Anywhere,
}

/// Addresses from which relocated code for `text` reaches everything it refers to: those that the jump at the site reaches, if it is a detour.
pub(crate) fn reach(text: Text<'_>, detour: bool) -> Range<u64> {
    // The displacement counts from the end of an instruction of the stub, which is at most 15 bytes behind the byte that the range speaks of.
    const MARGIN: u64 = 64;
    const FAR: u64 = i32::MAX as u64 - MARGIN;
    let end = text.address.wrapping_add(text.bytes.len() as u64);
    let mut range = 0..u64::MAX;
    let mut anchor = |a: u64| range = range.start.max(a.saturating_sub(FAR))..range.end.min(a.saturating_add(FAR));
    if detour {
        anchor(text.address.wrapping_add(JUMP as u64));
        anchor(end);
    }
    for d in instructions(text) {
        let own = |to: u64| text.offset(to).is_some();
        if let Some(to) = direct_target(&d.instruction).filter(|&to| !own(to)).or_else(|| ip_relative(&d.instruction)) {
            anchor(to);
        }
    }
    range
}

fn instructions(text: Text<'_>) -> impl Iterator<Item = Decoded<'_>> {
    let mut offset = 0;
    core::iter::from_fn(move || {
        let d = text.at(offset)?;
        offset += d.bytes.len();
        Some(d)
    })
}

/// Appends relocated code for the instructions in `text`, all of which are [relocatable](super::decode::relocatable), for the address `at`, and the way back to behind them.
pub(crate) fn emit(text: Text<'_>, back: Back, at: u64, out: &mut Vec<u8>) -> Result<Body, Refusal> {
    let mark = out.len();
    let mut e = Emitter { text, at, out, mark, steps: Vec::with_capacity(8), constants: Vec::new() };
    let result = e.all(back);
    let steps = e.steps;
    match result {
        Ok(()) => Ok(Body { size: (out.len() - mark) as u32, steps }),
        Err(refusal) => {
            out.truncate(mark);
            Err(refusal)
        }
    }
}

/// Bytes that a relocated instruction takes, wherever it is.
pub(crate) fn size(d: &Decoded<'_>) -> usize {
    let i = &d.instruction;
    if i.is_call_near() {
        CALL_NEXT.len() + LEA_RSP.len() + PUSH_LEN as usize + 5
    } else if i.is_call_near_indirect() {
        CALL_NEXT.len() + LEA_RSP.len() + PUSH_LEN as usize + indirect_jump(d).0
    } else if i.is_jcc_short_or_near() {
        6
    } else if i.is_jmp_short_or_near() {
        5
    } else if direct_target(i).is_some() {
        d.bytes.len() + 2 + 5
    } else {
        d.bytes.len()
    }
}

/// A constant behind the code and the displacement that refers to it: (offset of the displacement in `out`, value).
type Constant = (usize, u64);

struct Emitter<'a, 'o> {
    text: Text<'a>,
    at: u64,
    out: &'o mut Vec<u8>,
    mark: usize,
    steps: Vec<Step>,
    constants: Vec<Constant>,
}

impl Emitter<'_, '_> {
    fn all(&mut self, back: Back) -> Result<(), Refusal> {
        let mut falls_through = true;
        for d in instructions(self.text) {
            self.one(&d)?;
            // A relocated call comes back to the original code by its return address.
            falls_through = !ends_flow(&d.instruction) && !d.instruction.is_call_near() && !d.instruction.is_call_near_indirect();
        }
        let end = self.text.address.wrapping_add(self.text.bytes.len() as u64);
        if falls_through {
            match self.rel32(end, 5) {
                Ok(rel) => self.step(&[&[0xe9], &rel[..]], end, 0, true),
                Err(_) if back == Back::Anywhere => {
                    self.step(&[&[0xff, 0x25], &[0; 4]], end, 0, true);
                    self.constants.push((self.out.len() - 4, end));
                }
                Err(refusal) => return Err(refusal),
            }
        }
        self.put_constants();
        Ok(())
    }

    fn one(&mut self, d: &Decoded<'_>) -> Result<(), Refusal> {
        let i = &d.instruction;
        let ip = i.ip();
        if i.is_call_near() || i.is_call_near_indirect() {
            self.step(&[&CALL_NEXT], ip, 0, true);
            self.step(&[&LEA_RSP], ip, 8, false);
            self.step(&[&PUSH_RIP, &[0; 4]], ip, 0, false);
            self.constants.push((self.out.len() - 4, i.next_ip()));
            // The jump may fault, and then the call must look as if it had not pushed.
            if i.is_call_near() {
                let rel = self.rel32(self.target(i), 5)?;
                self.step(&[&[0xe9], &rel[..]], ip, 8, false);
            } else {
                let (len, mut bytes) = indirect_jump(d);
                self.fix_ip_relative(d, &mut bytes[..len])?;
                self.step(&[&bytes[..len]], ip, 8, false);
            }
        } else if i.is_jcc_short_or_near() {
            let opcode = &d.bytes[opcode_at(d.bytes)..];
            let condition = if opcode[0] == 0x0f { opcode[1] & 15 } else { opcode[0] & 15 };
            let rel = self.rel32(self.target(i), 6)?;
            self.step(&[&[0x0f, 0x80 | condition], &rel[..]], ip, 0, true);
        } else if i.is_jmp_short_or_near() {
            let rel = self.rel32(self.target(i), 5)?;
            self.step(&[&[0xe9], &rel[..]], ip, 0, true);
        } else if direct_target(i).is_some() {
            let displacement = d.bytes.len() - 1;
            self.step(&[&d.bytes[..displacement], &[2]], ip, 0, true);
            // The counter has been decremented: what is left of the instruction is to be at one of its two successors.
            self.step(&[&[0xeb, 5]], i.next_ip(), 0, false);
            let rel = self.rel32(self.target(i), 5)?;
            self.step(&[&[0xe9], &rel[..]], i.near_branch_target(), 0, false);
        } else {
            let mut bytes = [0; 15];
            let bytes = &mut bytes[..d.bytes.len()];
            bytes.copy_from_slice(d.bytes);
            self.fix_ip_relative(d, bytes)?;
            self.step(&[bytes], ip, 0, true);
        }
        Ok(())
    }

    /// Where a direct branch of the window goes now.
    fn target(&self, i: &Instruction) -> u64 {
        let target = i.near_branch_target();
        if self.text.offset(target).is_none() {
            return target;
        }
        let mut offset = 0;
        for d in instructions(self.text) {
            if d.instruction.ip() == target {
                return self.at.wrapping_add(offset as u64);
            }
            offset += size(&d);
        }
        target
    }

    /// Adjusts the displacement of a rip-relative operand in a copy that is about to be appended.
    fn fix_ip_relative(&self, d: &Decoded<'_>, bytes: &mut [u8]) -> Result<(), Refusal> {
        if let Some(to) = ip_relative(&d.instruction) {
            let rel = self.rel32(to, bytes.len())?;
            let at = d.constants.displacement_offset();
            bytes.get_mut(at..at + 4).ok_or(Refusal::NotRelocatable)?.copy_from_slice(&rel);
        }
        Ok(())
    }

    fn here(&self) -> u64 {
        self.at.wrapping_add((self.out.len() - self.mark) as u64)
    }

    /// The displacement to `to` in an instruction of `len` bytes that comes next.
    fn rel32(&self, to: u64, len: usize) -> Result<[u8; 4], Refusal> {
        let distance = to.wrapping_sub(self.here().wrapping_add(len as u64)) as i64;
        i32::try_from(distance).map(i32::to_le_bytes).map_err(|_| Refusal::OutOfReach)
    }

    fn step(&mut self, parts: &[&[u8]], original: u64, sp: i8, start: bool) {
        let offset = (self.out.len() - self.mark) as u32;
        let len = parts.iter().map(|p| p.len()).sum::<usize>() as u8;
        for part in parts {
            self.out.extend_from_slice(part);
        }
        self.steps.push(Step { offset, len, start, sp, original });
    }

    /// The constants, aligned, behind code that never runs into them.
    fn put_constants(&mut self) {
        for (displacement, value) in core::mem::take(&mut self.constants) {
            while !self.here().is_multiple_of(8) {
                self.out.push(0xcc);
            }
            let distance = (self.out.len() - (displacement + 4)) as u32;
            self.out[displacement..displacement + 4].copy_from_slice(&distance.to_le_bytes());
            self.out.extend_from_slice(&value.to_le_bytes());
        }
    }
}

/// `jmp` with the operand of an indirect `call`, as it is after the return address was pushed: (length, bytes). The displacement of a rip-relative operand is still the old one.
fn indirect_jump(d: &Decoded<'_>) -> (usize, [u8; 24]) {
    let mut out = [0; 24];
    let opcode = opcode_at(d.bytes);
    out[..d.bytes.len()].copy_from_slice(d.bytes);
    // ff /2 is call, ff /4 is jmp.
    let modrm = d.bytes[opcode + 1];
    out[opcode + 1] = modrm & !0x38 | 4 << 3;
    let i = &d.instruction;
    if i.op0_kind() != OpKind::Memory || i.memory_base() != Register::RSP {
        return (d.bytes.len(), out);
    }
    // [rsp+d] is [rsp+8+d] now; with four bytes of displacement it always fits.
    out[opcode + 1] = 0x80 | 4 << 3 | 4;
    let displacement = (i.memory_displacement64() as i32).wrapping_add(8);
    out[opcode + 3..opcode + 7].copy_from_slice(&displacement.to_le_bytes());
    (opcode + 7, out)
}
