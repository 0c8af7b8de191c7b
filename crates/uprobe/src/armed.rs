//! What became of targets.

use crate::engine::SiteId;
use patch::{NoDetour, NoExits, NoReturn};

/// How a site is probed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Method {
    /// By a jump.
    Detour,
    /// By a breakpoint, for this reason.
    Breakpoint(NoDetour),
}

/// How returns are seen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Seen {
    /// At the function's exits: so many jumps were written for them, besides that at the entry.
    Exits(u32),
    /// By return instances.
    Instances,
}

/// Why returns are not seen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EntryOnly {
    /// Return addresses must not be replaced.
    Returns(NoReturn),
    /// The exits cannot be probed.
    Exits(NoExits),
}

impl core::fmt::Display for EntryOnly {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        match self {
            Self::Returns(why) => why.fmt(f),
            Self::Exits(why) => why.fmt(f),
        }
    }
}

/// A site that was armed.
#[derive(Clone, Copy, Debug)]
pub struct Armed {
    /// For [`Engine::remove`](crate::Engine::remove).
    pub id: SiteId,
    /// Address of the instruction that was patched: behind an `endbr64`.
    pub address: u64,
    /// How.
    pub method: Method,
    /// How returns are seen; none, if they were not asked for, or cannot be.
    pub returns: Option<Seen>,
    /// Why only entries are seen, though returns were asked for.
    pub entry_only: Option<EntryOnly>,
    /// The function branches back to its first byte, and not every such branch could be led past
    /// the probe: where no return is waited for, they count as calls.
    pub counts_branches: bool,
}
