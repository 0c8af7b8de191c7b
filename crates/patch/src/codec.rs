//! Decisions as bytes: made where the files are, used where the code is.
//!
//! All addresses are written as distances, so the bytes are the same wherever its object
//! is loaded, and can be kept for the file. Numbers take seven bits a byte, the low ones first, and
//! distances their sign in the lowest bit.

use crate::arch::x86_64::emulate::{Effect, Emulation};
use crate::arch::x86_64::template::{Back, Cut, Fix, Template, To};
use crate::method::{Anchors, Breakpoint, Detour, Method, Resume};
use crate::plan::{BackBranch, Plan};
use crate::{Exit, Leave, Leaving, Liveness, NoDetour, NoExits, NoReturn, Refusal, Step};
use alloc::vec::Vec;
use core::fmt;

/// The most bytes that a list has: a function that is moved as a whole has less.
const LONGEST: u64 = 4096;

/// The most branches back to its first byte that a function has.
const MOST_BRANCHES: u64 = 1 << 20;

/// Bytes that are no decision.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Malformed;

impl fmt::Display for Malformed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("not the bytes of a decision")
    }
}

impl core::error::Error for Malformed {}

/// What was decided for a site.
pub type Decision = Result<Plan, Refusal>;

/// How many places are written to by what was decided ([`Plan::sites`]); 1 where nothing was, or
/// nothing is to be.
pub fn sites(decision: Option<&Decision>) -> usize {
    decision.map_or(1, |decided| decided.as_ref().map_or(1, Plan::sites))
}

/// Appends a decision to `out`. `base` is what the object's own addresses count from: what the
/// loader adds to them, and 0 for a plan that was made from the file.
///
/// Context: allocates where `out` grows.
pub fn encode(decision: &Decision, base: u64, out: &mut Vec<u8>) {
    let mut w = Writer { site: 0, out };
    match decision {
        Ok(plan) => {
            w.number(0);
            w.plan(plan, base);
        }
        Err(why) => w.number(number_of(&Refusal::ALL, *why) + 1),
    }
}

/// Reads a decision about an object whose addresses count from `base`, and how many bytes it took.
///
/// Context: allocates. Whatever the bytes are, what is emitted for a plan is of bounded size;
/// whether it is the code of the function is for the caller to know, who compares
/// [`Method::original`] with what is there before it is written over.
///
/// # Errors
/// [`Malformed`].
pub fn decode(bytes: &[u8], base: u64) -> Result<(Decision, usize), Malformed> {
    let mut r = Reader { site: 0, bytes, at: 0 };
    let decision = match r.number()? {
        0 => Ok(r.plan(base)?),
        why => Err(one_of(&Refusal::ALL, why - 1)?),
    };
    Ok((decision, r.at))
}

/// The place of a reason in the list of all.
fn number_of<T: PartialEq>(all: &[T], one: T) -> u64 {
    all.iter().position(|known| *known == one).unwrap_or(0) as u64
}

fn one_of<T: Copy>(all: &[T], number: u64) -> Result<T, Malformed> {
    usize::try_from(number).ok().and_then(|at| all.get(at)).copied().ok_or(Malformed)
}

pub(crate) struct Writer<'o> {
    pub(crate) site: u64,
    pub(crate) out: &'o mut Vec<u8>,
}

impl Writer<'_> {
    pub(crate) fn number(&mut self, mut value: u64) {
        while value >= 0x80 {
            self.out.push(value as u8 | 0x80);
            value >>= 7;
        }
        self.out.push(value as u8);
    }

    fn signed(&mut self, value: i64) {
        self.number((value << 1 ^ value >> 63).cast_unsigned());
    }

    fn distance(&mut self, from: u64, to: u64) {
        self.signed(to.wrapping_sub(from).cast_signed());
    }

    fn address(&mut self, address: u64) {
        self.distance(self.site, address);
    }

    pub(crate) fn bytes(&mut self, bytes: &[u8]) {
        self.number(bytes.len() as u64);
        self.out.extend_from_slice(bytes);
    }

    fn plan(&mut self, plan: &Plan, base: u64) {
        self.site = plan.site;
        self.distance(base, plan.site);
        self.method(&plan.method);
        self.liveness(&plan.live);
        self.number(plan.loops.into());
        self.number(plan.behind.into());
        match &plan.back {
            None => self.number(0),
            Some(back) => {
                self.number(back.len() as u64 + 1);
                for branch in back {
                    self.number(branch.detour.is_some().into());
                    branch.detour.iter().for_each(|detour| self.detour(detour));
                    self.breakpoint(&branch.trap);
                }
            }
        }
        self.address(plan.entry.start);
        self.address(plan.entry.end);
        self.number(plan.returns.err().map_or(0, |why| number_of(&NoReturn::ALL, why) + 1));
        match &plan.exits {
            Err(why) => self.number(number_of(&NoExits::ALL, *why)),
            Ok(exits) => {
                self.number((NoExits::ALL.len() + exits.len()) as u64);
                exits.iter().for_each(|exit| self.exit(exit));
            }
        }
    }

    fn exit(&mut self, exit: &Exit) {
        self.number(exit.at_entry.into());
        if !exit.at_entry {
            self.detour(&exit.detour);
        }
        self.number(exit.leaves.len() as u64);
        for leaving in &exit.leaves {
            self.address(leaving.address);
            match leaving.leave {
                Leave::Return => self.number(0),
                Leave::Tail(None) => self.number(1),
                Leave::Tail(Some(to)) => {
                    self.number(2);
                    self.address(to);
                }
            }
            self.liveness(&leaving.live);
            self.number(leaving.cut.at.into());
            self.number(leaving.cut.conditional.into());
        }
    }

    fn method(&mut self, method: &Method) {
        match method {
            Method::Detour(detour) => {
                self.number(0);
                self.detour(detour);
            }
            Method::Breakpoint(breakpoint) => {
                self.number(1);
                self.breakpoint(breakpoint);
            }
        }
    }

    fn detour(&mut self, detour: &Detour) {
        self.address(detour.site);
        self.bytes(&detour.original);
        self.number(detour.code as u64);
        self.template(&detour.template);
        self.bytes(&detour.boundaries);
        self.anchors(detour.anchors);
    }

    fn breakpoint(&mut self, breakpoint: &Breakpoint) {
        self.address(breakpoint.site);
        self.number(number_of(&NoDetour::ALL, breakpoint.why));
        self.bytes(&breakpoint.original);
        match &breakpoint.resume {
            Resume::Slot => self.number(0),
            Resume::Emulate(emulation) => {
                self.number(1);
                self.emulation(emulation);
            }
        }
        self.template(&breakpoint.template);
        self.anchors(breakpoint.anchors);
    }

    fn anchors(&mut self, anchors: Option<Anchors>) {
        self.number(anchors.is_some().into());
        if let Some(Anchors { first, last }) = anchors {
            self.address(first);
            self.address(last);
        }
    }

    fn emulation(&mut self, emulation: &Emulation) {
        self.address(emulation.next);
        match emulation.effect {
            Effect::Nothing => self.number(0),
            Effect::PushRegister(register) => {
                self.number(1);
                self.number(register.into());
            }
            Effect::PushConstant(value) => {
                self.number(2);
                self.number(value);
            }
            Effect::Return(more) => {
                self.number(3);
                self.number(more);
            }
            Effect::Jump(to) => {
                self.number(4);
                self.address(to);
            }
            Effect::JumpRegister(register) => {
                self.number(5);
                self.number(register.into());
            }
            Effect::JumpMemory(at) => {
                self.number(6);
                self.address(at);
            }
            Effect::JumpIf(condition, to) => {
                self.number(7);
                self.number(condition.into());
                self.address(to);
            }
            Effect::JumpIfZero { wide, target } => {
                self.number(8);
                self.number(wide.into());
                self.address(target);
            }
            Effect::Call(to) => {
                self.number(9);
                self.address(to);
            }
        }
    }

    fn template(&mut self, template: &Template) {
        self.bytes(&template.bytes);
        self.number(template.steps.len() as u64);
        for step in &template.steps {
            self.number(step.offset.into());
            self.number(step.len.into());
            self.number(step.start.into());
            self.signed(step.sp.into());
            self.address(step.original);
        }
        self.number(template.fixes.len() as u64);
        for fix in &template.fixes {
            self.number(fix.at.into());
            self.number(fix.end.into());
            let (kind, to, copy) = match fix.to {
                To::Address(to) => (0, to, None),
                To::Branch { to, copy: None } => (1, to, None),
                To::Branch { to, copy } => (2, to, copy),
                To::Constant(to) => (3, to, None),
            };
            self.number(kind);
            self.address(to);
            copy.iter().for_each(|copy| self.number((*copy).into()));
        }
        match template.back {
            None => self.number(0),
            Some((to, back)) => {
                self.number(if back == Back::Near { 1 } else { 2 });
                self.address(to);
            }
        }
    }

    fn liveness(&mut self, live: &Liveness) {
        self.number(live.flags().iter().rev().fold(0, |bits, flag| bits << 1 | u64::from(*flag)));
    }
}

pub(crate) struct Reader<'b> {
    pub(crate) site: u64,
    pub(crate) bytes: &'b [u8],
    pub(crate) at: usize,
}

impl<'b> Reader<'b> {
    pub(crate) fn number(&mut self) -> Result<u64, Malformed> {
        let mut value = 0;
        for shift in (0..64).step_by(7) {
            let byte = *self.bytes.get(self.at).ok_or(Malformed)?;
            self.at += 1;
            value |= u64::from(byte & 0x7f) << shift;
            if byte & 0x80 == 0 {
                return Ok(value);
            }
        }
        Err(Malformed)
    }

    fn signed(&mut self) -> Result<i64, Malformed> {
        let value = self.number()?;
        Ok((value >> 1).cast_signed() ^ -((value & 1).cast_signed()))
    }

    fn address(&mut self) -> Result<u64, Malformed> {
        Ok(self.site.wrapping_add_signed(self.signed()?))
    }

    fn below(&mut self, limit: u64) -> Result<u64, Malformed> {
        self.number().ok().filter(|value| *value < limit).ok_or(Malformed)
    }

    fn flag(&mut self) -> Result<bool, Malformed> {
        Ok(self.below(2)? != 0)
    }

    fn length(&mut self) -> Result<u64, Malformed> {
        self.below(LONGEST)
    }

    fn bytes(&mut self) -> Result<&'b [u8], Malformed> {
        let len = self.length()?;
        self.take(len)
    }

    /// So many of them.
    fn list<T>(
        &mut self,
        len: u64,
        one: impl Fn(&mut Self) -> Result<T, Malformed>,
    ) -> Result<Vec<T>, Malformed> {
        let mut list = Vec::new();
        for _ in 0..len {
            list.push(one(self)?);
        }
        Ok(list)
    }

    pub(crate) fn take(&mut self, len: u64) -> Result<&'b [u8], Malformed> {
        let len = usize::try_from(len).map_err(|_| Malformed)?;
        let end = self.at.checked_add(len).ok_or(Malformed)?;
        let bytes = self.bytes.get(self.at..end).ok_or(Malformed)?;
        self.at = end;
        Ok(bytes)
    }

    fn plan(&mut self, base: u64) -> Result<Plan, Malformed> {
        let site = base.wrapping_add_signed(self.signed()?);
        self.site = site;
        let method = self.method()?;
        let live = self.liveness()?;
        let loops = self.flag()?;
        let behind = self.flag()?;
        let back = match self.below(MOST_BRANCHES)? {
            0 => None,
            more => Some(self.list(more - 1, Self::back_branch)?),
        };
        let entry = self.address()?..self.address()?;
        let returns = match self.number()? {
            0 => Ok(()),
            why => Err(one_of(&NoReturn::ALL, why - 1)?),
        };
        let none = NoExits::ALL.len() as u64;
        let exits = match self.below(none + LONGEST)? {
            why if why < none => Err(one_of(&NoExits::ALL, why)?),
            some => Ok(self.list(some - none, |r| r.exit(&method))?),
        };
        Ok(Plan { site, method, live, loops, behind, back, entry, returns, exits })
    }

    fn exit(&mut self, entry: &Method) -> Result<Exit, Malformed> {
        let at_entry = self.flag()?;
        let detour = match entry {
            Method::Detour(entry) if at_entry => entry.clone(),
            Method::Breakpoint(_) if at_entry => return Err(Malformed),
            _ => self.detour()?,
        };
        let len = self.length()?;
        let leaves = self.list(len, |r| r.leaving(&detour.template))?;
        if leaves.is_empty() || !leaves.is_sorted_by(|a, b| a.cut.at < b.cut.at) {
            return Err(Malformed);
        }
        Ok(Exit { at_entry, detour, leaves })
    }

    fn leaving(&mut self, template: &Template) -> Result<Leaving, Malformed> {
        let address = self.address()?;
        let leave = match self.below(3)? {
            0 => Leave::Return,
            1 => Leave::Tail(None),
            _ => Leave::Tail(Some(self.address()?)),
        };
        let live = self.liveness()?;
        let at = self.below(template.bytes.len() as u64)? as u16;
        let cut = Cut { at, conditional: self.flag()? };
        if template.takes(cut) { Ok(Leaving { address, leave, live, cut }) } else { Err(Malformed) }
    }

    fn method(&mut self) -> Result<Method, Malformed> {
        Ok(match self.below(2)? {
            0 => Method::Detour(self.detour()?),
            _ => Method::Breakpoint(self.breakpoint()?),
        })
    }

    fn back_branch(&mut self) -> Result<BackBranch, Malformed> {
        let detour = if self.flag()? { Some(self.detour()?) } else { None };
        Ok(BackBranch { detour, trap: self.breakpoint()? })
    }

    fn detour(&mut self) -> Result<Detour, Malformed> {
        let site = self.address()?;
        let original = self.bytes()?.to_vec();
        let code = self.below(original.len() as u64 + 1)? as usize;
        let template = self.template()?;
        let boundaries = self.bytes()?.to_vec();
        let anchors = self.anchors()?;
        // The jump takes five.
        let whole = original.len() >= 5 && boundaries.iter().all(|at| (1..5).contains(at));
        let detour = Detour { site, original, code, template, boundaries, anchors };
        if whole { Ok(detour) } else { Err(Malformed) }
    }

    fn breakpoint(&mut self) -> Result<Breakpoint, Malformed> {
        let site = self.address()?;
        let why = self.number()?;
        let why = one_of(&NoDetour::ALL, why)?;
        let original = self.bytes()?.to_vec();
        let resume = if self.flag()? { Resume::Emulate(self.emulation()?) } else { Resume::Slot };
        let template = self.template()?;
        let anchors = self.anchors()?;
        let breakpoint = Breakpoint { site, why, original, resume, template, anchors };
        if breakpoint.original.is_empty() { Err(Malformed) } else { Ok(breakpoint) }
    }

    fn anchors(&mut self) -> Result<Option<Anchors>, Malformed> {
        let some = self.flag()?;
        some.then(|| Ok(Anchors { first: self.address()?, last: self.address()? })).transpose()
    }

    fn emulation(&mut self) -> Result<Emulation, Malformed> {
        let next = self.address()?;
        let effect = match self.number()? {
            0 => Effect::Nothing,
            1 => Effect::PushRegister(self.below(16)? as u8),
            2 => Effect::PushConstant(self.number()?),
            3 => Effect::Return(self.number()?),
            4 => Effect::Jump(self.address()?),
            5 => Effect::JumpRegister(self.below(16)? as u8),
            6 => Effect::JumpMemory(self.address()?),
            7 => Effect::JumpIf(self.below(16)? as u8, self.address()?),
            8 => Effect::JumpIfZero { wide: self.flag()?, target: self.address()? },
            9 => Effect::Call(self.address()?),
            _ => return Err(Malformed),
        };
        Ok(Emulation { next, effect })
    }

    fn template(&mut self) -> Result<Template, Malformed> {
        let bytes = self.bytes()?.to_vec();
        let len = bytes.len() as u64;
        let steps = self.length().and_then(|all| self.list(all, |r| r.step(len)))?;
        // One behind the other, and no byte besides.
        let behind = |at: u64, step: &Step| {
            (u64::from(step.offset) == at && step.len > 0).then(|| at + u64::from(step.len))
        };
        if steps.iter().try_fold(0, behind) != Some(len) {
            return Err(Malformed);
        }
        let fixes = self.length().and_then(|all| self.list(all, |r| r.fix(len)))?;
        let back = match self.below(3)? {
            0 => None,
            1 => Some((self.address()?, Back::Near)),
            _ => Some((self.address()?, Back::Anywhere)),
        };
        Ok(Template { bytes, steps, fixes, back })
    }

    fn step(&mut self, len: u64) -> Result<Step, Malformed> {
        let offset = self.below(len)?;
        let size = self.below(len - offset + 1)?;
        Ok(Step {
            offset: offset as u32,
            len: size as u16,
            start: self.flag()?,
            sp: self.signed()?.try_into().map_err(|_| Malformed)?,
            original: self.address()?,
        })
    }

    fn fix(&mut self, len: u64) -> Result<Fix, Malformed> {
        let at = self.below(len)?;
        let end = self.below(len + 1)?;
        if at + 4 > end {
            return Err(Malformed);
        }
        let kind = self.below(4)?;
        let to = self.address()?;
        let to = match kind {
            0 => To::Address(to),
            1 => To::Branch { to, copy: None },
            2 => To::Branch { to, copy: Some(self.below(len)? as u16) },
            _ => To::Constant(to),
        };
        Ok(Fix { at: at as u16, end: end as u16, to })
    }

    fn liveness(&mut self) -> Result<Liveness, Malformed> {
        let bits = self.below(1 << Liveness::FLAGS)?;
        Ok(Liveness::of(core::array::from_fn(|flag| bits >> flag & 1 != 0)))
    }
}
