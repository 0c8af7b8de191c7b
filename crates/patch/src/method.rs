//! What is written at a site.

use crate::arch::x86_64::template::{Template, Ways};
use crate::{Body, Emulation, NoDetour, Redirect, Refusal};
use alloc::vec::Vec;
use core::fmt;
use core::ops::Range;

/// What is written at a site.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Method {
    /// A jump of five bytes to a stub.
    Detour(Detour),
    /// `int3`.
    Breakpoint(Breakpoint),
}

/// The first and the last address that some code must reach, wherever it is put.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Anchors {
    pub(crate) first: u64,
    pub(crate) last: u64,
}

impl Anchors {
    /// Addresses from which both are reached; all, if there are none to reach.
    pub(crate) fn reach(anchors: Option<Self>) -> Range<u64> {
        // The displacement counts from the end of an instruction of the stub, which is at most 15
        // bytes behind the byte that the range speaks of.
        const MARGIN: u64 = 64;
        const FAR: u64 = i32::MAX as u64 - MARGIN;
        anchors.map_or(0..u64::MAX, |Self { first, last }| {
            last.saturating_sub(FAR)..first.saturating_add(FAR)
        })
    }
}

/// A jump displaces whole instructions, which run relocated.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Detour {
    pub(crate) site: u64,
    pub(crate) original: Vec<u8>,
    /// How many of them are instructions; padding that never runs is the rest.
    pub(crate) code: usize,
    pub(crate) template: Template,
    pub(crate) boundaries: Vec<u8>,
    pub(crate) anchors: Option<Anchors>,
}

impl Detour {
    /// Address of the first displaced byte.
    pub fn site(&self) -> u64 {
        self.site
    }

    /// Bytes displaced. No displaced instruction but the last is a call, so that whoever is below
    /// one comes back behind them. 5 to 19, or all of a small function that branches into its own
    /// first bytes and is moved as a whole (at most 512 bytes of relocated code; a call takes 29
    /// bytes more than the original, a branch at most 7).
    pub fn window(&self) -> usize {
        self.original.len()
    }

    /// The displaced bytes; the jump is written over the first five.
    pub fn original(&self) -> &[u8] {
        &self.original
    }

    /// Offsets below 5 at which displaced instructions begin, without 0: where a thread can have
    /// been preempted inside the jump ([`trap_safe_targets`](crate::trap_safe_targets)).
    pub fn boundaries(&self) -> &[u8] {
        &self.boundaries
    }

    /// Where every byte of the stub must lie, so that the jump reaches it and the relocated
    /// instructions reach what they refer to. Never empty.
    pub fn reach(&self) -> Range<u64> {
        Anchors::reach(self.anchors)
    }

    /// Appends the relocated instructions and the jump back, to run with their first byte at `at`.
    ///
    /// # Errors
    /// [`Refusal::OutOfReach`] when the code does not reach what it refers to from `at`, never
    /// inside [`Detour::reach`]; `out` is then as it was.
    pub fn emit_body(&self, at: u64, out: &mut Vec<u8>) -> Result<Body, Refusal> {
        self.emit_redirected(at, None, out)
    }

    /// [`Detour::emit_body`] with the branches of the displaced instructions that lead to
    /// `redirect.from` leading to `redirect.to`.
    ///
    /// # Errors
    /// As there; also when `redirect.to` is not within reach of `at`.
    pub fn emit_redirected(
        &self,
        at: u64,
        redirect: Option<&Redirect>,
        out: &mut Vec<u8>,
    ) -> Result<Body, Refusal> {
        self.template.emit(Ways::of(redirect, None, &mut |_, _, _| ()), at, out)
    }

    /// [`Detour::emit_body`] with a jump to `onward` in the place of the jump back; and the address
    /// that this would have led to. `None`: control never comes there.
    ///
    /// # Errors
    /// As there; also when `onward` is not within reach of `at`.
    pub fn emit_onward(
        &self,
        at: u64,
        onward: u64,
        out: &mut Vec<u8>,
    ) -> Result<(Body, Option<u64>), Refusal> {
        let body = self.template.emit(Ways::of(None, Some(onward), &mut |_, _, _| ()), at, out)?;
        Ok((body, self.template.back.map(|(to, _)| to)))
    }
}

/// A trap: the handler computes the effect of the instruction, or goes on in its slot.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Breakpoint {
    pub(crate) site: u64,
    pub(crate) why: NoDetour,
    pub(crate) original: Vec<u8>,
    pub(crate) resume: Resume,
    pub(crate) template: Template,
    pub(crate) anchors: Option<Anchors>,
}

/// How a breakpoint goes on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Resume {
    /// By computing what the instruction does.
    Emulate(Emulation),
    /// In a relocated copy of the instruction.
    Slot,
}

impl Breakpoint {
    /// Address of the instruction.
    pub fn site(&self) -> u64 {
        self.site
    }

    /// Why there is no detour.
    pub fn why(&self) -> NoDetour {
        self.why
    }

    /// The instruction at the site; `int3` is written over its first byte.
    pub fn original(&self) -> &[u8] {
        &self.original
    }

    /// How to go on after a hit.
    pub fn resume(&self) -> &Resume {
        &self.resume
    }

    /// Where every byte of the slot must lie. All addresses if the instruction refers to none.
    pub fn reach(&self) -> Range<u64> {
        Anchors::reach(self.anchors)
    }

    /// Appends the slot: the relocated instruction and the jump back, to run with its first byte at
    /// `at`. Possible for emulated instructions, too.
    ///
    /// # Errors
    /// [`Refusal::OutOfReach`] when the code does not reach what it refers to from `at`, never
    /// inside [`Breakpoint::reach`]; `out` is then as it was.
    pub fn emit_slot(&self, at: u64, out: &mut Vec<u8>) -> Result<Body, Refusal> {
        self.emit_redirected(at, None, out)
    }

    /// [`Breakpoint::emit_slot`] with a branch that leads to `redirect.from` leading to
    /// `redirect.to`.
    ///
    /// # Errors
    /// As there; also when `redirect.to` is not within reach of `at`.
    pub fn emit_redirected(
        &self,
        at: u64,
        redirect: Option<&Redirect>,
        out: &mut Vec<u8>,
    ) -> Result<Body, Refusal> {
        self.template.emit(Ways::of(redirect, None, &mut |_, _, _| ()), at, out)
    }
}

impl Method {
    /// The bytes that it displaces.
    pub fn original(&self) -> &[u8] {
        match self {
            Self::Detour(d) => d.original(),
            Self::Breakpoint(b) => b.original(),
        }
    }
}

/// The method in a few words: `detour`, or `breakpoint (shorter than a jump)`.
impl fmt::Display for Method {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Detour(_) => f.write_str("detour"),
            Self::Breakpoint(b) => write!(f, "breakpoint ({})", b.why),
        }
    }
}
