//! Arming many sites at once.
#![allow(unsafe_code)]

use crate::breakpoint::{Breakpoint, SlotPolicy};
use crate::consumer::{Consumer, ConsumerId};
use crate::engine::{Config, Engine, Patching, Site, SiteId, State};
use crate::maps::{self, Mapping};
use crate::near::LONGEST;
use crate::site_table::{self, Action as SiteAction};
use crate::stubs::{self, Stub};
use crate::text::Text;
use crate::trap_table::Meaning;
use crate::{Refusal, consumer, entry, landings, live, signals, slots, thread};
use core::ops::Range;
use core::ptr;
use core::sync::atomic::Ordering;
use patch::{Detour, Function, NoDetour, NoReturn, Options, Plan, Resume, plan};

/// What a probe does. Cells are byte offsets in the blocks that [`Hooks`](crate::Hooks) provide, laid out as [`wire::cell`].
#[derive(Clone, Copy, Debug)]
pub enum Action {
    /// Counts entries.
    Count {
        /// Offset of a cell of [`wire::cell::COUNT_BYTES`].
        cell: u32,
    },
    /// Counts entries and returns and measures the time between, with a histogram.
    Time {
        /// Offset of a cell of [`wire::cell::TIMED_BYTES`].
        cell: u32,
    },
    /// Counts entries and returns.
    CountReturn {
        /// Offset of a cell of [`wire::cell::COUNT_BYTES`].
        cell: u32,
    },
    /// Calls a consumer. Several may share a site.
    Call(Consumer),
}

/// A function to probe.
#[derive(Clone, Copy, Debug)]
pub struct Target {
    /// Address of the function.
    pub address: u64,
    /// Its size in bytes.
    pub size: u32,
    /// Bytes behind it that belong to no other function.
    pub after: u32,
    /// Where in the function the probe goes; 0 is its entry.
    pub offset: u32,
    /// What it does.
    pub action: Action,
    /// Whether a return probe may be put there, as far as the caller knows.
    pub returns: bool,
    /// Never a detour.
    pub breakpoint: bool,
    /// Whether a breakpoint may be put there. Not where the program comes by with SIGTRAP blocked by a system call of its own: the trap would kill.
    pub traps: bool,
}

impl Target {
    /// The entry of the function at `address`.
    pub fn entry(address: u64, size: u32, action: Action) -> Self {
        Self { address, size, after: 0, offset: 0, action, returns: true, breakpoint: false, traps: true }
    }

    pub(crate) fn range(&self) -> Range<u64> {
        self.address..self.address.saturating_add(u64::from(self.size))
    }
}

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
}

/// Sites to be armed together.
#[derive(Debug)]
pub struct Batch<'e> {
    engine: &'e Engine,
    config: Config,
    targets: Vec<Target>,
    rseq: Vec<Range<u64>>,
}

impl Engine {
    /// An empty batch.
    pub fn batch(&'static self) -> Batch<'static> {
        Batch { engine: self, config: self.config, targets: Vec::new(), rseq: Vec::new() }
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
    }

    /// Breakpoints of this batch go on as `config` says, not as the engine's own configuration does. For benchmarks that compare the ways in one process.
    pub fn breakpoints(&mut self, config: Config) {
        self.config = config;
    }

    /// Adds a restartable sequence (`start .. start + post_commit_offset`): sites in it are refused.
    pub fn add_rseq(&mut self, range: Range<u64>) {
        self.rseq.push(range);
    }

    /// Arms everything, and says for each target, in the order they were added, what became of it. A target that is refused does not concern the others.
    pub fn commit(self, patching: Patching) -> Vec<Result<Armed, Refusal>> {
        let mappings = maps::read();
        let mut state = self.engine.lock();
        state.near.refresh(&mappings);
        let text = Text::open();
        let codes: Vec<Option<Vec<u8>>> = self.targets.iter().map(|t| read_code(&state, &mappings, t)).collect();
        let landings = landings::find(&self.targets, &codes, &mappings, |target| state.known(target));
        let options = Options { rseq: &self.rseq, landings: &landings, breakpoint: false };
        let mut work =
            Work { config: self.config, state: &mut state, text: &text, gaps: maps::gaps(&mappings), patching, stubs: Vec::new() };
        let mut ready: Vec<Result<Ready, Refusal>> =
            self.targets.iter().zip(&codes).map(|(target, code)| work.prepare(target, code.as_deref(), &options)).collect();
        let stubs = work.stubs;
        stubs::add(stubs.into_iter());
        if !state.near.seal() || !state.hops.seal() {
            take_back(&ready);
            return ready.iter().map(|_| Err(Refusal::NoRoom)).collect();
        }
        let sites: Vec<u64> = ready.iter().flatten().map(|r| r.site).collect();
        if ready.iter().flatten().any(|r| !r.traps.is_empty()) {
            signals::traps::install();
        }
        for (address, meaning) in ready.iter().flatten().flat_map(|r| &r.traps) {
            state.traps.set(*address, *meaning);
        }
        let written = live::arm(&mut state, &sites, patching, &text);
        if written.is_err() {
            take_back(&ready);
        }
        ready.drain(..).map(|r| r.and_then(|r| written.map(|()| r.armed))).collect()
    }
}

impl State {
    /// Where the program branches to in the window of a target that was armed before.
    fn known(&self, target: &Target) -> Option<&[u64]> {
        let at = target.address + u64::from(target.offset);
        // Behind an endbr64, if there is one.
        [at, at + 4].iter().find_map(|site| self.sites.get(site)).map(|site| &*site.landings)
    }
}

/// The original bytes of a function and of what is behind it.
fn read_code(state: &State, mappings: &[Mapping], target: &Target) -> Option<Vec<u8>> {
    let range = target.range();
    let mut end = range.end.checked_add(u64::from(target.after))?;
    if !maps::is_readable(mappings, &(range.start..end)) {
        end = range.end;
        if !maps::is_readable(mappings, &range) {
            return None;
        }
    }
    let len = (end - range.start) as usize;
    let mut code = vec![0; len];
    // SAFETY: the range is mapped and readable; it is code, which nobody but us changes, under the lock that we hold.
    unsafe { ptr::copy_nonoverlapping(ptr::with_exposed_provenance(range.start as usize), code.as_mut_ptr(), len) };
    // A patch is at most 19 bytes, so one that reaches into the range begins at most so far in front of it.
    for (at, site) in state.sites.range(range.start.saturating_sub(32)..end).filter(|(_, s)| s.armed) {
        for (i, byte) in site.original.iter().take(site.patch.len()).enumerate() {
            if let Some(b) = (at + i as u64).checked_sub(range.start).and_then(|offset| code.get_mut(offset as usize)) {
                *b = *byte;
            }
        }
    }
    Some(code)
}

/// `entries`: returns of this function are not to be touched, whatever the consumer wants.
fn add_consumer(site: &site_table::Site, target: &Target, entries: bool) -> Result<Option<ConsumerId>, Refusal> {
    let Action::Call(mut consumer) = target.action else { return Ok(None) };
    if entries {
        (consumer.ret, consumer.span) = (None, None);
    }
    consumer::add(site, consumer).map(Some).map_err(|_| Refusal::TooManyConsumers)
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
    patching: Patching,
    stubs: Vec<Stub>,
}

impl Work<'_> {
    fn prepare(&mut self, target: &Target, code: Option<&[u8]>, options: &Options<'_>) -> Result<Ready, Refusal> {
        let code = code.ok_or(Refusal::Unreadable)?;
        let (code, after) = code.split_at(target.size as usize);
        let function = Function { address: target.address, code, after, site: target.offset };
        let options = Options { breakpoint: target.breakpoint, ..*options };
        let plan = plan(&function, &options).map_err(Refusal::Code)?;
        if !target.traps && matches!(plan.method, patch::Method::Breakpoint(_)) {
            return Err(Refusal::NeedsTrap);
        }
        let (action, entry_only) = self.action(target, &plan);
        let method = match &plan.method {
            patch::Method::Detour(_) => Method::Detour,
            patch::Method::Breakpoint(b) => Method::Breakpoint(b.why()),
        };
        let armed = |index| Armed { id: SiteId(index), address: plan.site, method, entry_only };
        if let Some(old) = self.state.sites.get(&plan.site) {
            let index = old.index;
            return self.again(target, &plan, action, armed(index));
        }
        let index = site_table::allocate().ok_or(Refusal::TooManySites)?;
        let site = site_table::site(index);
        site.address.store(plan.site, Ordering::Relaxed);
        let near = landings::near(options.landings, plan.site).into();
        let traps = match &plan.method {
            patch::Method::Detour(detour) => self.detour(&plan, detour, index, action, near)?,
            patch::Method::Breakpoint(breakpoint) => self.breakpoint(&plan, breakpoint, index, action, near)?,
        };
        if action == SiteAction::Call {
            // Consumers tell a branch back from a call by the return that they wait for. Where they may not, they cannot.
            site.set_loops(plan.loops && entry_only.is_none());
        }
        let consumer = add_consumer(site, target, entry_only.is_some())?;
        Ok(Ready { site: plan.site, armed: armed(index), consumer, traps })
    }

    /// The action that the function allows, and why it is less than what was asked for.
    fn action(&self, target: &Target, plan: &Plan) -> (SiteAction, Option<NoReturn>) {
        let why = plan.returns.err().or((!target.returns || !thread::has_returns()).then_some(NoReturn::ReadsReturnAddress));
        match (target.action, why) {
            (Action::Count { cell }, why) => (SiteAction::Count { cell }.for_function(plan.loops, why.is_none()), None),
            (Action::Call(_), why) => (SiteAction::Call, why),
            (Action::Time { cell }, None) => (SiteAction::Time { cell }, None),
            (Action::CountReturn { cell }, None) => (SiteAction::CountReturn { cell }, None),
            (Action::Time { cell } | Action::CountReturn { cell }, why) => (SiteAction::Count { cell }, why),
        }
    }

    /// A site that is armed, or was.
    fn again(&mut self, target: &Target, plan: &Plan, action: SiteAction, armed: Armed) -> Result<Ready, Refusal> {
        let Some(old) = self.state.sites.get(&plan.site) else { return Err(Refusal::AlreadyProbed) };
        let same_action = old.action == (action.code(), action.cell());
        let same_method = old.stub.is_some() == matches!(armed.method, Method::Detour);
        if !same_action || !same_method || (old.armed && action != SiteAction::Call) {
            return Err(Refusal::AlreadyProbed);
        }
        let consumer = add_consumer(site_table::site(old.index), target, armed.entry_only.is_some())?;
        let traps = match old.stub {
            Some(stub) => vec![(plan.site, Meaning::GoOn(stub))],
            None => vec![(plan.site, Meaning::Hit(old.index))],
        };
        Ok(Ready {
            site: plan.site,
            armed,
            consumer,
            traps: if self.patching == Patching::Live || old.stub.is_none() { traps } else { Vec::new() },
        })
    }

    fn detour(
        &mut self,
        plan: &Plan,
        detour: &Detour,
        index: u32,
        action: SiteAction,
        landings: Box<[u64]>,
    ) -> Result<Vec<(u64, Meaning)>, Refusal> {
        let at = self.state.near.reserve(&detour.reach(), plan.site).ok_or(Refusal::NoRoom)?;
        let mut code = Vec::with_capacity(256);
        let mut prologue = entry::emit(&mut code, at, index, action, &plan.live, plan.loops);
        let body_at = at + code.len() as u64;
        let body = detour.emit_body(body_at, &mut code).map_err(Refusal::Code)?;
        entry::finish(&mut prologue, 0, &mut code);
        if code.len() as u64 > LONGEST || !self.state.near.commit(at, &code, self.text) {
            return Err(Refusal::NoRoom);
        }
        let site = site_table::site(index);
        site.body.store(prologue.body, Ordering::Relaxed);
        site.resume.store(prologue.resume, Ordering::Relaxed);
        site.set(action, plan.loops, prologue.skips_red_zone);
        let mut traps = Vec::new();
        let mut target = at;
        if self.patching == Patching::Live {
            traps.push((plan.site, Meaning::GoOn(at)));
            for boundary in detour.boundaries() {
                let original = plan.site + u64::from(*boundary);
                let offset = body.relocated(original).ok_or(Refusal::Code(patch::Refusal::NotRelocatable))?;
                traps.push((original, Meaning::GoOn(body_at + u64::from(offset))));
            }
            if !detour.boundaries().is_empty() {
                target = self.state.hops.make(plan.site, detour.boundaries(), at, &self.gaps, self.text).ok_or(Refusal::NoRoom)?;
                self.stubs.push(Stub { start: target, end: target + crate::hops::HOP, site: plan.site, prologue: None, body: None });
            }
        }
        let jump = patch::jump(plan.site, target).ok_or(Refusal::NoRoom)?;
        let end = at + code.len() as u64;
        self.stubs.push(Stub { start: at, end, site: plan.site, prologue: Some(prologue), body: Some((body_at, body)) });
        let original = detour.original().to_vec();
        let action = (action.code(), action.cell());
        self.state.sites.insert(plan.site, Site { index, action, original, patch: jump.to_vec(), stub: Some(at), armed: false, landings });
        Ok(traps)
    }

    fn breakpoint(
        &mut self,
        plan: &Plan,
        breakpoint: &patch::Breakpoint,
        index: u32,
        action: SiteAction,
        landings: Box<[u64]>,
    ) -> Result<Vec<(u64, Meaning)>, Refusal> {
        let at = self.state.near.reserve(&breakpoint.reach(), plan.site).ok_or(Refusal::NoRoom)?;
        let mut code = Vec::with_capacity(64);
        let body = breakpoint.emit_slot(at, &mut code).map_err(Refusal::Code)?;
        if !self.state.near.commit(at, &code, self.text) {
            return Err(Refusal::NoRoom);
        }
        let config = self.config;
        let emulation = match breakpoint.resume() {
            Resume::Emulate(e) if config.emulate => Some(*e),
            _ => None,
        };
        let slot = (config.policy != SlotPolicy::Permanent && slots::prepare()).then(|| movable(breakpoint, plan.site)).flatten();
        let site = site_table::site(index);
        let details = Box::leak(Box::new(Breakpoint { emulation, policy: config.policy, slot }));
        site.user[0].store(ptr::from_ref(details).expose_provenance() as u64, Ordering::Relaxed);
        site.body.store(at, Ordering::Relaxed);
        site.resume.store(at, Ordering::Relaxed);
        site.set(action, plan.loops, false);
        self.stubs.push(Stub { start: at, end: at + code.len() as u64, site: plan.site, prologue: None, body: Some((at, body)) });
        let original = breakpoint.original().to_vec();
        let action = (action.code(), action.cell());
        self.state.sites.insert(plan.site, Site { index, action, original, patch: vec![0xcc], stub: None, armed: false, landings });
        Ok(vec![(plan.site, Meaning::Hit(index))])
    }
}

/// The slot's code if it runs anywhere. Near the site its jump back is relative, so code for two places far from it is compared.
fn movable(breakpoint: &patch::Breakpoint, site: u64) -> Option<Box<[u8]>> {
    let far = |distance: u64| {
        let mut code = Vec::new();
        breakpoint.emit_slot(site ^ distance, &mut code).ok().map(|_| code)
    };
    let (one, other) = (far(1 << 40)?, far(1 << 41)?);
    (one == other).then(|| one.into())
}
