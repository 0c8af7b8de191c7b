//! Preparing one target of a batch: its site, the stub, and everything else but what is written to
//! the program's code.
#![allow(unsafe_code)]

use crate::arch::x86_64::switching;
use crate::armed::{Armed, Method};
use crate::breakpoint::Breakpoint;
use crate::chosen::Chosen;
use crate::engine::{Config, SiteId};
use crate::parts::{self, Around, Lead, Probe, lead, write};
use crate::registered::ConsumerId;
use crate::site_code::{emit_before, emit_behind, movable};
use crate::site_table::{self, Action as SiteAction};
use crate::sites::{self, Site, State, moved};
use crate::slots::{self, SlotPolicy};
use crate::stubs::Stub;
use crate::target::{Action, Target};
use crate::trap_table::Meaning;
use crate::{Refusal, back_branches, consumer, exits, goroutines, outside};
use alloc::boxed::Box;
use alloc::{vec, vec::Vec};
use core::ptr;
use core::sync::atomic::Ordering;
use patch::{Detour, NoExits, Plan, Resume};

/// A site whose stub is written.
pub(crate) struct Ready {
    pub(crate) site: u64,
    pub(crate) armed: Armed,
    /// What was added to the site for this target.
    pub(crate) consumer: Option<ConsumerId>,
    pub(crate) traps: Vec<(u64, Meaning)>,
}

impl State {
    /// A probe's site, those of the branches that are led past it, and those of the function's
    /// exits.
    pub(crate) fn with_branches(&self, site: u64) -> impl Iterator<Item = u64> {
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

/// What preparing one target needs.
pub(crate) struct Work<'w> {
    pub(crate) config: Config,
    pub(crate) state: &'w mut State,
    pub(crate) around: Around<'w>,
    pub(crate) stubs: Vec<Stub>,
}

impl Work<'_> {
    pub(crate) fn prepare(
        &mut self,
        target: &Target,
        (plan, near): (Box<Plan>, Option<Box<[u64]>>),
    ) -> Result<Ready, Refusal> {
        if !self.may_trap(target) && matches!(plan.method, patch::Method::Breakpoint(_)) {
            return Err(Refusal::NeedsTrap);
        }
        let chosen = Chosen::of(self.state, self.around.new_from, target, &plan);
        match self.put(target, &plan, near.clone(), chosen) {
            // One of the exits is in the way of something, or has no room near it.
            Err(_) if chosen.exits() => {
                let other = Chosen::without_exits(target, &plan, NoExits::NoRoom);
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
            if !switching::prepare() || !goroutines::prepare() {
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
            if same || old.armed || old.index >= self.around.new_from {
                let armed = armed(old.index, site.loops() && !waits);
                return self.again(target, plan, chosen, armed);
            }
            // What is not armed any more makes way for something else.
            consumer::remove_all(site);
        }
        let taken = plan.site..plan.site + plan.method.original().len() as u64;
        if self.state.displaces(&taken, self.around.new_from) {
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
                if cfg!(not(feature = "std")) {
                    return Err(Refusal::NeedsTrap);
                }
                self.breakpoint(plan, breakpoint, index, chosen, near)?
            }
        };
        if let Some(ready) = leaves {
            site.set_exits();
            let places = parts::add(self.state, ready, &mut self.stubs, &mut traps);
            if let Some(site) = self.state.sites.get_mut(&plan.site) {
                site.exits = Some(places);
            }
        }
        let loops =
            plan.loops && !self.lead_past(plan, index, self.may_trap(target) && !waits, &mut traps);
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
    ) -> Result<Option<Vec<parts::Ready>>, Refusal> {
        let Some(leaves) = plan.exits.as_ref().ok().filter(|_| chosen.exits()) else {
            return Ok(None);
        };
        let redirect = plan.redirect(plan.site);
        let probe = Probe { index, redirect, around: self.around };
        exits::prepare(self.state, &probe, chosen.action, leaves).map(Some)
    }

    fn may_trap(&self, target: &Target) -> bool {
        cfg!(feature = "std") && target.traps && self.around.patching.is_some()
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
        let probe = Probe { index, redirect: plan.redirect(body), around: self.around };
        let to = (&mut self.stubs, all_traps);
        let places = back_branches::redirect(self.state, &probe, branches, traps, to);
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
        let is_new = !old.armed && old.index < self.around.new_from && !old.chosen;
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
            if sites::is_live(self.around.patching) || site.patch.len() == 1 {
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
                self.state.others_displace(&bytes, self.around.new_from, Some(index))
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
        if self.around.patching.is_none()
            && let Some(why) = outside::refusal(detour)
        {
            return Err(why);
        }
        let emit = |at: u64, code: &mut Vec<u8>| {
            let emit = if plan.behind { emit_behind } else { emit_before };
            emit(plan, detour, (index, chosen), at, code)
        };
        let (at, end, (prologue, body_at, body, hooks)) =
            write(self.state, &detour.reach(), plan.site, emit)?;
        let site = site_table::site(index);
        site.body.store(prologue.body, Ordering::Relaxed);
        site.resume.store(prologue.resume, Ordering::Relaxed);
        site.set(chosen.at_entry(), plan.loops, prologue.skips_red_zone);
        let Lead { target, traps, stubs } =
            lead(self.state, detour, at, (body_at, &body), &self.around)?;
        self.stubs.extend(stubs);
        let jump = patch::jump(plan.site, target).ok_or(Refusal::NoRoom)?;
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
        let its = (index, chosen.key());
        let site = parts::site(its, detour.original(), jump.to_vec(), at, moved);
        self.state.put(plan.site, Site { branch_targets, ..site });
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
        let emit = |at: u64, code: &mut Vec<u8>| {
            let redirect = plan.redirect(at);
            breakpoint.emit_redirected(at, Some(&redirect), code).map_err(Refusal::Code)
        };
        let (at, end, body) = write(self.state, &breakpoint.reach(), plan.site, emit)?;
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
        site.set(chosen.at_entry(), plan.loops, false);
        self.stubs.push(Stub {
            start: at,
            end,
            site: plan.site,
            prologue: None,
            body: Some((at, body)),
            hooks: Vec::new(),
        });
        let its = (index, chosen.key());
        let site = parts::site(its, breakpoint.original(), vec![0xcc], at, Box::default());
        self.state.put(plan.site, Site { branch_targets, stub: None, ..site });
        Ok(vec![(plan.site, Meaning::Hit(index))])
    }
}
