//! A row that counts wrong may look fast: each measurement compares the calls it made with the hits
//! that were counted.

use super::case::ProbeCase;
use super::functions::Function;
use crate::harness::Job;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

/// What went wrong in the whole run, each thing once.
#[derive(Clone, Debug, Default)]
pub(super) struct Checks(Arc<Mutex<Vec<String>>>);

impl Checks {
    /// Adds a line to the report's notes.
    pub(super) fn say(&self, line: String) {
        let mut lines = self.0.lock().expect("nobody panics with the lines");
        if !lines.contains(&line) {
            lines.push(line);
        }
    }

    /// All lines.
    pub(super) fn lines(&self) -> Vec<String> {
        self.0.lock().expect("nobody panics with the lines").clone()
    }
}

/// Something that counts during one measurement.
pub(super) trait Probe: Send + Sync {
    /// Hits since the measurement began; `None` if it cannot tell.
    fn hits(&self) -> Option<u64>;

    /// Calls the probed function.
    #[inline]
    fn call(&self, function: &Function, n: u64) {
        function.call(n);
    }
}

struct Armed<P: Probe> {
    name: &'static str,
    case: ProbeCase,
    calls: AtomicU64,
    probe: P,
    checks: Checks,
}

impl<P: Probe> Drop for Armed<P> {
    fn drop(&mut self) {
        let calls = *self.calls.get_mut();
        if let Some(hits) = self.probe.hits().filter(|hits| *hits != calls) {
            let case = crate::harness::Case::title(&self.case);
            self.checks
                .say(format!("WRONG COUNT: {}, {case}: {hits} hits of {calls} calls", self.name));
        }
    }
}

/// Calls the function of `case` with `probe` armed, and compares the counts when it is over.
pub(super) fn job<P: Probe + 'static>(
    name: &'static str,
    case: &ProbeCase,
    probe: P,
    checks: &Checks,
) -> Job {
    let armed =
        Armed { name, case: *case, calls: AtomicU64::new(0), probe, checks: checks.clone() };
    let function = case.function();
    Box::new(move |_, meter| {
        let mut calls = 0;
        meter.run(|n| {
            armed.probe.call(function, n);
            calls += n;
        });
        // Relaxed: the thread's end orders it before the comparison.
        armed.calls.fetch_add(calls, Ordering::Relaxed);
    })
}
