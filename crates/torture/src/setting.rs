//! What a run was told.

use std::time::Duration;

/// How one flavour is tortured.
pub(super) struct Setting {
    pub(super) readers: usize,
    pub(super) time: Duration,
    pub(super) stall: Duration,
    pub(super) seed: u64,
}
