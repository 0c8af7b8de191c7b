//! The choice of the method.

use crate::arch::x86_64::branches::{Branch, Kind, sweep};
use crate::arch::x86_64::decode::{Decoded, Text, relocatable};
use crate::arch::x86_64::flow::{Flow, walk};
use crate::arch::x86_64::liveness::liveness;
use crate::arch::x86_64::relocate::{Back, emit, reach};
use crate::arch::x86_64::special;
use crate::arch::x86_64::window::{Window, entered_elsewhere, outside_rseq, whole, window};
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
    site: u64,
    original: Vec<u8>,
    /// How many of them are instructions; padding that never runs is the rest.
    code: usize,
    boundaries: Vec<u8>,
    reach: Range<u64>,
}

impl Detour {
    /// Bytes displaced: 5 to 19, or all of a small function that branches into its own first bytes and is moved as a whole (at most 512 bytes
    /// of relocated code; a call takes 29 bytes more than the original, a branch at most 7).
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
    /// [`Refusal::OutOfReach`] when the code does not reach what it refers to from `at`, never inside [`Detour::reach`]; `out` is then as it was.
    pub fn emit_body(&self, at: u64, out: &mut Vec<u8>) -> Result<Body, Refusal> {
        emit(Text { address: self.site, bytes: &self.original[..self.code] }, Back::Near, at, out)
    }
}

/// A trap: the handler computes the effect of the instruction, or goes on in its slot.
#[derive(Clone, Debug)]
pub struct Breakpoint {
    site: u64,
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
    /// [`Refusal::OutOfReach`] when the code does not reach what it refers to from `at`, never inside [`Breakpoint::reach`]; `out` is then as it was.
    pub fn emit_slot(&self, at: u64, out: &mut Vec<u8>) -> Result<Body, Refusal> {
        emit(Text { address: self.site, bytes: &self.original }, Back::Anywhere, at, out)
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
    let text = Text { address: f.address, bytes: f.code };
    let asked = f.site as usize;
    if asked >= f.code.len() {
        return Err(Refusal::Empty);
    }
    let mut first = text.at(asked).ok_or(Refusal::Undecodable)?;
    special::check(text, &first)?;
    let swept = sweep(text);
    let flow = walk(text, 0);
    if !swept.starts[asked] && !flow.reached[asked] {
        return Err(Refusal::NotAnInstruction);
    }
    // An endbr64 must stay where indirect branches arrive.
    let mut site = asked;
    if let Some(next) = special::is_landing_pad(&first).then(|| text.at(asked + first.bytes.len())).flatten() {
        special::check(text, &next)?;
        site += first.bytes.len();
        first = next;
    }
    let address = text.address.wrapping_add(site as u64);
    if options.rseq.iter().any(|r| r.contains(&address)) {
        return Err(Refusal::Rseq);
    }
    let branches: Vec<Branch> = swept.branches.iter().chain(&flow.branches).copied().collect();
    let method = match detour(f, site, &flow, &branches, options) {
        Ok(detour) => Method::Detour(detour),
        Err(why) => Method::Breakpoint(breakpoint(&first, why)?),
    };
    let loops = loops(&method, address, text.address.wrapping_add(asked as u64)..address, &branches);
    let red_zone = asked != 0 || loops;
    let returns = if asked == 0 { flow.returns } else { Err(NoReturn::NotEntry) };
    Ok(Plan { site: address, live: liveness(text, site, red_zone), method, loops, returns })
}

/// The detour at the offset `site`.
fn detour(f: &Function<'_>, site: usize, flow: &Flow, branches: &[Branch], options: &Options<'_>) -> Result<Detour, NoDetour> {
    if options.breakpoint {
        return Err(NoDetour::Asked);
    }
    let mut window = window(f, site)?;
    if !flow.decodes {
        return Err(NoDetour::Undecodable);
    }
    let address = f.address.wrapping_add(site as u64);
    match entered_elsewhere(address, &window, branches, options) {
        Err(NoDetour::BranchIntoWindow) => window = whole(f, site, branches, options).ok_or(NoDetour::BranchIntoWindow)?,
        other => other?,
    }
    outside_rseq(address, &window, options)?;
    let Window { bytes, code, boundaries } = window;
    let reach = reach(Text { address, bytes: &bytes[..code] }, true);
    if reach.is_empty() {
        return Err(NoDetour::OutOfReach);
    }
    Ok(Detour { site: address, original: bytes, code, boundaries, reach })
}

fn breakpoint(first: &Decoded<'_>, why: NoDetour) -> Result<Breakpoint, Refusal> {
    if !relocatable(first) {
        return Err(Refusal::NotRelocatable);
    }
    let site = first.instruction.ip();
    let resume = Emulation::of(first).map_or(Resume::Slot, Resume::Emulate);
    let reach = reach(Text { address: site, bytes: first.bytes }, false);
    Ok(Breakpoint { site, why, original: first.bytes.to_vec(), resume, reach })
}

/// Whether the function jumps back to the site, or to what is `before` it and falls into it. A jump of a relocated instruction to the site goes to its copy.
fn loops(method: &Method, site: u64, before: Range<u64>, branches: &[Branch]) -> bool {
    let relocated = match method {
        Method::Detour(d) => d.code as u64,
        Method::Breakpoint(Breakpoint { resume: Resume::Slot, original, .. }) => original.len() as u64,
        Method::Breakpoint(_) => 0,
    };
    let own = |from: u64| from.wrapping_sub(site) < relocated;
    branches.iter().any(|b| b.kind == Kind::Jump && (before.contains(&b.to) || b.to == site && !own(b.from)))
}
