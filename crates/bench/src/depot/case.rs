//! What is measured: how deep the stacks are, how many there are, how many threads look them up.

use crate::harness::{Campaign, Case};

/// What is stored, and by how many.
#[derive(Clone, Copy, Debug)]
pub(super) struct DepotCase {
    /// Frames per stack.
    pub(super) depth: usize,
    /// Distinct stacks that are looked up.
    pub(super) distinct: u64,
    /// Threads at work.
    pub(super) threads: usize,
}

impl Case for DepotCase {
    fn threads(&self) -> usize {
        self.threads
    }

    fn title(&self) -> String {
        format!(
            "{} frames, {} distinct stacks, {} thread{}",
            self.depth,
            short(self.distinct),
            self.threads,
            if self.threads == 1 { "" } else { "s" }
        )
    }
}

/// One campaign per kind of stack: its stores stay alive for all thread counts and repeats.
pub(super) struct Part {
    pub(super) depth: usize,
    pub(super) distinct: u64,
    pub(super) campaign: Campaign,
    pub(super) bytes: Vec<(&'static str, Option<f64>)>,
}

/// Stores of up to so many stacks are built afresh for each measurement; larger ones once, as the
/// few stacks that a measurement adds do not change them.
pub(super) const FRESH_UP_TO: u64 = 1_000;

/// `1000` as `1k`.
pub(super) fn short(n: u64) -> String {
    match n {
        1_000_000.. if n.is_multiple_of(1_000_000) => format!("{}M", n / 1_000_000),
        1_000.. if n.is_multiple_of(1_000) => format!("{}k", n / 1_000),
        _ => n.to_string(),
    }
}
