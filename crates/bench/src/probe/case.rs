//! What is measured: a kind of probe on a function, by so many threads.

use super::functions::{FUNCTIONS, Function};
use crate::harness::Case;

/// What a probe does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Counts entries, or calls a consumer.
    Entry,
    /// Counts entries and returns without a clock.
    Return,
    /// Takes the time from entry to return into a histogram.
    Histogram,
    /// Counts entries by a breakpoint.
    Breakpoint,
}

/// One setting of the benchmark.
#[derive(Clone, Copy, Debug)]
pub struct ProbeCase {
    /// What the probes do.
    pub kind: Kind,
    /// Index in [`FUNCTIONS`].
    pub function: usize,
    /// Threads at work.
    pub threads: usize,
}

impl ProbeCase {
    /// The probed function.
    pub fn function(&self) -> &'static Function {
        &FUNCTIONS[self.function]
    }
}

impl Case for ProbeCase {
    fn threads(&self) -> usize {
        self.threads
    }

    fn title(&self) -> String {
        let kind = match self.kind {
            Kind::Entry => "entry",
            Kind::Return => "entry + return, no clock",
            Kind::Histogram => "entry + return with latency histogram",
            Kind::Breakpoint => "entry by breakpoint",
        };
        format!(
            "{kind}: {}, {} thread{}",
            self.function().name,
            self.threads,
            if self.threads == 1 { "" } else { "s" }
        )
    }
}
