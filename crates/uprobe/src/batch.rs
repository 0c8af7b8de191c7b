//! Arming many sites at once.

use crate::armed::Armed;
use crate::engine::{Config, Engine};
use crate::maps;
use crate::outside::{self, Change};
use crate::parts::Around;
use crate::planning::plans;
use crate::sites::{Patching, State};
use crate::target::Target;
use crate::text::Text;
use crate::work::{Ready, Work};
use crate::{Refusal, activation, consumer, kernel, live, signals, site_table, stubs};
use alloc::boxed::Box;
use alloc::vec::Vec;
use core::ops::Range;
use patch::{Decision, Plan};

/// What became of a batch whose changes somebody else writes.
#[derive(Clone, Debug)]
pub struct Prepared {
    /// For each target, in the order they were added.
    pub armed: Vec<Result<Armed, Refusal>>,
    /// What has to be written for those that are armed: all or nothing.
    pub changes: Vec<Change>,
}

/// Sites to be armed together.
#[derive(Debug)]
pub struct Batch<'e> {
    engine: &'e Engine,
    config: Config,
    targets: Vec<Target>,
    /// What was decided elsewhere, for each target.
    decisions: Vec<Option<Result<Box<Plan>, patch::Refusal>>>,
    rseq: Vec<Range<u64>>,
}

impl Engine {
    /// An empty batch.
    pub fn batch(&'static self) -> Batch<'static> {
        let (targets, decisions, rseq) = Default::default();
        Batch { engine: self, config: self.config, targets, decisions, rseq }
    }
}

impl Batch<'_> {
    /// Adds a target.
    pub fn add(&mut self, target: Target) {
        self.targets.push(target);
        self.decisions.push(None);
    }

    /// Adds a target for which was decided elsewhere what to do: where its file is. Nothing is
    /// decoded or searched for here. If its first bytes are not those that the decision is about,
    /// it is taken again.
    pub fn add_decided(&mut self, target: Target, decision: Decision) {
        self.targets.push(target);
        self.decisions.push(Some(decision.map(Box::new)));
    }

    /// Breakpoints of this batch go on as `config` says, not as the engine's own configuration
    /// does. For benchmarks that compare the ways in one process.
    pub fn breakpoints(&mut self, config: Config) {
        self.config = config;
    }

    /// Adds a restartable sequence (`start .. start + post_commit_offset`): sites in it are
    /// refused.
    pub fn add_rseq(&mut self, range: Range<u64>) {
        self.rseq.push(range);
    }

    /// Arms everything, and says for each target, in the order they were added, what became of it.
    /// A target that is refused does not concern the others.
    #[cfg(feature = "std")]
    pub fn commit(self, patching: Patching) -> Vec<Result<Armed, Refusal>> {
        self.arm(Some(patching)).armed
    }

    /// Prepares everything, but writes no code of the program: says what has to be written. The
    /// sites count as armed from now on, and the stubs are there. For whoever stops all threads
    /// from outside; no signal handler is installed, and no breakpoint is set: where there is no
    /// room for a jump, it is a [`Refusal::NeedsTrap`]. Only the last one of the instructions that
    /// a jump displaces can be a call, so that no thread that is below it returns into the jump.
    ///
    /// A site that was removed ([`Engine::remove_outside`]) is armed again by the same change, if
    /// the same is asked of it.
    pub fn commit_outside(self) -> Prepared {
        self.arm(None)
    }

    /// `patching`: none, if somebody else writes.
    fn arm(self, patching: Option<Patching>) -> Prepared {
        // In an image it is always somebody else: what is for others is left out there.
        let patching = patching.filter(|_| cfg!(feature = "std"));
        let mappings = maps::read();
        let mut state = self.engine.lock();
        let stack = activation::first_stack().end;
        let gaps = maps::usable_gaps(&mappings, kernel::program_break(), stack);
        state.near.refresh(gaps.clone());
        // Whoever has the stubs sealed by the file needs it for them.
        let writes = patching.is_some() || cfg!(feature = "std");
        let text = if writes { Text::open() } else { Text::unopened() };
        let plans = plans(&state, &mappings, &self.targets, self.decisions, &self.rseq);
        let mut work = Work {
            config: self.config,
            state: &mut state,
            around: Around { new_from: site_table::next(), patching, gaps: &gaps, text: &text },
            stubs: Vec::with_capacity(self.targets.len()),
        };
        let mut ready: Vec<Result<Ready, Refusal>> = self
            .targets
            .iter()
            .zip(plans)
            .map(|(target, plan)| work.prepare(target, plan?))
            .collect();
        let stubs = work.stubs;
        stubs::add(stubs.into_iter());
        if !state.near.seal(&text) || !state.trampolines.seal() {
            take_back(&ready);
            state.forget_chosen(&ready);
            let armed = ready.iter().map(|_| Err(Refusal::NoRoom)).collect();
            return Prepared { armed, changes: Vec::new() };
        }
        let sites: Vec<u64> =
            ready.iter().flatten().flat_map(|r| state.with_branches(r.site)).collect();
        let traps = || ready.iter().flatten().any(|r| !r.traps.is_empty());
        if cfg!(feature = "std") && traps() {
            signals::traps::install();
        }
        for (address, meaning) in ready.iter().flatten().flat_map(|r| &r.traps) {
            state.traps.set(*address, *meaning);
        }
        state.forget_chosen(&ready);
        let mut changes = Vec::new();
        let written = match patching {
            Some(patching) => live::arm(&mut state, &sites, patching, &text),
            None => {
                changes = outside::arm(&mut state, &sites);
                Ok(())
            }
        };
        if written.is_err() {
            take_back(&ready);
        }
        let armed = ready.drain(..).map(|r| r.and_then(|r| written.map(|()| r.armed))).collect();
        Prepared { armed, changes }
    }
}

impl State {
    /// The batch is complete: what is to be armed of it is, or never will be.
    fn forget_chosen(&mut self, ready: &[Result<Ready, Refusal>]) {
        let sites: Vec<u64> =
            ready.iter().flatten().flat_map(|r| self.with_branches(r.site)).collect();
        for at in sites {
            if let Some(site) = self.sites.get_mut(&at) {
                site.chosen = false;
            }
        }
    }
}

/// Takes away what was added for targets that are not armed after all.
fn take_back(ready: &[Result<Ready, Refusal>]) {
    for ready in ready.iter().flatten() {
        if let Some(id) = ready.consumer {
            consumer::remove(site_table::site(ready.armed.id.0), id);
        }
    }
}
