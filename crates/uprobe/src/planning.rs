//! What is to be done for each target of a batch.

use crate::Refusal;
#[cfg(feature = "plan")]
use crate::decided_here;
use crate::maps::Mapping;
use crate::original::has;
use crate::planned::Planned;
use crate::sites::State;
use crate::target::Target;
use alloc::boxed::Box;
use alloc::vec::Vec;
use core::ops::Range;
use patch::Plan;

/// What is to be done for each target: as was decided elsewhere, if that is about what is here,
/// else as is decided here, if anything is.
pub(crate) fn plans(
    state: &State,
    mappings: &[Mapping<'_>],
    targets: &[Target],
    decisions: Vec<Option<Result<Box<Plan>, patch::Refusal>>>,
    rseq: &[Range<u64>],
) -> Vec<Planned> {
    #[cfg_attr(not(feature = "plan"), allow(unused_mut, reason = "nobody decides here"))]
    let mut plans: Vec<Option<Planned>> = targets
        .iter()
        .zip(decisions)
        .map(|(target, decision)| {
            let decision = decision.filter(|d| is_about(state, mappings, target, d))?;
            Some(decision.map(|plan| (plan, None)).map_err(Refusal::Code))
        })
        .collect();
    #[cfg(feature = "plan")]
    decided_here::plan_rest(state, mappings, targets, rseq, &mut plans);
    #[cfg(not(feature = "plan"))]
    let _ = rseq;
    plans.into_iter().map(|plan| plan.unwrap_or(Err(REST))).collect()
}

/// What is to be said of a target for which nothing was decided.
const REST: Refusal = if cfg!(feature = "plan") { Refusal::Unreadable } else { Refusal::OtherCode };

/// Whether a decision is about this target and the bytes that are there.
fn is_about(
    state: &State,
    mappings: &[Mapping<'_>],
    target: &Target,
    decision: &Result<Box<Plan>, patch::Refusal>,
) -> bool {
    let Ok(plan) = decision else { return true };
    let Some(end) = target.range().end.checked_add(u64::from(target.after)) else { return false };
    let asked = target.address + u64::from(target.offset);
    // Behind an endbr64, if there is one.
    let here = plan.site == asked || plan.site == asked.saturating_add(4);
    let breakpoint = !target.breakpoint || matches!(plan.method, patch::Method::Breakpoint(_));
    let inside = |at: u64, bytes: &[u8]| {
        let whole = at.checked_add(bytes.len() as u64).is_some_and(|behind| behind <= end);
        at >= target.address && whole && has(state, mappings, at, bytes)
    };
    here && breakpoint
        && inside(plan.site, plan.method.original())
        && plan.exits.iter().flatten().all(|exit| {
            let detour = exit.detour();
            // Parts of a function may lie elsewhere.
            has(state, mappings, detour.site(), detour.original())
        })
        && plan.back.iter().flatten().all(|back| {
            let detour = back.detour.as_ref().map(|d| inside(d.site(), d.original()));
            detour.unwrap_or(true) && inside(back.trap.site(), back.trap.original())
        })
}
