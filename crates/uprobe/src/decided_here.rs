//! Decisions that are made in the process, from its memory.

use crate::Refusal;
use crate::image::Process;
use crate::maps::Mapping;
use crate::original::copy_original;
use crate::planned::Planned;
use crate::sites::State;
use crate::target::{Returns, Target};
use alloc::boxed::Box;
use alloc::{vec, vec::Vec};
use core::ops::Range;
use patch::{Function, Options, branches_elsewhere, plan};

/// Decides for the targets that have no plan yet. Of what cannot be read nothing is said.
pub(crate) fn plan_rest(
    state: &State,
    mappings: &[Mapping<'_>],
    targets: &[Target],
    rseq: &[Range<u64>],
    plans: &mut [Option<Planned>],
) {
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
    let options = Options { rseq, branch_targets: &branch_targets, ..Options::default() };
    for (i, function) in &functions {
        let target = &targets[*i];
        let exits = target.sees_returns() && target.by != Returns::Instances;
        let options = Options { breakpoint: target.breakpoint, exits, ..options };
        let plan = plan(function, &options).map_err(Refusal::Code);
        plans[*i] = Some(plan.map(|plan| {
            let near = patch::near(&branch_targets, plan.site).into();
            (Box::new(plan), Some(near))
        }));
    }
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

/// The original bytes of a function and of what is behind it.
fn read_code(state: &State, mappings: &[Mapping<'_>], target: &Target) -> Option<Vec<u8>> {
    let range = target.range();
    let end = range.end.checked_add(u64::from(target.after))?;
    original(state, mappings, range.start..end).or_else(|| original(state, mappings, range))
}

/// The bytes in a range, as they are without our patches.
fn original(state: &State, mappings: &[Mapping<'_>], range: Range<u64>) -> Option<Vec<u8>> {
    let mut code = vec![0; (range.end - range.start) as usize];
    copy_original(state, mappings, range.start, &mut code).then_some(code)
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
