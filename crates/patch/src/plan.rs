//! What was decided for a site, as data.

use crate::arch::x86_64::template::Redirect;
use crate::method::{Breakpoint, Detour, Method};
use crate::{Exit, Liveness, NoExits, NoReturn};
use alloc::vec::Vec;
use core::ops::Range;

/// How a probe is put at a site.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Plan {
    /// Address of the instruction that is patched. Not always the one asked for: an `endbr64` stays
    /// in place and the probe is put behind it.
    pub site: u64,
    /// What is written there.
    pub method: Method,
    /// What a probe must preserve.
    pub live: Liveness,
    /// The function branches back to the site: a hit is not always a call.
    pub loops: bool,
    /// A hit is to be counted behind the displaced instructions, if control comes there: they may
    /// leave for somewhere from where it comes back to the site.
    pub behind: bool,
    /// For a site at the entry: all branches back to it, if each of them can be redirected past
    /// the probe, so that every hit is a call.
    pub back: Option<Vec<BackBranch>>,
    /// What is reached by branches back: the site, and an `endbr64` before it.
    pub(crate) entry: Range<u64>,
    /// Whether a return probe may be put here. Functions that look at their caller in ways that
    /// their own code does not show (`dlsym`, `vfork`...) are the caller's business.
    pub returns: Result<(), NoReturn>,
    /// Where the function is left, ascending; all of it, or why not. None of their windows overlaps
    /// another, or what is displaced at the entry, unless it is [the same](Exit::at_entry). Empty
    /// for a function that is never left by its own code.
    pub exits: Result<Vec<Exit>, NoExits>,
}

/// A branch of a function back to its probed first byte, and the ways to redirect it. What is
/// emitted for either is emitted with a [`Redirect`](crate::Redirect).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BackBranch {
    /// A jump to the relocated branch, if there is room.
    pub detour: Option<Detour>,
    /// A trap on the branch; there always is room.
    pub trap: Breakpoint,
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
    /// Leads branches back to the site, or to an `endbr64` before it, to `body`, where the
    /// relocated instructions are.
    pub fn redirect(&self, body: u64) -> Redirect {
        Redirect { from: self.entry.clone(), to: body }
    }

    /// How many places of the function are written to: the site, and its exits. (Branches back to
    /// it are few.)
    pub fn sites(&self) -> usize {
        1 + self.exits.as_ref().map_or(0, |exits| exits.len())
    }

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
