//! The choice of the method.

use crate::{Body, Emulation, Function, Liveness, NoDetour, NoReturn, Options, Refusal};
use core::fmt;
use core::ops::Range;

/// How a probe is put at a site.
#[derive(Clone, Debug)]
pub struct Plan {
    /// Address of the instruction that is patched. Not always the one asked for: an `endbr64` stays in place and the probe is put behind it.
    pub site: u64,
    /// What is written there.
    pub method: Method,
    /// What a probe must preserve.
    pub live: Liveness,
    /// The function branches back to the site: a hit is not always a call.
    pub loops: bool,
    /// Whether a return probe may be put here. Functions that look at their caller in ways that their own code does not show (`dlsym`, `vfork`...) are the caller's business.
    pub returns: Result<(), NoReturn>,
}

/// What is written at a site.
#[derive(Clone, Debug)]
pub enum Method {
    /// A jump of five bytes to a stub.
    Detour(Detour),
    /// `int3`.
    Breakpoint(Breakpoint),
}

/// A jump displaces whole instructions, which run relocated.
#[derive(Clone, Debug)]
pub struct Detour {
    original: Vec<u8>,
    boundaries: Vec<u8>,
    reach: Range<u64>,
}

impl Detour {
    /// Bytes displaced, 5 to 19.
    pub fn window(&self) -> usize {
        self.original.len()
    }

    /// The displaced bytes; the jump is written over the first five.
    pub fn original(&self) -> &[u8] {
        &self.original
    }

    /// Offsets below 5 at which displaced instructions begin, without 0: where a thread can have been preempted inside the jump ([`trap_safe_targets`](crate::trap_safe_targets)).
    pub fn boundaries(&self) -> &[u8] {
        &self.boundaries
    }

    /// Where every byte of the stub must lie, so that the jump reaches it and the relocated instructions reach what they refer to. Never empty.
    pub fn reach(&self) -> Range<u64> {
        self.reach.clone()
    }

    /// Appends the relocated instructions and the jump back, to run with their first byte at `at`.
    ///
    /// # Errors
    /// [`Refusal::OutOfReach`] when `at` is not in [`Detour::reach`]; `out` is then as it was.
    pub fn emit_body(&self, at: u64, out: &mut Vec<u8>) -> Result<Body, Refusal> {
        let _ = (at, out);
        Err(Refusal::NotRelocatable)
    }
}

/// A trap: the handler computes the effect of the instruction, or goes on in its slot.
#[derive(Clone, Debug)]
pub struct Breakpoint {
    why: NoDetour,
    original: Vec<u8>,
    resume: Resume,
    reach: Range<u64>,
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
        self.reach.clone()
    }

    /// Appends the slot: the relocated instruction and the jump back, to run with its first byte at `at`. Possible for emulated instructions, too.
    ///
    /// # Errors
    /// [`Refusal::OutOfReach`] when `at` is not in [`Breakpoint::reach`]; `out` is then as it was.
    pub fn emit_slot(&self, at: u64, out: &mut Vec<u8>) -> Result<Body, Refusal> {
        let _ = (at, out);
        Err(Refusal::NotRelocatable)
    }
}

/// What a hit does, for [`Plan::cost_ns`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Probe {
    /// Counts entries.
    Count,
    /// Measures the time from entry to return.
    Time,
}

impl Plan {
    /// Estimated nanoseconds that a hit adds on the machine that the design was measured on.
    pub fn cost_ns(&self, probe: Probe) -> f64 {
        match (&self.method, probe) {
            (Method::Detour(_), Probe::Count) => 1.2,
            (Method::Detour(_), Probe::Time) => 26.0,
            (Method::Breakpoint(_), Probe::Count) => 2400.0,
            (Method::Breakpoint(_), Probe::Time) => 2430.0,
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

/// Decides how to put a probe at `f.site`.
///
/// Context: allocates; time is linear in the size of the function (about 10 ns for an instruction).
///
/// # Errors
/// The reason why there can be no probe.
pub fn plan(f: &Function<'_>, options: &Options<'_>) -> Result<Plan, Refusal> {
    let _ = (f, options);
    Err(Refusal::Undecodable)
}
