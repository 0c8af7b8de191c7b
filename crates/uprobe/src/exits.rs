//! The exits of a probed function: sites of their own, armed and disarmed with its entry.
//!
//! A stub has the displaced instructions, and a hook in front of each that leaves the function. A
//! hook has a number in the site table, as an entry has, by which it finds the function's cell and
//! consumers; nothing is known to the rest of the engine but the function's site.
#![allow(unsafe_code)]

use crate::Refusal;
use crate::arch::x86_64::prologue;
use crate::near::LONGEST;
use crate::outside::{Outside, Way};
use crate::prologue::Prologue;
use crate::site_table::{self, Action};
use crate::sites::{self, Patching, Site, State, exit_of, moved};
use crate::stubs::{Hook, Stub};
use crate::text::Text;
use crate::trap_table::Meaning;
use alloc::boxed::Box;
use alloc::vec::Vec;
use core::ops::Range;
use core::sync::atomic::Ordering;
use patch::{Body, Exit, Redirect};

/// What the exits belong to.
pub(crate) struct Probe<'a> {
    /// Number of the function's site.
    pub(crate) function: u32,
    /// Its action.
    pub(crate) action: Action,
    /// From the function's first byte to its relocated instructions.
    pub(crate) redirect: Redirect,
    /// Sites from this number on are about to be armed.
    pub(crate) new_from: u32,
    /// None: somebody else writes.
    pub(crate) patching: Option<Patching>,
    pub(crate) outside: Outside,
    pub(crate) gaps: &'a [Range<u64>],
    pub(crate) text: &'a Text,
}

/// What is done at an entry of a function whose returns are seen at its exits.
pub(crate) fn at_entry(action: Action) -> Action {
    match action {
        // Neither needs to know of the other.
        Action::CountReturn { cell } => Action::Count { cell },
        other => other,
    }
}

/// What is done at its exits.
fn at_exit(action: Action) -> Action {
    match action {
        Action::Time { cell } | Action::Leave { cell } => Action::Leave { cell },
        Action::Count { cell } | Action::CountReturn { cell } => {
            Action::Count { cell: cell + wire::cell::RETURNS as u32 }
        }
        Action::Call | Action::LeaveCall => Action::LeaveCall,
    }
}

const _: () = assert!(wire::cell::CALLS == 0, "counting a return is counting in that word");

/// Appends the relocated instructions, to run at `at`, with a hook in front of each that leaves.
/// What is behind the last instruction is [`finish`]'s.
pub(crate) fn emit(
    exit: &Exit,
    at: u64,
    redirect: &Redirect,
    (function, action): (u32, Action),
    code: &mut Vec<u8>,
) -> Result<(Body, Vec<Hooked>), Refusal> {
    let numbers: Option<Vec<u32>> = exit.leaves().iter().map(|_| site_table::allocate()).collect();
    let numbers = numbers.ok_or(Refusal::TooManySites)?;
    let action = at_exit(action);
    let mut hooks: Vec<Hooked> = Vec::new();
    let mut hook = |leaving: &patch::Leaving, at: u64, out: &mut Vec<u8>| {
        let place = exit.leaves().iter().position(|l| l.address == leaving.address);
        let number = place.map_or(0, |place| numbers[place]);
        let start = out.len();
        let prologue = prologue::emit(out, at, number, action, &leaving.live, false, true);
        hooks.retain(|other| other.number != number);
        hooks.push(Hooked { number, function, action, leaving: leaving.address, start, prologue });
    };
    let body = exit.emit_redirected(at, Some(redirect), &mut hook, code).map_err(Refusal::Code)?;
    Ok((body, hooks))
}

/// A hook that is not finished.
pub(crate) struct Hooked {
    number: u32,
    function: u32,
    action: Action,
    leaving: u64,
    /// Where it begins in the code.
    start: usize,
    prologue: Prologue,
}

/// Appends what the hooks need behind the last instruction, and makes them known.
pub(crate) fn finish(hooks: Vec<Hooked>, code: &mut Vec<u8>) -> Vec<Hook> {
    let finished = hooks.into_iter().map(|hook| {
        let mut prologue = hook.prologue;
        prologue::finish(&mut prologue, hook.start, code);
        let site = site_table::site(hook.number);
        site.address.store(hook.leaving, Ordering::Relaxed);
        site.body.store(prologue.body, Ordering::Relaxed);
        site.resume.store(prologue.resume, Ordering::Relaxed);
        site.index.store(hook.function, Ordering::Relaxed);
        site.set(hook.action, false, prologue.skips_red_zone);
        site.set_exits();
        (hook.leaving, prologue)
    });
    finished.collect()
}

/// Exits that are prepared.
pub(crate) struct Ready {
    at: u64,
    site: Site,
    stubs: Vec<Stub>,
    traps: Vec<(u64, Meaning)>,
}

/// Prepares a site for each of these exits but that at the entry. Nothing but some bytes of memory
/// and some numbers are taken if one of them cannot be.
pub(crate) fn prepare(
    state: &mut State,
    probe: &Probe<'_>,
    exits: &[Exit],
) -> Result<Vec<Ready>, Refusal> {
    exits.iter().filter(|exit| !exit.at_entry()).map(|exit| one(state, probe, exit)).collect()
}

/// Adds what was prepared to what is there; where the exits are.
pub(crate) fn add(
    state: &mut State,
    ready: Vec<Ready>,
    stubs: &mut Vec<Stub>,
    traps: &mut Vec<(u64, Meaning)>,
) -> Box<[u64]> {
    let places = ready.iter().map(|exit| exit.at).collect();
    for exit in ready {
        state.put(exit.at, exit.site);
        stubs.extend(exit.stubs);
        traps.extend(exit.traps);
    }
    places
}

fn one(state: &mut State, probe: &Probe<'_>, exit: &Exit) -> Result<Ready, Refusal> {
    let detour = exit.detour();
    let (at, original) = (detour.site(), detour.original());
    let way = Way::of(detour, probe.patching, probe.outside)?;
    if state.displaces(&(at..at + original.len() as u64), probe.new_from) {
        return Err(Refusal::AlreadyProbed);
    }
    let start = state.near.reserve(&detour.reach(), at).ok_or(Refusal::NoRoom)?;
    let mut code = Vec::with_capacity(128);
    let its = (probe.function, probe.action);
    let (body, hooks) = emit(exit, start, &probe.redirect, its, &mut code)?;
    let hooks = finish(hooks, &mut code);
    if code.len() as u64 > LONGEST || !state.near.commit(start, &code) {
        return Err(Refusal::NoRoom);
    }
    let mut traps = Vec::new();
    let mut stubs = Vec::new();
    let mut target = start;
    if sites::is_live(probe.patching) {
        traps.push((at, Meaning::GoOn(start)));
        for boundary in detour.boundaries() {
            let inner = at + u64::from(*boundary);
            let relocated = body.relocated(inner);
            let offset = relocated.ok_or(Refusal::Code(patch::Refusal::NotRelocatable))?;
            traps.push((inner, Meaning::GoOn(start + u64::from(offset))));
        }
        if !detour.boundaries().is_empty() {
            let made =
                state.trampolines.make(at, detour.boundaries(), start, probe.gaps, probe.text);
            target = made.ok_or(Refusal::NoRoom)?;
            stubs.push(Stub::trampoline(target, at));
        }
    }
    let (patch, trap) = way.patch(at, target)?;
    traps.extend(trap);
    let moved = moved(at, original, start, &body);
    let end = start + code.len() as u64;
    let site = Site {
        index: probe.function,
        action: exit_of(probe.function),
        original: original.to_vec(),
        patch,
        stub: Some(start),
        armed: false,
        chosen: false,
        stale: false,
        hidden: false,
        branch_targets: None,
        moved,
        back: Box::default(),
        exits: None,
        spare: None,
    };
    stubs.push(Stub { start, end, site: at, prologue: None, body: Some((start, body)), hooks });
    Ok(Ready { at, site, stubs, traps })
}
