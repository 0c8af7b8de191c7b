//! The code of a stub: what is done at a hit, and the displaced instructions.

use crate::Refusal;
use crate::arch::x86_64::prologue;
use crate::chosen::Chosen;
use crate::exits;
use crate::prologue::Prologue;
use crate::stubs::Hook;
use alloc::boxed::Box;
use alloc::vec::Vec;
use patch::{Body, Detour, Plan};

/// What [`emit_before`] and [`emit_behind`] have written: the prologue, the displaced instructions
/// and where they begin, and the hooks among them.
pub(crate) type Emitted = (Prologue, u64, Body, Vec<Hook>);

/// The code of a stub: what is done at a hit, then the displaced instructions. Where the function
/// is left among them, what is done there, too.
pub(crate) fn emit_before(
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
pub(crate) fn emit_behind(
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
pub(crate) fn movable(breakpoint: &patch::Breakpoint, site: u64) -> Option<Box<[u8]>> {
    let far = |distance: u64| {
        let mut code = Vec::new();
        breakpoint.emit_slot(site ^ distance, &mut code).ok().map(|_| code)
    };
    let (one, other) = (far(1 << 40)?, far(1 << 41)?);
    (one == other).then(|| one.into())
}
