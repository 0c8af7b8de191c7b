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
//! A call pushes the return address that the original pushes, a constant behind the code, so that
//! unwinders and `__builtin_return_address` see nothing of the detour; the `call 1f` keeps the
//! processor's return predictor paired. A branch to another displaced instruction goes to its copy.
//! No expansion touches a flag or a register.

use super::body::Step;
use super::decode::{Decoded, Text, direct_target, ends_flow, ip_relative, opcode_at};
use super::effect::condition;
use super::template::{Back, Fix, Template, To};
use crate::Refusal;
use crate::method::Anchors;
use alloc::vec::Vec;
use iced_x86::{OpKind, Register};

/// Bytes of `jmp rel32`.
pub(crate) const JUMP: usize = 5;
/// `lea rsp,[rsp+8]`.
const LEA_RSP: [u8; 5] = [0x48, 0x8d, 0x64, 0x24, 0x08];
/// `call` to the next instruction.
const CALL_NEXT: [u8; 5] = [0xe8, 0, 0, 0, 0];
/// `push [rip+...]`: the two bytes before the displacement, and all of it.
const PUSH_RIP: [u8; 2] = [0xff, 0x35];
const PUSH_LEN: u64 = 6;

/// The addresses that relocated code for `text` refers to, and those that the jump at the site must
/// reach, if it is a detour.
pub(crate) fn anchors(text: Text<'_>, detour: bool) -> Option<Anchors> {
    let end = text.address.wrapping_add(text.bytes.len() as u64);
    let jump = text.address.wrapping_add(JUMP as u64);
    let own = |to: u64| text.offset(to).is_some();
    let referred = instructions(text).filter_map(|d| {
        direct_target(&d.instruction).filter(|&to| !own(to)).or_else(|| ip_relative(&d.instruction))
    });
    let all = referred.chain(detour.then_some([jump, end]).into_iter().flatten());
    all.fold(None, |anchors: Option<Anchors>, to| {
        let Anchors { first, last } = anchors.unwrap_or(Anchors { first: to, last: to });
        Some(Anchors { first: first.min(to), last: last.max(to) })
    })
}

fn instructions(text: Text<'_>) -> impl Iterator<Item = Decoded<'_>> {
    let mut offset = 0;
    core::iter::from_fn(move || {
        let d = text.at(offset)?;
        offset += d.bytes.len();
        Some(d)
    })
}

/// Relocated code for the instructions in `text`, all of which are
/// [relocatable](super::decode::relocatable), and the way back to behind them.
pub(crate) fn relocate(text: Text<'_>, back: Back) -> Result<Template, Refusal> {
    let (bytes, steps, fixes) = (Vec::new(), Vec::with_capacity(8), Vec::new());
    let mut builder = Builder { text, template: Template { bytes, steps, fixes, back: None } };
    let mut falls_through = true;
    for d in instructions(text) {
        builder.one(&d)?;
        // A relocated call comes back to the original code by its return address.
        falls_through = !ends_flow(&d.instruction)
            && !d.instruction.is_call_near()
            && !d.instruction.is_call_near_indirect();
    }
    let end = text.address.wrapping_add(text.bytes.len() as u64);
    builder.template.back = falls_through.then_some((end, back));
    Ok(builder.template)
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

struct Builder<'a> {
    text: Text<'a>,
    template: Template,
}

impl Builder<'_> {
    fn one(&mut self, d: &Decoded<'_>) -> Result<(), Refusal> {
        let i = &d.instruction;
        let ip = i.ip();
        if i.is_call_near() || i.is_call_near_indirect() {
            self.step(&[&CALL_NEXT], ip, 0, true);
            self.step(&[&LEA_RSP], ip, 8, false);
            self.step(&[&PUSH_RIP, &[0; 4]], ip, 0, false);
            self.leads(To::Constant(i.next_ip()));
            // The jump may fault, and then the call must look as if it had not pushed.
            if i.is_call_near() {
                let to = self.copy_of(i.near_branch_target());
                self.step(&[&[0xe9, 0, 0, 0, 0]], ip, 8, false);
                self.leads(match to {
                    // Of the function itself: it is to be seen by the probe.
                    To::Branch { to, copy: None | Some(0) } => To::Address(to),
                    copied => copied,
                });
            } else {
                let (len, bytes) = indirect_jump(d);
                self.step(&[&bytes[..len]], ip, 8, false);
                self.refers(d, len)?;
            }
        } else if i.is_jcc_short_or_near() {
            self.step(&[&[0x0f, 0x80 | condition(d.bytes), 0, 0, 0, 0]], ip, 0, true);
            self.leads(self.copy_of(i.near_branch_target()));
        } else if i.is_jmp_short_or_near() {
            self.step(&[&[0xe9, 0, 0, 0, 0]], ip, 0, true);
            self.leads(self.copy_of(i.near_branch_target()));
        } else if direct_target(i).is_some() {
            let displacement = d.bytes.len() - 1;
            self.step(&[&d.bytes[..displacement], &[2]], ip, 0, true);
            // The counter has been decremented: what is left of the instruction is to be at one of
            // its two successors.
            self.step(&[&[0xeb, 5]], i.next_ip(), 0, false);
            self.step(&[&[0xe9, 0, 0, 0, 0]], i.near_branch_target(), 0, false);
            self.leads(self.copy_of(i.near_branch_target()));
        } else {
            self.step(&[d.bytes], ip, 0, true);
            self.refers(d, d.bytes.len())?;
        }
        Ok(())
    }

    /// The target of a direct branch, and its copy among the displaced instructions.
    fn copy_of(&self, to: u64) -> To {
        let mut offset = 0;
        let mut copy = None;
        if self.text.offset(to).is_some() {
            for d in instructions(self.text) {
                if d.instruction.ip() == to {
                    copy = Some(offset);
                    break;
                }
                offset += size(&d) as u16;
            }
        }
        To::Branch { to, copy }
    }

    /// The last four bytes, at the end of an instruction, lead there.
    fn leads(&mut self, to: To) {
        let end = self.template.bytes.len() as u16;
        self.template.fixes.push(Fix { at: end - 4, end, to });
    }

    /// The last `len` bytes are an instruction that refers to what this one refers to.
    fn refers(&mut self, d: &Decoded<'_>, len: usize) -> Result<(), Refusal> {
        let Some(to) = ip_relative(&d.instruction) else { return Ok(()) };
        let at = d.constants.displacement_offset();
        if at + 4 > len {
            return Err(Refusal::NotRelocatable);
        }
        let end = self.template.bytes.len();
        let at = (end - len + at) as u16;
        self.template.fixes.push(Fix { at, end: end as u16, to: To::Address(to) });
        Ok(())
    }

    fn step(&mut self, parts: &[&[u8]], original: u64, sp: i8, start: bool) {
        let offset = self.template.bytes.len() as u32;
        let len = parts.iter().map(|p| p.len()).sum::<usize>() as u16;
        for part in parts {
            self.template.bytes.extend_from_slice(part);
        }
        self.template.steps.push(Step { offset, len, start, sp, original });
    }
}

/// `jmp` with the operand of an indirect `call`, as it is after the return address was pushed:
/// (length, bytes). The displacement of a rip-relative operand is still the old one.
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
