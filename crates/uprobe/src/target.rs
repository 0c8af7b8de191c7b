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
    /// Whether a return probe may be put there, as far as the caller knows.
    pub returns: bool,
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
            breakpoint: false,
            traps: true,
        }
    }

    pub(crate) fn range(&self) -> Range<u64> {
        self.address..self.address.saturating_add(u64::from(self.size))
    }
}
