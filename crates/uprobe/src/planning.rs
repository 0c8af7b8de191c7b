//! What is to be done for each target of a batch.
#![allow(unsafe_code)]

use crate::Refusal;
use crate::image::Process;
use crate::maps::{self, Mapping};
use crate::sites::State;
use crate::target::Target;
use alloc::boxed::Box;
use alloc::{vec, vec::Vec};
use core::ops::Range;
use core::ptr;
use patch::{Function, Options, Plan, branches_elsewhere, plan};

/// More bytes than any patch has.
const LONGEST_PATCH: usize = 32;

/// A plan, and where, by what was found, the program branches to in its window; nothing, if that
/// was looked for elsewhere. In a box: there are thousands at a time, in lists that move them.
pub(crate) type Planned = Result<(Box<Plan>, Option<Box<[u64]>>), Refusal>;

/// What is to be done for each target: as was decided elsewhere, if that is about what is here,
/// else as is decided here.
pub(crate) fn plans(
    state: &State,
    mappings: &[Mapping<'_>],
    targets: &[Target],
    decisions: Vec<Option<Result<Box<Plan>, patch::Refusal>>>,
    rseq: &[Range<u64>],
) -> Vec<Planned> {
    let mut plans: Vec<Option<Planned>> = targets
        .iter()
        .zip(decisions)
        .map(|(target, decision)| {
            let decision = decision.filter(|d| is_about(state, mappings, target, d))?;
            Some(decision.map(|plan| (plan, None)).map_err(Refusal::Code))
        })
        .collect();
    let open: Vec<usize> = (0..targets.len()).filter(|i| plans[*i].is_none()).collect();
    let codes: Vec<Option<Vec<u8>>> =
        open.iter().map(|i| read_code(state, mappings, &targets[*i])).collect();
    let functions: Vec<(usize, Function<'_>)> = open
        .iter()
        .zip(&codes)
        .filter_map(|(i, code)| {
            let target = &targets[*i];
            let (code, after) = code.as_deref()?.split_at(target.size as usize);
            Some((*i, Function { address: target.address, code, after, site: target.offset }))
        })
        .collect();
    let branch_targets = find_branch_targets(state, mappings, targets, &functions);
    let options = Options { rseq, branch_targets: &branch_targets, breakpoint: false };
    for (i, function) in &functions {
        let options = Options { breakpoint: targets[*i].breakpoint, ..options };
        let plan = plan(function, &options).map_err(Refusal::Code);
        plans[*i] = Some(plan.map(|plan| {
            let near = patch::near(&branch_targets, plan.site).into();
            (Box::new(plan), Some(near))
        }));
    }
    plans.into_iter().map(|plan| plan.unwrap_or(Err(Refusal::Unreadable))).collect()
}

fn find_branch_targets(
    state: &State,
    mappings: &[Mapping<'_>],
    targets: &[Target],
    functions: &[(usize, Function<'_>)],
) -> Vec<u64> {
    let known = |i: usize| state.branch_targets_of(&targets[functions[i].0]);
    let is_new = |i: usize| known(i).is_none();
    let sought: Vec<u64> =
        (0..functions.len()).filter(|i| is_new(*i)).map(|i| functions[i].1.address).collect();
    let process = Process { mappings, sought: &sought };
    let code: Vec<Function<'_>> = functions.iter().map(|(_, function)| *function).collect();
    let mut found = branches_elsewhere(&code, is_new, &process);
    found.extend((0..functions.len()).filter_map(known).flatten());
    found.sort_unstable();
    found.dedup();
    found
}

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
        && plan.back.iter().flatten().all(|back| {
            let detour = back.detour.as_ref().map(|d| inside(d.site(), d.original()));
            detour.unwrap_or(true) && inside(back.trap.site(), back.trap.original())
        })
}

/// The original bytes of a function and of what is behind it.
fn read_code(state: &State, mappings: &[Mapping<'_>], target: &Target) -> Option<Vec<u8>> {
    let range = target.range();
    let end = range.end.checked_add(u64::from(target.after))?;
    original(state, mappings, range.start..end).or_else(|| original(state, mappings, range))
}

/// Whether the original bytes at an address are these: of functions that are moved as a whole,
/// hundreds.
fn has(state: &State, mappings: &[Mapping<'_>], at: u64, bytes: &[u8]) -> bool {
    const PART: usize = 32;
    let mut there = [0; PART];
    bytes.chunks(PART).zip((at..).step_by(PART)).all(|(bytes, at)| {
        let there = &mut there[..bytes.len()];
        copy_original(state, mappings, at, there) && there == bytes
    })
}

/// The bytes in a range, as they are without our patches.
fn original(state: &State, mappings: &[Mapping<'_>], range: Range<u64>) -> Option<Vec<u8>> {
    let mut code = vec![0; (range.end - range.start) as usize];
    copy_original(state, mappings, range.start, &mut code).then_some(code)
}

/// Copies the bytes from an address on, as they are without our patches. False: they cannot be
/// read.
fn copy_original(state: &State, mappings: &[Mapping<'_>], start: u64, code: &mut [u8]) -> bool {
    let Some(end) = start.checked_add(code.len() as u64) else { return false };
    if !maps::is_readable(mappings, &(start..end)) {
        return false;
    }
    // SAFETY: the range is mapped and readable; it is code, which nobody but us changes, under the
    // lock that we hold.
    unsafe {
        ptr::copy_nonoverlapping(
            ptr::with_exposed_provenance(start as usize),
            code.as_mut_ptr(),
            code.len(),
        )
    };
    // One that reaches into the range begins at most so far in front of it.
    let first = start.saturating_sub(LONGEST_PATCH as u64);
    for (at, site) in state.sites.range(first..end).filter(|(_, s)| s.armed) {
        for (i, byte) in site.original.iter().take(site.patch.len()).enumerate() {
            if let Some(b) =
                (at + i as u64).checked_sub(start).and_then(|offset| code.get_mut(offset as usize))
            {
                *b = *byte;
            }
        }
    }
    true
}

impl State {
    /// Where the program branches to in the window of a target that was armed before, if that was
    /// looked for.
    fn branch_targets_of(&self, target: &Target) -> Option<&[u64]> {
        let at = target.address + u64::from(target.offset);
        // Behind an endbr64, if there is one.
        let site = [at, at + 4].iter().find_map(|site| self.sites.get(site));
        site.and_then(|site| site.branch_targets.as_deref())
    }
}

#[cfg(test)]
mod tests {
    use super::{State, has, maps};

    /// No two parts of it are the same.
    static BYTES: [u8; 512] = {
        let mut bytes = [0; 512];
        let mut n = 0;
        while n < bytes.len() {
            bytes[n] = (n / 2 + n % 3) as u8;
            n += 1;
        }
        bytes
    };

    #[test]
    fn bytes_of_any_length_are_compared() {
        let (state, mappings) = (State::default(), maps::read());
        let at = BYTES.as_ptr().expose_provenance() as u64;
        for len in [0, 1, 31, 32, 33, 64, 65, 512] {
            assert!(has(&state, &mappings, at, &BYTES[..len]), "{len}");
            for wrong in 0..len {
                let mut bytes = BYTES;
                bytes[wrong] ^= 1;
                assert!(!has(&state, &mappings, at, &bytes[..len]), "{wrong} of {len}");
            }
        }
        assert!(!has(&state, &mappings, 0, &[0]), "nothing is there");
    }
}
