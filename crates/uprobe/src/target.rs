//! What is asked of the engine: which function is probed, and how.

use crate::registered::Consumer;
use core::ops::Range;

/// What a probe does. Cells are byte offsets in the blocks that [`Hooks`](crate::Hooks) provide,
/// laid out as [`wire::cell`].
#[derive(Clone, Copy, Debug)]
pub enum Action {
    /// Counts entries.
    Count {
        /// Offset of a cell of [`wire::cell::COUNT_BYTES`].
        cell: u32,
    },
    /// Counts entries and returns and measures the time between, with a histogram.
    Time {
        /// Offset of a cell of [`wire::cell::TIMED_BYTES`].
        cell: u32,
    },
    /// Counts entries and returns.
    CountReturn {
        /// Offset of a cell of [`wire::cell::COUNT_BYTES`].
        cell: u32,
    },
    /// Calls a consumer. Several may share a site.
    Call(Consumer),
}

/// How returns are to be seen.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Returns {
    /// At the function's exits where they can be probed, else by return instances, if
    /// [`Target::returns`] allows them and there are any here.
    #[default]
    Best,
    /// At the exits, or not at all.
    Exits,
    /// By return instances, or not at all.
    Instances,
}

/// A function to probe.
#[derive(Clone, Copy, Debug)]
pub struct Target {
    /// Address of the function.
    pub address: u64,
    /// Its size in bytes.
    pub size: u32,
    /// Bytes behind it that belong to no other function.
    pub after: u32,
    /// Where in the function the probe goes; 0 is its entry.
    pub offset: u32,
    /// What it does.
    pub action: Action,
    /// Whether the return address may be replaced there, as far as the caller knows.
    pub returns: bool,
    /// How returns are to be seen, if the action is about them.
    pub by: Returns,
    /// Never a detour.
    pub breakpoint: bool,
    /// Whether a breakpoint may be put there. Not where the program comes by with SIGTRAP blocked
    /// by a system call of its own: the trap would kill.
    pub traps: bool,
}

impl Target {
    /// The entry of the function at `address`.
    pub fn entry(address: u64, size: u32, action: Action) -> Self {
        Self {
            address,
            size,
            after: 0,
            offset: 0,
            action,
            returns: true,
            by: Returns::Best,
            breakpoint: false,
            traps: true,
        }
    }

    /// Whether the action is about returns, too.
    pub(crate) fn sees_returns(&self) -> bool {
        match self.action {
            Action::Count { .. } => false,
            Action::Time { .. } | Action::CountReturn { .. } => true,
            Action::Call(consumer) => consumer.ret.is_some() || consumer.span.is_some(),
        }
    }

    pub(crate) fn range(&self) -> Range<u64> {
        self.address..self.address.saturating_add(u64::from(self.size))
    }
}
