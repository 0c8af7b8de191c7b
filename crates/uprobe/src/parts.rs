//! Sites that belong to the probe of a function, its exits and the branches that are led past it,
//! and how control comes from a site to code of the engine's.

use crate::Refusal;
use crate::near::LONGEST;
use crate::outside;
use crate::sites::{self, PASSES_BY, Patching, Site, State, moved};
use crate::stubs::{Hook, Stub};
use crate::text::Text;
use crate::trap_table::Meaning;
use alloc::boxed::Box;
use alloc::vec::Vec;
use core::ops::Range;
use patch::{Body, Detour, Redirect};

/// What a batch knows that prepares sites.
#[derive(Clone, Copy)]
pub(crate) struct Around<'a> {
    /// Sites from this number on are about to be armed.
    pub(crate) new_from: u32,
    /// None: somebody else writes.
    pub(crate) patching: Option<Patching>,
    pub(crate) gaps: &'a [Range<u64>],
    pub(crate) text: &'a Text,
}

/// The probe that they belong to.
pub(crate) struct Probe<'a> {
    /// Number of the function's site.
    pub(crate) index: u32,
    /// From the function's first byte to its relocated instructions.
    pub(crate) redirect: Redirect,
    pub(crate) around: Around<'a>,
}

/// One that is prepared.
pub(crate) struct Ready {
    pub(crate) at: u64,
    pub(crate) site: Site,
    pub(crate) stubs: Vec<Stub>,
    pub(crate) traps: Vec<(u64, Meaning)>,
}

/// Adds what was prepared to what is there; where the sites are.
pub(crate) fn add(
    state: &mut State,
    ready: Vec<Ready>,
    stubs: &mut Vec<Stub>,
    traps: &mut Vec<(u64, Meaning)>,
) -> Box<[u64]> {
    let places = ready.iter().map(|part| part.at).collect();
    for part in ready {
        if part.site.action == PASSES_BY {
            // What was there does not come back: it has another probe's number.
            state.sites.insert(part.at, part.site);
        } else {
            state.put(part.at, part.site);
        }
        stubs.extend(part.stubs);
        traps.extend(part.traps);
    }
    places
}

/// A site that is reached by a jump, with this [`Site::action`]. `emit` writes what is to run at an
/// address.
pub(crate) fn by_jump(
    state: &mut State,
    probe: &Probe<'_>,
    detour: &Detour,
    action: (u32, u32),
    emit: impl FnOnce(u64, &mut Vec<u8>) -> Result<(Body, Vec<Hook>), Refusal>,
) -> Result<Ready, Refusal> {
    let (at, original) = (detour.site(), detour.original());
    if probe.around.patching.is_none()
        && let Some(why) = outside::refusal(detour)
    {
        return Err(why);
    }
    if state.displaces(&(at..at + original.len() as u64), probe.around.new_from) {
        return Err(Refusal::AlreadyProbed);
    }
    let (start, end, (body, hooks)) = write(state, &detour.reach(), at, emit)?;
    let Lead { target, traps, mut stubs } =
        lead(state, detour, start, (start, &body), &probe.around)?;
    let jump = patch::jump(at, target).ok_or(Refusal::NoRoom)?.to_vec();
    let moved = moved(at, original, start, &body);
    stubs.push(Stub { start, end, site: at, prologue: None, body: Some((start, body)), hooks });
    let site = site((probe.index, action), original, jump, start, moved);
    Ok(Ready { at, site, stubs, traps })
}

/// Writes what `emit` emits within `reach`: where it begins and ends, and what it says.
pub(crate) fn write<R>(
    state: &mut State,
    reach: &Range<u64>,
    wanted: u64,
    emit: impl FnOnce(u64, &mut Vec<u8>) -> Result<R, Refusal>,
) -> Result<(u64, u64, R), Refusal> {
    let start = state.near.reserve(reach, wanted).ok_or(Refusal::NoRoom)?;
    let mut code = Vec::with_capacity(256);
    let emitted = emit(start, &mut code)?;
    let fits = code.len() as u64 <= LONGEST && state.near.commit(start, &code);
    fits.then(|| (start, start + code.len() as u64, emitted)).ok_or(Refusal::NoRoom)
}

/// A site with that number and [`Site::action`].
pub(crate) fn site(
    (index, action): (u32, (u32, u32)),
    original: &[u8],
    patch: Vec<u8>,
    stub: u64,
    moved: Box<[(u64, u64)]>,
) -> Site {
    Site {
        index,
        action,
        original: original.to_vec(),
        patch,
        stub: Some(stub),
        armed: false,
        chosen: false,
        stale: false,
        hidden: false,
        branch_targets: None,
        moved,
        back: Box::default(),
        exits: None,
        spare: None,
    }
}

/// Where a jump leads.
pub(crate) struct Lead {
    /// To the stub, or to a trampoline whose distance traps at each byte.
    pub(crate) target: u64,
    /// What traps on the jump's bytes mean.
    pub(crate) traps: Vec<(u64, Meaning)>,
    /// The trampoline.
    pub(crate) stubs: Vec<Stub>,
}

/// How a jump leads to the stub at `stub`, in which the displaced instructions lie at an address:
/// by a way for threads that stand among them, if any run.
pub(crate) fn lead(
    state: &mut State,
    detour: &Detour,
    stub: u64,
    (copy, body): (u64, &Body),
    around: &Around<'_>,
) -> Result<Lead, Refusal> {
    let (at, boundaries) = (detour.site(), detour.boundaries());
    let mut lead = Lead { target: stub, traps: Vec::new(), stubs: Vec::new() };
    if !sites::is_live(around.patching) {
        return Ok(lead);
    }
    lead.traps.push((at, Meaning::GoOn(stub)));
    for boundary in boundaries {
        let inner = at + u64::from(*boundary);
        let relocated = body.relocated(inner);
        let offset = relocated.ok_or(Refusal::Code(patch::Refusal::NotRelocatable))?;
        lead.traps.push((inner, Meaning::GoOn(copy + u64::from(offset))));
    }
    if !boundaries.is_empty() {
        let made = state.trampolines.make(at, boundaries, stub, around.gaps, around.text);
        lead.target = made.ok_or(Refusal::NoRoom)?;
        lead.stubs.push(Stub::trampoline(lead.target, at));
    }
    Ok(lead)
}
