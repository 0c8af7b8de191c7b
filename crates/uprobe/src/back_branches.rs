//! Leads the branches of a function back to its own first byte past the probe there.

use crate::near::LONGEST;
use crate::outside::{Outside, Way};
use crate::sites::{self, PASSES_BY, Patching, Site, State, moved};
use crate::stubs::Stub;
use crate::text::Text;
use crate::trap_table::Meaning;
use alloc::boxed::Box;
use alloc::{vec, vec::Vec};
use core::ops::Range;
use patch::{BackBranch, Body, Redirect, Refusal};

/// The probe that is passed by.
pub(crate) struct Probe<'a> {
    /// Number of its site.
    pub(crate) index: u32,
    /// Sites from this number on are about to be armed.
    pub(crate) new_from: u32,
    /// From its first byte to its relocated instructions.
    pub(crate) redirect: Redirect,
    /// Whether traps may be set.
    pub(crate) traps: bool,
    /// None: somebody else writes.
    pub(crate) patching: Option<Patching>,
    pub(crate) outside: Outside,
    pub(crate) gaps: &'a [Range<u64>],
    pub(crate) text: &'a Text,
}

/// A branch that will be redirected.
struct Done {
    at: u64,
    site: Site,
    stubs: Vec<Stub>,
    traps: Vec<(u64, Meaning)>,
}

/// Prepares sites that redirect all of `branches`: adds them to `state`, their code to `stubs`, and
/// their traps to `traps`. `None`, and nothing but some bytes of memory is taken: one of them
/// cannot be redirected here.
pub(crate) fn redirect(
    state: &mut State,
    probe: &Probe<'_>,
    branches: &[BackBranch],
    stubs: &mut Vec<Stub>,
    traps: &mut Vec<(u64, Meaning)>,
) -> Option<Box<[u64]>> {
    let mut done = Vec::with_capacity(branches.len());
    for branch in branches {
        let by_jump = branch.detour.as_ref().and_then(|d| by_jump(state, probe, d));
        done.push(by_jump.or_else(|| by_trap(state, probe, &branch.trap))?);
    }
    let places = done.iter().map(|d| d.at).collect();
    for one in done {
        state.sites.insert(one.at, one.site);
        stubs.extend(one.stubs);
        traps.extend(one.traps);
    }
    Some(places)
}

fn site(
    probe: &Probe<'_>,
    original: &[u8],
    patch: Vec<u8>,
    stub: u64,
    moved: Box<[(u64, u64)]>,
) -> Site {
    let (index, original) = (probe.index, original.to_vec());
    let (branch_targets, back, spare) = Default::default();
    let stub = Some(stub);
    Site {
        index,
        action: PASSES_BY,
        original,
        patch,
        stub,
        armed: false,
        chosen: false,
        stale: false,
        hidden: false,
        branch_targets,
        moved,
        back,
        exits: None,
        spare,
    }
}

fn by_jump(state: &mut State, probe: &Probe<'_>, detour: &patch::Detour) -> Option<Done> {
    let (at, original) = (detour.site(), detour.original());
    // What has no room for a jump has a trap of its own, see `by_trap`.
    let jumps = Way::of(detour, probe.patching, probe.outside) == Ok(Way::Jump);
    if !jumps || state.displaces(&(at..at + original.len() as u64), probe.new_from) {
        return None;
    }
    let emit = |to, out: &mut Vec<u8>| detour.emit_redirected(to, Some(&probe.redirect), out);
    let (start, end, body) = write(state, &detour.reach(), at, emit)?;
    let mut traps = Vec::new();
    let mut stubs = Vec::new();
    let mut target = start;
    if sites::is_live(probe.patching) {
        traps.push((at, Meaning::GoOn(start)));
        for boundary in detour.boundaries() {
            let inner = at + u64::from(*boundary);
            traps.push((inner, Meaning::GoOn(start + u64::from(body.relocated(inner)?))));
        }
        if !detour.boundaries().is_empty() {
            let boundaries = detour.boundaries();
            target = state.trampolines.make(at, boundaries, start, probe.gaps, probe.text)?;
            stubs.push(Stub::trampoline(target, at));
        }
    }
    let jump = patch::jump(at, target)?.to_vec();
    let moved = moved(at, original, start, &body);
    stubs.push(Stub {
        start,
        end,
        site: at,
        prologue: None,
        body: Some((start, body)),
        hooks: Vec::new(),
    });
    Some(Done { at, site: site(probe, original, jump, start, moved), stubs, traps })
}

fn by_trap(state: &mut State, probe: &Probe<'_>, trap: &patch::Breakpoint) -> Option<Done> {
    let (at, original) = (trap.site(), trap.original());
    if !probe.traps || state.displaces(&(at..at + original.len() as u64), probe.new_from) {
        return None;
    }
    let emit = |to, out: &mut Vec<u8>| trap.emit_redirected(to, Some(&probe.redirect), out);
    let (start, end, body) = write(state, &trap.reach(), at, emit)?;
    let (body, hooks) = (Some((start, body)), Vec::new());
    let stubs = vec![Stub { start, end, site: at, prologue: None, body, hooks }];
    let traps = vec![(at, Meaning::GoOn(start))];
    Some(Done { at, site: site(probe, original, vec![0xcc], start, Box::default()), stubs, traps })
}

/// Writes what `emit` emits within `reach`: where it begins and ends, and how its addresses and the
/// original ones correspond.
fn write(
    state: &mut State,
    reach: &Range<u64>,
    wanted: u64,
    emit: impl FnOnce(u64, &mut Vec<u8>) -> Result<Body, Refusal>,
) -> Option<(u64, u64, Body)> {
    let start = state.near.reserve(reach, wanted)?;
    let mut code = Vec::with_capacity(64);
    let body = emit(start, &mut code).ok()?;
    let fits = code.len() as u64 <= LONGEST && state.near.commit(start, &code);
    fits.then(|| (start, start + code.len() as u64, body))
}
