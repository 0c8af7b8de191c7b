//! Arming many sites at once.
#![allow(unsafe_code)]

use crate::arch::x86_64::{prologue, switching};
use crate::breakpoint::Breakpoint;
use crate::engine::{Config, Engine, SiteId};
use crate::maps;
use crate::near::LONGEST;
use crate::outside::{Change, Outside, Way};
use crate::planning::plans;
use crate::prologue::Prologue;
use crate::registered::ConsumerId;
use crate::site_table::{self, Action as SiteAction};
use crate::sites::{self, Patching, Site, State, moved};
use crate::slots::{self, SlotPolicy};
use crate::stubs::{self, Hook, Stub};
use crate::target::{Action, Returns, Target};
use crate::text::Text;
use crate::trap_table::Meaning;
use crate::{Refusal, activation, back_branches, consumer, exits, kernel, live, process, signals};
use alloc::boxed::Box;
use alloc::{vec, vec::Vec};
use core::ops::Range;
use core::ptr;
use core::sync::atomic::Ordering;
use patch::{Body, Decision, Detour, NoDetour, NoExits, NoReturn, Plan, Resume};

/// How a site is probed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Method {
    /// By a jump.
    Detour,
    /// By a breakpoint, for this reason.
    Breakpoint(NoDetour),
}

/// How returns are seen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Seen {
    /// At the function's exits: so many jumps were written for them, besides that at the entry.
    Exits(u32),
    /// By return instances.
    Instances,
}

/// Why returns are not seen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EntryOnly {
    /// Return addresses must not be replaced.
    Returns(NoReturn),
    /// The exits cannot be probed.
    Exits(NoExits),
}

impl core::fmt::Display for EntryOnly {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        match self {
            Self::Returns(why) => why.fmt(f),
            Self::Exits(why) => why.fmt(f),
        }
    }
}

/// A site that was armed.
#[derive(Clone, Copy, Debug)]
pub struct Armed {
    /// For [`Engine::remove`].
    pub id: SiteId,
    /// Address of the instruction that was patched: behind an `endbr64`.
    pub address: u64,
    /// How.
    pub method: Method,
    /// How returns are seen; none, if they were not asked for, or cannot be.
    pub returns: Option<Seen>,
    /// Why only entries are seen, though returns were asked for.
    pub entry_only: Option<EntryOnly>,
    /// The function branches back to its first byte, and not every such branch could be led past
    /// the probe: where no return is waited for, they count as calls.
    pub counts_branches: bool,
}

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

/// A site whose stub is written.
struct Ready {
    site: u64,
    armed: Armed,
    /// What was added to the site for this target.
    consumer: Option<ConsumerId>,
    traps: Vec<(u64, Meaning)>,
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
        let traps = Outside { traps: true, unused: true };
        self.arm(Some(patching), traps).armed
    }

    /// Prepares everything, but writes no code of the program: says what has to be written. The
    /// sites count as armed from now on, and the stubs are there. For whoever stops all threads
    /// from outside. Only the last one of the instructions that a jump displaces can be a call, so
    /// that no thread that is below it returns into the jump.
    ///
    /// A site that was removed ([`Engine::remove_outside`]) is armed again by the same change, if
    /// the same is asked of it.
    pub fn commit_outside(self, outside: Outside) -> Prepared {
        self.arm(None, outside)
    }

    /// `patching`: none, if somebody else writes.
    fn arm(self, patching: Option<Patching>, outside: Outside) -> Prepared {
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
            text: &text,
            gaps,
            patching,
            outside,
            here: outside,
            stubs: Vec::with_capacity(self.targets.len()),
            new_from: site_table::next(),
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
        if traps() {
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
                changes = crate::outside::arm(&mut state, &sites);
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

    /// A probe's site, those of the branches that are led past it, and those of the function's
    /// exits.
    fn with_branches(&self, site: u64) -> impl Iterator<Item = u64> {
        let its = self.sites.get(&site);
        let back = its.map(|s| &*s.back).unwrap_or_default();
        let exits = its.and_then(|s| s.exits.as_deref()).unwrap_or_default();
        core::iter::once(site).chain(back.iter().chain(exits).copied())
    }
}

/// `entries`: returns of this function are not to be touched, whatever the consumer wants.
fn add_consumer(
    site: &site_table::Site,
    target: &Target,
    entries: bool,
) -> Result<Option<ConsumerId>, Refusal> {
    let Action::Call(mut consumer) = target.action else { return Ok(None) };
    if entries {
        (consumer.ret, consumer.span) = (None, None);
    }
    consumer::add(site, consumer).map(Some).map_err(|_| Refusal::TooManyConsumers)
}

/// What is to be done at a site.
#[derive(Clone, Copy)]
struct Chosen {
    action: SiteAction,
    returns: Option<Seen>,
    entry_only: Option<EntryOnly>,
}

impl Chosen {
    /// [`Site::action`].
    fn key(&self) -> (u32, u32) {
        let exits = if self.exits() { site_table::EXITS } else { 0 };
        (self.action.code() | exits, self.action.cell())
    }

    fn exits(&self) -> bool {
        matches!(self.returns, Some(Seen::Exits(_)))
    }

    /// What is done at the entry.
    fn at_entry(&self) -> SiteAction {
        if self.exits() { exits::at_entry(self.action) } else { self.action }
    }

    /// Whether a branch back to the first byte is told from a call by what is known of the call.
    fn tells_branches(&self) -> bool {
        match (self.returns, self.action) {
            (None, _) | (Some(Seen::Exits(_)), SiteAction::CountReturn { .. }) => false,
            (Some(_), _) => true,
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

/// What preparing one target needs.
struct Work<'w> {
    config: Config,
    state: &'w mut State,
    text: &'w Text,
    gaps: Vec<Range<u64>>,
    /// None: somebody else writes.
    patching: Option<Patching>,
    outside: Outside,
    /// The same for the target at hand.
    here: Outside,
    stubs: Vec<Stub>,
    /// The batch's first site's number, or a lower one.
    new_from: u32,
}

impl Work<'_> {
    fn prepare(
        &mut self,
        target: &Target,
        (plan, near): (Box<Plan>, Option<Box<[u64]>>),
    ) -> Result<Ready, Refusal> {
        self.here = Outside { traps: self.outside.traps && target.traps, ..self.outside };
        if !self.here.traps && matches!(plan.method, patch::Method::Breakpoint(_)) {
            return Err(Refusal::NeedsTrap);
        }
        let chosen = self.choose_action(target, &plan);
        match self.put(target, &plan, near.clone(), chosen) {
            // One of the exits is in the way of something, or has no room near it.
            Err(_) if chosen.exits() => {
                let other = self.without_exits(target, &plan, NoExits::NoRoom);
                self.put(target, &plan, near, other)
            }
            done => done,
        }
    }

    fn put(
        &mut self,
        target: &Target,
        plan: &Plan,
        near: Option<Box<[u64]>>,
        chosen: Chosen,
    ) -> Result<Ready, Refusal> {
        let Chosen { action, returns, entry_only } = chosen;
        if plan.live.no_stack {
            // A trap's handler would count there, too, but nobody could be told its site.
            if action == SiteAction::Call || matches!(plan.method, patch::Method::Breakpoint(_)) {
                return Err(Refusal::NoStack);
            }
            if !switching::prepare() {
                return Err(Refusal::NoRoom);
            }
        }
        let method = match &plan.method {
            patch::Method::Detour(_) => Method::Detour,
            patch::Method::Breakpoint(b) => Method::Breakpoint(b.why()),
        };
        let armed = |index, counts_branches| Armed {
            id: SiteId(index),
            address: plan.site,
            method,
            returns,
            entry_only,
            counts_branches,
        };
        let waits = chosen.tells_branches();
        if let Some(old) = self.state.sites.get(&plan.site) {
            let same_method = old.stub.is_some() == (method == Method::Detour);
            let same = same_method && old.action == chosen.key();
            let site = site_table::site(old.index);
            // Once it was led to by a trap, which may not be set any more.
            let is_trap = |at: u64| self.state.sites.get(&at).is_some_and(|s| s.patch.len() == 1);
            if !self.here.traps && self.state.with_branches(plan.site).any(is_trap) {
                return Err(Refusal::TwoPages);
            }
            if same || old.armed || old.index >= self.new_from {
                let armed = armed(old.index, site.loops() && !waits);
                return self.again(target, plan, chosen, armed);
            }
            // What is not armed any more makes way for something else.
            consumer::remove_all(site);
        }
        let taken = plan.site..plan.site + plan.method.original().len() as u64;
        if self.state.displaces(&taken, self.new_from) {
            return Err(Refusal::AlreadyProbed);
        }
        if method == Method::Detour
            && let Some(index) = self.state.exchange(plan.site, chosen.key())
        {
            self.state.exchange_exits(plan.site);
            return self.again(target, plan, chosen, armed(index, false));
        }
        let index = site_table::allocate().ok_or(Refusal::TooManySites)?;
        let site = site_table::site(index);
        site.address.store(plan.site, Ordering::Relaxed);
        let leaves = self.exits(plan, index, chosen)?;
        let mut traps = match &plan.method {
            patch::Method::Detour(detour) => self.detour(plan, detour, index, chosen, near)?,
            patch::Method::Breakpoint(breakpoint) => {
                self.breakpoint(plan, breakpoint, index, chosen, near)?
            }
        };
        if let Some(ready) = leaves {
            site.set_exits();
            let places = exits::add(self.state, ready, &mut self.stubs, &mut traps);
            if let Some(site) = self.state.sites.get_mut(&plan.site) {
                site.exits = Some(places);
            }
        }
        let loops =
            plan.loops && !self.lead_past(plan, index, self.here.traps && !waits, &mut traps);
        site.set_loops(loops);
        let consumer = add_consumer(site, target, entry_only.is_some())?;
        Ok(Ready { site: plan.site, armed: armed(index, loops && !waits), consumer, traps })
    }

    /// Prepares the function's exits, if its returns are to be seen there.
    fn exits(
        &mut self,
        plan: &Plan,
        index: u32,
        chosen: Chosen,
    ) -> Result<Option<Vec<exits::Ready>>, Refusal> {
        let Some(leaves) = plan.exits.as_ref().ok().filter(|_| chosen.exits()) else {
            return Ok(None);
        };
        let probe = exits::Probe {
            function: index,
            action: chosen.action,
            redirect: plan.redirect(plan.site),
            new_from: self.new_from,
            patching: self.patching,
            outside: self.here,
            gaps: &self.gaps,
            text: self.text,
        };
        exits::prepare(self.state, &probe, leaves).map(Some)
    }

    /// The action that the function allows, how its returns are seen, and why it is less than what
    /// was asked for.
    fn choose_action(&self, target: &Target, plan: &Plan) -> Chosen {
        if !target.sees_returns() {
            let action = match target.action {
                Action::Count { cell } => SiteAction::Count { cell },
                _ => SiteAction::Call,
            };
            // Others may see returns there.
            let exits = self.old_exits(target, plan).map(|exits| Seen::Exits(exits as u32));
            return Chosen { action, returns: exits, entry_only: None };
        }
        if target.by == Returns::Instances {
            return self.without_exits(target, plan, NoExits::NotAsked);
        }
        let shared = matches!(target.action, Action::Call(_))
            && self.state.sites.get(&plan.site).is_some_and(|old| old.armed)
            && self.old_exits(target, plan).is_none();
        match &plan.exits {
            _ if plan.live.no_stack => self.without_exits(target, plan, NoExits::NotEntry),
            // Without exits it is there already.
            _ if shared => self.without_exits(target, plan, NoExits::NotAsked),
            Err(why) => self.without_exits(target, plan, *why),
            Ok(exits) => {
                let written = exits.iter().filter(|exit| !exit.at_entry()).count() as u32;
                let action = match target.action {
                    Action::Time { cell } => SiteAction::Time { cell },
                    Action::CountReturn { cell } | Action::Count { cell } => {
                        SiteAction::CountReturn { cell }
                    }
                    Action::Call(_) => SiteAction::Call,
                };
                Chosen { action, returns: Some(Seen::Exits(written)), entry_only: None }
            }
        }
    }

    /// How many exits are probed of a function that has consumers already.
    fn old_exits(&self, target: &Target, plan: &Plan) -> Option<usize> {
        let old = self.state.sites.get(&plan.site)?;
        let used =
            matches!(target.action, Action::Call(_)) && (old.armed || old.index >= self.new_from);
        old.exits.as_ref().filter(|_| used).map(|exits| exits.len())
    }

    /// The same by return instances, or without returns.
    fn without_exits(&self, target: &Target, plan: &Plan, why: NoExits) -> Chosen {
        let no_instances = if let (true, Err(why)) = (plan.live.no_stack, plan.returns) {
            Some(EntryOnly::Returns(why))
        } else if target.by == Returns::Exits
            || plan.returns == Err(NoReturn::Asked)
            || !process::has_returns()
        {
            Some(EntryOnly::Exits(why))
        } else if !target.returns {
            Some(EntryOnly::Returns(NoReturn::ReadsReturnAddress))
        } else {
            plan.returns.err().map(EntryOnly::Returns)
        };
        let (action, entry_only) = match (target.action, no_instances) {
            (Action::Call(_), why) => (SiteAction::Call, why),
            (Action::Count { cell }, _) => (SiteAction::Count { cell }, None),
            (Action::Time { cell }, None) => (SiteAction::Time { cell }, None),
            (Action::CountReturn { cell }, None) => (SiteAction::CountReturn { cell }, None),
            (Action::Time { cell } | Action::CountReturn { cell }, why) => {
                (SiteAction::Count { cell }, why)
            }
        };
        let returns = entry_only.is_none().then_some(Seen::Instances);
        Chosen { action, returns, entry_only }
    }

    /// Leads the function's branches back to its first byte past the probe. `traps`: by traps, too;
    /// a wait for the return, which tells such a branch from a call as well, is cheaper than those.
    /// False: some still come by.
    fn lead_past(
        &mut self,
        plan: &Plan,
        index: u32,
        traps: bool,
        all_traps: &mut Vec<(u64, Meaning)>,
    ) -> bool {
        let Some(branches) = &plan.back else { return false };
        let body = site_table::site(index).body.load(Ordering::Relaxed);
        let probe = back_branches::Probe {
            index,
            new_from: self.new_from,
            redirect: plan.redirect(body),
            traps,
            patching: self.patching,
            outside: self.here,
            gaps: &self.gaps,
            text: self.text,
        };
        let places =
            back_branches::redirect(self.state, &probe, branches, &mut self.stubs, all_traps);
        let site = self.state.sites.get_mut(&plan.site);
        places.zip(site).map(|(places, site)| site.back = places).is_some()
    }

    /// A site that is armed, or was.
    fn again(
        &mut self,
        target: &Target,
        plan: &Plan,
        chosen: Chosen,
        armed: Armed,
    ) -> Result<Ready, Refusal> {
        let Some(old) = self.state.sites.get_mut(&plan.site) else {
            return Err(Refusal::AlreadyProbed);
        };
        let is_new = !old.armed && old.index < self.new_from && !old.chosen;
        let same_action = old.action == chosen.key();
        let same_method = old.stub.is_some() == matches!(armed.method, Method::Detour);
        if !same_action || !same_method || (old.armed && chosen.action != SiteAction::Call) {
            return Err(Refusal::AlreadyProbed);
        }
        let index = old.index;
        if is_new && !self.choose(plan.site, index) {
            return Err(Refusal::AlreadyProbed);
        }
        let Some(old) = self.state.sites.get_mut(&plan.site) else {
            return Err(Refusal::AlreadyProbed);
        };
        let site = site_table::site(old.index);
        if core::mem::take(&mut old.stale) {
            consumer::remove_all(site);
        }
        let consumer = add_consumer(site, target, armed.entry_only.is_some())?;
        let mut traps = Vec::new();
        for at in self.state.with_branches(plan.site) {
            let Some(site) = self.state.sites.get(&at) else { continue };
            let meaning = site.stub.map_or(Meaning::Hit(site.index), Meaning::GoOn);
            if sites::is_live(self.patching) || site.patch.len() == 1 {
                traps.push((at, meaning));
            }
        }
        Ok(Ready { site: plan.site, armed, consumer, traps })
    }

    /// Notes that a site that was armed, and those of its branches, will be again. False: another
    /// one has its bytes meanwhile.
    fn choose(&mut self, site: u64, index: u32) -> bool {
        let all: Vec<u64> = self.state.with_branches(site).collect();
        let taken = |at: &u64| {
            self.state.sites.get(at).is_some_and(|site| {
                let bytes = *at..at + site.original.len() as u64;
                self.state.others_displace(&bytes, self.new_from, Some(index))
            })
        };
        if all.iter().any(taken) {
            return false;
        }
        for at in all {
            if let Some(site) = self.state.sites.get_mut(&at) {
                site.chosen = true;
            }
        }
        true
    }

    fn detour(
        &mut self,
        plan: &Plan,
        detour: &Detour,
        index: u32,
        chosen: Chosen,
        branch_targets: Option<Box<[u64]>>,
    ) -> Result<Vec<(u64, Meaning)>, Refusal> {
        let way = Way::of(detour, self.patching, self.here)?;
        let at = self.state.near.reserve(&detour.reach(), plan.site).ok_or(Refusal::NoRoom)?;
        let mut code = Vec::with_capacity(256);
        let (prologue, body_at, body, hooks) = if plan.behind {
            emit_behind(plan, detour, (index, chosen), at, &mut code)?
        } else {
            emit_before(plan, detour, (index, chosen), at, &mut code)?
        };
        if code.len() as u64 > LONGEST || !self.state.near.commit(at, &code) {
            return Err(Refusal::NoRoom);
        }
        let site = site_table::site(index);
        site.body.store(prologue.body, Ordering::Relaxed);
        site.resume.store(prologue.resume, Ordering::Relaxed);
        site.set(chosen.at_entry(), plan.loops, prologue.skips_red_zone);
        let mut traps = Vec::new();
        let mut target = at;
        if sites::is_live(self.patching) {
            traps.push((plan.site, Meaning::GoOn(at)));
            for boundary in detour.boundaries() {
                let original = plan.site + u64::from(*boundary);
                let offset = body
                    .relocated(original)
                    .ok_or(Refusal::Code(patch::Refusal::NotRelocatable))?;
                traps.push((original, Meaning::GoOn(body_at + u64::from(offset))));
            }
            if !detour.boundaries().is_empty() {
                target = self
                    .state
                    .trampolines
                    .make(plan.site, detour.boundaries(), at, &self.gaps, self.text)
                    .ok_or(Refusal::NoRoom)?;
                self.stubs.push(Stub::trampoline(target, plan.site));
            }
        }
        let (patch, trap) = way.patch(plan.site, target)?;
        traps.extend(trap);
        let end = at + code.len() as u64;
        let moved = moved(plan.site, detour.original(), body_at, &body);
        if plan.behind {
            let (start, prologue) = (prologue.at, Some(prologue));
            let site = plan.site;
            self.stubs.push(Stub { start, end, site, prologue, body: None, hooks });
            let (body, end, hooks) = (Some((body_at, body)), start, Vec::new());
            self.stubs.push(Stub { start: at, end, site, prologue: None, body, hooks });
        } else {
            let (prologue, body) = (Some(prologue), Some((body_at, body)));
            self.stubs.push(Stub { start: at, end, site: plan.site, prologue, body, hooks });
        }
        let original = detour.original().to_vec();
        let action = chosen.key();
        self.state.put(
            plan.site,
            Site {
                index,
                action,
                original,
                patch,
                stub: Some(at),
                armed: false,
                chosen: false,
                stale: false,
                hidden: false,
                branch_targets,
                moved,
                spare: None,
                back: Box::default(),
                exits: None,
            },
        );
        Ok(traps)
    }

    fn breakpoint(
        &mut self,
        plan: &Plan,
        breakpoint: &patch::Breakpoint,
        index: u32,
        chosen: Chosen,
        branch_targets: Option<Box<[u64]>>,
    ) -> Result<Vec<(u64, Meaning)>, Refusal> {
        let at = self.state.near.reserve(&breakpoint.reach(), plan.site).ok_or(Refusal::NoRoom)?;
        let mut code = Vec::with_capacity(64);
        let redirect = plan.redirect(at);
        let body =
            breakpoint.emit_redirected(at, Some(&redirect), &mut code).map_err(Refusal::Code)?;
        if !self.state.near.commit(at, &code) {
            return Err(Refusal::NoRoom);
        }
        let config = self.config;
        let emulation = match breakpoint.resume() {
            // In an image bytes are few, and the slot does the same.
            Resume::Emulate(e) if cfg!(feature = "std") && config.emulate => Some(*e),
            _ => None,
        };
        let copies = cfg!(feature = "std") && config.policy != SlotPolicy::Permanent;
        let slot = (copies && slots::prepare()).then(|| movable(breakpoint, plan.site)).flatten();
        let site = site_table::site(index);
        let details = Box::leak(Box::new(Breakpoint { emulation, policy: config.policy, slot }));
        site.user[0].store(ptr::from_ref(details).expose_provenance() as u64, Ordering::Relaxed);
        site.body.store(at, Ordering::Relaxed);
        site.resume.store(at, Ordering::Relaxed);
        site.set(chosen.at_entry(), plan.loops, false);
        self.stubs.push(Stub {
            start: at,
            end: at + code.len() as u64,
            site: plan.site,
            prologue: None,
            body: Some((at, body)),
            hooks: Vec::new(),
        });
        let original = breakpoint.original().to_vec();
        let action = chosen.key();
        self.state.put(
            plan.site,
            Site {
                index,
                action,
                original,
                patch: vec![0xcc],
                stub: None,
                armed: false,
                chosen: false,
                stale: false,
                hidden: false,
                branch_targets,
                moved: Box::default(),
                spare: None,
                back: Box::default(),
                exits: None,
            },
        );
        Ok(vec![(plan.site, Meaning::Hit(index))])
    }
}

/// What [`emit_before`] and [`emit_behind`] have written: the prologue, the displaced instructions
/// and where they begin, and the hooks among them.
type Emitted = (Prologue, u64, Body, Vec<Hook>);

/// The code of a stub: what is done at a hit, then the displaced instructions. Where the function
/// is left among them, what is done there, too.
fn emit_before(
    plan: &Plan,
    detour: &Detour,
    (index, chosen): (u32, Chosen),
    at: u64,
    code: &mut Vec<u8>,
) -> Result<Emitted, Refusal> {
    let action = chosen.at_entry();
    let mut prologue =
        prologue::emit(code, at, index, action, &plan.live, plan.loops, chosen.exits());
    let body_at = at + code.len() as u64;
    let redirect = plan.redirect(body_at);
    let leaves = plan.exits.as_ref().ok().filter(|_| chosen.exits());
    let (body, hooks) = match leaves.into_iter().flatten().find(|exit| exit.at_entry()) {
        Some(exit) => exits::emit(exit, body_at, &redirect, (index, chosen.action), code)?,
        None => {
            let body = detour.emit_redirected(body_at, Some(&redirect), code);
            (body.map_err(Refusal::Code)?, Vec::new())
        }
    };
    prologue::finish(&mut prologue, 0, code);
    let hooks = exits::finish(hooks, code);
    Ok((prologue, body_at, body, hooks))
}

/// The code of a stub for [`Plan::behind`]: the displaced instructions, then what is done at a hit,
/// then the jump back.
fn emit_behind(
    plan: &Plan,
    detour: &Detour,
    (index, chosen): (u32, Chosen),
    at: u64,
    code: &mut Vec<u8>,
) -> Result<Emitted, Refusal> {
    let action = chosen.at_entry();
    // How long they are does not depend on where they go on, within reach.
    detour.emit_onward(at, at, code).map_err(Refusal::Code)?;
    let start = code.len();
    code.clear();
    let hit_at = at + start as u64;
    let (body, back) = detour.emit_onward(at, hit_at, code).map_err(Refusal::Code)?;
    let mut prologue =
        prologue::emit(code, hit_at, index, action, &plan.live, plan.loops, chosen.exits());
    let jump = patch::jump(at + code.len() as u64, back.unwrap_or(plan.site));
    code.extend(jump.ok_or(Refusal::NoRoom)?);
    prologue::finish(&mut prologue, start, code);
    Ok((prologue, at, body, Vec::new()))
}

/// The slot's code if it runs anywhere. Near the site its jump back is relative, so code for two
/// places far from it is compared.
fn movable(breakpoint: &patch::Breakpoint, site: u64) -> Option<Box<[u8]>> {
    let far = |distance: u64| {
        let mut code = Vec::new();
        breakpoint.emit_slot(site ^ distance, &mut code).ok().map(|_| code)
    };
    let (one, other) = (far(1 << 40)?, far(1 << 41)?);
    (one == other).then(|| one.into())
}
