//! What a run was told.

use std::time::Duration;

/// How one flavour is tortured.
pub(crate) struct Setting {
    pub(crate) readers: usize,
    pub(crate) time: Duration,
    pub(crate) stall: Duration,
    pub(crate) seed: u64,
}
