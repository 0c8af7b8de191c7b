//! The probes that the agent needs itself, armed together: each batch looks at the whole process.

use crate::decided::Decided;
use crate::{log, watched};
use uprobe::{Batch, Engine, Patching, Target};

/// Probes to be armed together.
pub(crate) struct OwnProbes<'d> {
    batch: Batch<'static>,
    decided: &'d Decided<'d>,
    /// Of each, in the batch's order: the function's address, and what does not work without it.
    what_for: Vec<(u64, &'static str)>,
}

impl<'d> OwnProbes<'d> {
    pub(crate) fn new(engine: &'static Engine, decided: &'d Decided<'d>) -> Self {
        Self { batch: engine.batch(), decided, what_for: Vec::new() }
    }

    /// Adds a probe on a function that is known to [`watched`]; `without` is what the log says
    /// where it cannot be.
    pub(crate) fn add(&mut self, target: Target, without: &'static str) {
        self.what_for.push((target.address, without));
        self.decided.add(&mut self.batch, target);
    }

    /// Arms them. A function that cannot be probed so is not watched any more.
    pub(crate) fn arm(self) {
        let results = self.batch.commit(Patching::Quiet);
        for ((address, without), result) in self.what_for.into_iter().zip(results) {
            if let Err(why) = result {
                watched::remove(address);
                log::line(&format!("{without}: {why}"));
            }
        }
    }
}
