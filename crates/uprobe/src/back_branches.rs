//! Leads the branches of a function back to its own first byte past the probe there.

use crate::Refusal;
use crate::parts::{self, Probe, Ready, by_jump, site, write};
use crate::sites::{PASSES_BY, State};
use crate::stubs::Stub;
use crate::trap_table::Meaning;
use alloc::boxed::Box;
use alloc::{vec, vec::Vec};
use patch::BackBranch;

/// Prepares sites that redirect all of `branches`, if need be and `may_trap` by traps: adds them
/// to `state`, their code to `stubs`, and their traps to `traps`. `None`, and nothing but some
/// bytes of memory is taken: one of them cannot be redirected here.
pub(crate) fn redirect(
    state: &mut State,
    probe: &Probe<'_>,
    branches: &[BackBranch],
    may_trap: bool,
    (stubs, traps): (&mut Vec<Stub>, &mut Vec<(u64, Meaning)>),
) -> Option<Box<[u64]>> {
    let mut done = Vec::with_capacity(branches.len());
    for branch in branches {
        let led = branch.detour.as_ref().and_then(|detour| {
            let emit = |to: u64, out: &mut Vec<u8>| {
                let body = detour.emit_redirected(to, Some(&probe.redirect), out);
                Ok((body.map_err(Refusal::Code)?, Vec::new()))
            };
            by_jump(state, probe, detour, PASSES_BY, emit).ok()
        });
        let trapped = |state: &mut State| {
            may_trap.then(|| by_trap(state, probe, &branch.trap).ok()).flatten()
        };
        done.push(led.or_else(|| trapped(state))?);
    }
    Some(parts::add(state, done, stubs, traps))
}

fn by_trap(
    state: &mut State,
    probe: &Probe<'_>,
    trap: &patch::Breakpoint,
) -> Result<Ready, Refusal> {
    let (at, original) = (trap.site(), trap.original());
    if state.displaces(&(at..at + original.len() as u64), probe.around.new_from) {
        return Err(Refusal::AlreadyProbed);
    }
    let emit = |to: u64, out: &mut Vec<u8>| {
        trap.emit_redirected(to, Some(&probe.redirect), out).map_err(Refusal::Code)
    };
    let (start, end, body) = write(state, &trap.reach(), at, emit)?;
    let (body, hooks) = (Some((start, body)), Vec::new());
    let stubs = vec![Stub { start, end, site: at, prologue: None, body, hooks }];
    let traps = vec![(at, Meaning::GoOn(start))];
    let site = site((probe.index, PASSES_BY), original, vec![0xcc], start, Box::default());
    Ok(Ready { at, site, stubs, traps })
}
