//! Arming many sites at once.
#![allow(unsafe_code)]

use crate::arch::x86_64::{prologue, switching};
use crate::breakpoint::Breakpoint;
use crate::engine::{Config, Engine, SiteId};
use crate::maps;
use crate::near::LONGEST;
use crate::outside::{self, Change};
use crate::planning::plans;
use crate::prologue::Prologue;
use crate::registered::ConsumerId;
use crate::site_table::{self, Action as SiteAction};
use crate::sites::{Patching, Site, State, moved};
use crate::slots::{self, SlotPolicy};
use crate::stubs::{self, Stub};
use crate::target::{Action, Target};
use crate::text::Text;
use crate::trap_table::Meaning;
use crate::{Refusal, activation, back_branches, consumer, kernel, live, process, signals};
use alloc::boxed::Box;
use alloc::{vec, vec::Vec};
use core::ops::Range;
use core::ptr;
use core::sync::atomic::Ordering;
use patch::{Body, Decision, Detour, NoDetour, NoReturn, Plan, Resume};

/// How a site is probed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Method {
    /// By a jump.
    Detour,
    /// By a breakpoint, for this reason.
    Breakpoint(NoDetour),
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
    /// Why only entries are seen, though returns were asked for.
    pub entry_only: Option<NoReturn>,
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
            text: &text,
            gaps,
            patching,
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

    /// A probe's site, and those of the branches that are led past it.
    fn with_branches(&self, site: u64) -> impl Iterator<Item = u64> {
        let back = self.sites.get(&site).map(|s| &*s.back).unwrap_or_default();
        core::iter::once(site).chain(back.iter().copied())
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

/// Whether a return instance is made at each call.
fn waits_for_return(target: &Target, action: SiteAction) -> bool {
    match (target.action, action) {
        (Action::Call(c), _) => c.ret.is_some() || c.span.is_some(),
        (_, SiteAction::Time { .. } | SiteAction::CountReturn { .. }) => true,
        _ => false,
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
        if !self.may_trap(target) && matches!(plan.method, patch::Method::Breakpoint(_)) {
            return Err(Refusal::NeedsTrap);
        }
        let (action, entry_only) = self.action(target, &plan);
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
            entry_only,
            counts_branches,
        };
        if let Some(old) = self.state.sites.get(&plan.site) {
            let same_method = old.stub.is_some() == (method == Method::Detour);
            let same = same_method && old.action == (action.code(), action.cell());
            let site = site_table::site(old.index);
            if same || old.armed || old.index >= self.new_from {
                let waits = entry_only.is_none() && waits_for_return(target, action);
                let armed = armed(old.index, site.loops() && !waits);
                return self.again(target, &plan, action, armed);
            }
            // What is not armed any more makes way for something else.
            consumer::remove_all(site);
        }
        let taken = plan.site..plan.site + plan.method.original().len() as u64;
        if self.state.displaces(&taken, self.new_from) {
            return Err(Refusal::AlreadyProbed);
        }
        if method == Method::Detour
            && let Some(index) = self.state.exchange(plan.site, (action.code(), action.cell()))
        {
            return self.again(target, &plan, action, armed(index, false));
        }
        let index = site_table::allocate().ok_or(Refusal::TooManySites)?;
        let site = site_table::site(index);
        site.address.store(plan.site, Ordering::Relaxed);
        let waits = entry_only.is_none() && waits_for_return(target, action);
        let mut traps = match &plan.method {
            patch::Method::Detour(detour) => self.detour(&plan, detour, index, action, near)?,
            patch::Method::Breakpoint(breakpoint) => {
                self.breakpoint(&plan, breakpoint, index, action, near)?
            }
        };
        let loops = plan.loops
            && !self.lead_past(&plan, index, self.may_trap(target) && !waits, &mut traps);
        site.set_loops(loops);
        let consumer = add_consumer(site, target, entry_only.is_some())?;
        Ok(Ready { site: plan.site, armed: armed(index, loops && !waits), consumer, traps })
    }

    fn may_trap(&self, target: &Target) -> bool {
        target.traps && self.patching.is_some()
    }

    /// The action that the function allows, and why it is less than what was asked for.
    fn action(&self, target: &Target, plan: &Plan) -> (SiteAction, Option<NoReturn>) {
        let why =
            plan.returns.err().or((!target.returns || !process::has_returns())
                .then_some(NoReturn::ReadsReturnAddress));
        match (target.action, why) {
            (Action::Count { cell }, _) => (SiteAction::Count { cell }, None),
            (Action::Call(_), why) => (SiteAction::Call, why),
            (Action::Time { cell }, None) => (SiteAction::Time { cell }, None),
            (Action::CountReturn { cell }, None) => (SiteAction::CountReturn { cell }, None),
            (Action::Time { cell } | Action::CountReturn { cell }, why) => {
                (SiteAction::Count { cell }, why)
            }
        }
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
        action: SiteAction,
        armed: Armed,
    ) -> Result<Ready, Refusal> {
        let Some(old) = self.state.sites.get_mut(&plan.site) else {
            return Err(Refusal::AlreadyProbed);
        };
        let is_new = !old.armed && old.index < self.new_from && !old.chosen;
        let same_action = old.action == (action.code(), action.cell());
        let same_method = old.stub.is_some() == matches!(armed.method, Method::Detour);
        if !same_action || !same_method || (old.armed && action != SiteAction::Call) {
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
            if self.patching == Some(Patching::Live) || site.patch.len() == 1 {
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
        action: SiteAction,
        branch_targets: Option<Box<[u64]>>,
    ) -> Result<Vec<(u64, Meaning)>, Refusal> {
        if self.patching.is_none()
            && let Some(why) = outside::refusal(detour)
        {
            return Err(why);
        }
        let at = self.state.near.reserve(&detour.reach(), plan.site).ok_or(Refusal::NoRoom)?;
        let mut code = Vec::with_capacity(256);
        let (prologue, body_at, body) = if plan.behind {
            emit_behind(plan, detour, (index, action), at, &mut code)?
        } else {
            emit_before(plan, detour, (index, action), at, &mut code)?
        };
        if code.len() as u64 > LONGEST || !self.state.near.commit(at, &code) {
            return Err(Refusal::NoRoom);
        }
        let site = site_table::site(index);
        site.body.store(prologue.body, Ordering::Relaxed);
        site.resume.store(prologue.resume, Ordering::Relaxed);
        site.set(action, plan.loops, prologue.skips_red_zone);
        let mut traps = Vec::new();
        let mut target = at;
        if self.patching == Some(Patching::Live) {
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
                self.stubs.push(Stub {
                    start: target,
                    end: target + crate::trampolines::TRAMPOLINE,
                    site: plan.site,
                    prologue: None,
                    body: None,
                });
            }
        }
        let jump = patch::jump(plan.site, target).ok_or(Refusal::NoRoom)?;
        let end = at + code.len() as u64;
        let moved = moved(plan.site, detour.original(), body_at, &body);
        if plan.behind {
            let (start, prologue) = (prologue.at, Some(prologue));
            self.stubs.push(Stub { start, end, site: plan.site, prologue, body: None });
            let (body, end) = (Some((body_at, body)), start);
            self.stubs.push(Stub { start: at, end, site: plan.site, prologue: None, body });
        } else {
            let (prologue, body) = (Some(prologue), Some((body_at, body)));
            self.stubs.push(Stub { start: at, end, site: plan.site, prologue, body });
        }
        let original = detour.original().to_vec();
        let action = (action.code(), action.cell());
        self.state.put(
            plan.site,
            Site {
                index,
                action,
                original,
                patch: jump.to_vec(),
                stub: Some(at),
                armed: false,
                chosen: false,
                stale: false,
                hidden: false,
                branch_targets,
                moved,
                spare: None,
                back: Box::default(),
            },
        );
        Ok(traps)
    }

    fn breakpoint(
        &mut self,
        plan: &Plan,
        breakpoint: &patch::Breakpoint,
        index: u32,
        action: SiteAction,
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
            Resume::Emulate(e) if config.emulate => Some(*e),
            _ => None,
        };
        let slot = (config.policy != SlotPolicy::Permanent && slots::prepare())
            .then(|| movable(breakpoint, plan.site))
            .flatten();
        let site = site_table::site(index);
        let details = Box::leak(Box::new(Breakpoint { emulation, policy: config.policy, slot }));
        site.user[0].store(ptr::from_ref(details).expose_provenance() as u64, Ordering::Relaxed);
        site.body.store(at, Ordering::Relaxed);
        site.resume.store(at, Ordering::Relaxed);
        site.set(action, plan.loops, false);
        self.stubs.push(Stub {
            start: at,
            end: at + code.len() as u64,
            site: plan.site,
            prologue: None,
            body: Some((at, body)),
        });
        let original = breakpoint.original().to_vec();
        let action = (action.code(), action.cell());
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
            },
        );
        Ok(vec![(plan.site, Meaning::Hit(index))])
    }
}

/// The code of a stub: what is done at a hit, then the displaced instructions. These begin at the
/// address in the result.
fn emit_before(
    plan: &Plan,
    detour: &Detour,
    (index, action): (u32, SiteAction),
    at: u64,
    code: &mut Vec<u8>,
) -> Result<(Prologue, u64, Body), Refusal> {
    let mut prologue = prologue::emit(code, at, index, action, &plan.live, plan.loops);
    let body_at = at + code.len() as u64;
    let redirect = plan.redirect(body_at);
    let body = detour.emit_redirected(body_at, Some(&redirect), code).map_err(Refusal::Code)?;
    prologue::finish(&mut prologue, 0, code);
    Ok((prologue, body_at, body))
}

/// The code of a stub for [`Plan::behind`]: the displaced instructions, then what is done at a hit,
/// then the jump back.
fn emit_behind(
    plan: &Plan,
    detour: &Detour,
    (index, action): (u32, SiteAction),
    at: u64,
    code: &mut Vec<u8>,
) -> Result<(Prologue, u64, Body), Refusal> {
    // How long they are does not depend on where they go on, within reach.
    detour.emit_onward(at, at, code).map_err(Refusal::Code)?;
    let start = code.len();
    code.clear();
    let hit_at = at + start as u64;
    let (body, back) = detour.emit_onward(at, hit_at, code).map_err(Refusal::Code)?;
    let mut prologue = prologue::emit(code, hit_at, index, action, &plan.live, plan.loops);
    let jump = patch::jump(at + code.len() as u64, back.unwrap_or(plan.site));
    code.extend(jump.ok_or(Refusal::NoRoom)?);
    prologue::finish(&mut prologue, start, code);
    Ok((prologue, at, body))
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
