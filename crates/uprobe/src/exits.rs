//! The exits of a probed function: sites of their own, armed and disarmed with its entry.
//!
//! A stub has the displaced instructions, and a hook in front of each that leaves the function. A
//! hook has a number in the site table, as an entry has, by which it finds the function's cell and
//! consumers; nothing is known to the rest of the engine but the function's site.
#![allow(unsafe_code)]

use crate::Refusal;
use crate::arch::x86_64::prologue;
use crate::parts::{Probe, Ready, by_jump};
use crate::prologue::Prologue;
use crate::site_table::{self, Action};
use crate::sites::{State, exit_of};
use crate::stubs::Hook;
use alloc::vec::Vec;
use core::sync::atomic::Ordering;
use patch::{Body, Exit, Redirect};

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

/// Prepares a site for each of these exits but that at the entry. Nothing but some bytes of memory
/// and some numbers are taken if one of them cannot be.
pub(crate) fn prepare(
    state: &mut State,
    probe: &Probe<'_>,
    action: Action,
    exits: &[Exit],
) -> Result<Vec<Ready>, Refusal> {
    let its = (probe.index, action);
    let mut one = |exit: &Exit| {
        let emit = |at: u64, code: &mut Vec<u8>| {
            let (body, hooks) = emit(exit, at, &probe.redirect, its, code)?;
            Ok((body, finish(hooks, code)))
        };
        by_jump(state, probe, exit.detour(), exit_of(probe.index), emit)
    };
    exits.iter().filter(|exit| !exit.at_entry()).map(&mut one).collect()
}
