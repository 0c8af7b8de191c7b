//! What came out of one flavour's torture.

use serde::Serialize;

/// One flavour's result.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Outcome {
    pub(crate) flavour: String,
    /// Sections of reader threads.
    pub(crate) reads: u64,
    /// Sections that ended on another thread.
    pub(crate) handed_over: u64,
    /// Sections in signal handlers.
    pub(crate) in_handlers: u64,
    /// Objects replaced.
    pub(crate) updates: u64,
    /// The highest stage a reader saw; above 1 is a failure.
    pub(crate) max_stage: u32,
    /// Times that nothing moved for the time given.
    pub(crate) stalls: u64,
    pub(crate) seconds: f64,
    /// What every thread's choices began with.
    pub(crate) seed: u64,
    /// What went wrong.
    pub(crate) failure: Option<String>,
}

impl Outcome {
    pub(crate) fn header() -> String {
        format!(
            "{:<16} {:>12} {:>12} {:>12} {:>12} {:>10} {:>7} {:>7}",
            "flavour",
            "reads",
            "handed over",
            "in handlers",
            "updates",
            "max stage",
            "stalls",
            "result"
        )
    }

    pub(crate) fn line(&self) -> String {
        let result = if self.failure.is_some() { "FAILED" } else { "ok" };
        let line = format!(
            "{:<16} {:>12} {:>12} {:>12} {:>12} {:>10} {:>7} {:>7}",
            self.flavour,
            self.reads,
            self.handed_over,
            self.in_handlers,
            self.updates,
            self.max_stage,
            self.stalls,
            result
        );
        match &self.failure {
            Some(why) => format!("{line}\n    {}", why.replace('\n', "\n    ")),
            None => line,
        }
    }

    /// Of a failure, in one line: flavour, cause and seed.
    pub(crate) fn last_words(&self) -> String {
        let cause = self.failure.as_deref().unwrap_or_default().lines().next().unwrap_or_default();
        let Self { flavour, seed, .. } = self;
        let option = if flavour == "broken" {
            "--broken".to_owned()
        } else {
            format!("--flavour {flavour}")
        };
        format!("torture failed: {flavour}: {cause} ({option} --seed {seed})")
    }

    pub(crate) fn is_stalled(&self) -> bool {
        self.stalls > 0
    }
}
