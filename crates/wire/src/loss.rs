//! Why a hit was not counted, or not timed.

/// Why a hit was not counted, or not timed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(usize)]
pub enum Loss {
    /// The engine itself came by the probe.
    Recursion = 0,
    /// Counted, not timed: more calls were running than can be remembered.
    Depth = 1,
    /// A thread found no block to count in.
    Threads = 2,
    /// The probe was being removed.
    Disabled = 3,
    /// The memory budget was used up.
    Memory = 4,
    /// A library or program came up and trapline did not answer in time: its functions were not
    /// probed.
    Unanswered = 5,
}

impl Loss {
    /// Every reason.
    pub const ALL: [Self; 6] = [
        Self::Recursion,
        Self::Depth,
        Self::Threads,
        Self::Disabled,
        Self::Memory,
        Self::Unanswered,
    ];

    /// The word that reports use.
    pub fn name(self) -> &'static str {
        match self {
            Self::Recursion => "recursion",
            Self::Depth => "depth",
            Self::Threads => "threads",
            Self::Disabled => "disabled",
            Self::Memory => "memory",
            Self::Unanswered => "unanswered",
        }
    }
}
