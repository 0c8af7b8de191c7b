//! Windows for the instructions by which a function leaves.
//!
//! A window ends with such an instruction, or with padding behind one. In front of it, it takes as
//! few whole instructions as a jump needs, none of which is a call (which would return among them),
//! and control comes to none of them but by the first: else some that leave would not be seen.

use crate::arch::x86_64::decode::{Text, ends_flow, is_padding, relocatable};
use crate::arch::x86_64::goroutine::may_fault;
use crate::arch::x86_64::leaving::{Left, Part, Reach, targeted};
use crate::arch::x86_64::relocate::JUMP;
use crate::arch::x86_64::template::Cut;
use crate::arch::x86_64::window::Window;
use crate::exit::{Exit, Leaving};
use crate::make::jump;
use crate::method::{Detour, Method};
use crate::{Convention, Decision, Function, NoDetour, NoExits, Options, Step};
use alloc::vec::Vec;
use core::ops::Range;

/// From so many bytes on, no more are displaced in search of an instruction as long as a jump.
const MOST: usize = 16;

/// What is taken already.
pub(crate) struct Taken<'a> {
    /// What is put at the entry.
    pub(crate) method: &'a Method,
    /// The bytes of it and of all other sites of the function.
    pub(crate) ranges: &'a [Range<u64>],
}

/// A window for each of the instructions that leave; windows that would overlap are one.
pub(crate) fn exits(
    f: &Function<'_>,
    reach: &Reach<'_>,
    taken: &Taken<'_>,
    options: &Options<'_>,
) -> Result<Vec<Exit>, NoExits> {
    let mut exits: Vec<Exit> = Vec::with_capacity(reach.leaves.len());
    let mut last: Option<Range<u64>> = None;
    // From behind: a window may take earlier ones that leave, and what is in front of a window is
    // free.
    for left in reach.leaves.iter().rev() {
        // That window has it among its own.
        if last.as_ref().is_some_and(|range| range.contains(&left.address)) {
            continue;
        }
        let exit = exit(f, reach, left, last.as_ref(), taken, options)?;
        last = Some(range_of(&exit.detour));
        exits.push(exit);
    }
    exits.reverse();
    Ok(exits)
}

/// Takes the exits from functions whose sites overlap those of others: functions that share code,
/// such as assembly with several entries, or a part that several jump to. What is at entries stays.
///
/// Context: allocates; time n log n in the number of sites.
pub fn keep_apart(decisions: &mut [Decision]) {
    // (bytes, whose, an exit)
    let mut all: Vec<(Range<u64>, usize, bool)> = Vec::new();
    for (whose, plan) in decisions.iter().enumerate() {
        let Ok(plan) = plan else { continue };
        let len = plan.method.original().len() as u64;
        all.push((plan.site..plan.site.saturating_add(len), whose, false));
        for exit in plan.exits.iter().flatten() {
            all.push((range_of(&exit.detour), whose, true));
        }
        for branch in plan.back.iter().flatten() {
            let trap = branch.trap.site..branch.trap.site.saturating_add(1);
            all.push((branch.detour.as_ref().map_or(trap, range_of), whose, false));
        }
    }
    all.sort_unstable_by_key(|(range, whose, _)| (range.start, *whose));
    let mut shared = Vec::new();
    // The one that reaches furthest of those before.
    let mut furthest: Option<&(Range<u64>, usize, bool)> = None;
    for site in &all {
        let Some(before) = furthest else {
            furthest = Some(site);
            continue;
        };
        if before.0.end > site.0.start && before.1 != site.1 {
            shared.extend([before, site].iter().filter(|(_, _, exit)| *exit).map(|site| site.1));
        }
        if site.0.end >= before.0.end {
            furthest = Some(site);
        }
    }
    for whose in shared {
        if let Some(Ok(plan)) = decisions.get_mut(whose) {
            plan.exits = Err(NoExits::Shared);
        }
    }
}

/// The bytes that a detour displaces.
pub(crate) fn range_of(detour: &Detour) -> Range<u64> {
    detour.site..detour.site.saturating_add(detour.original.len() as u64)
}

/// The exit whose last instruction is `left`. `behind` is a window that must not be reached.
fn exit(
    f: &Function<'_>,
    reach: &Reach<'_>,
    left: &Left,
    behind: Option<&Range<u64>>,
    taken: &Taken<'_>,
    options: &Options<'_>,
) -> Result<Exit, NoExits> {
    if let Method::Detour(entry) = taken.method
        && (entry.site..entry.site + entry.code as u64).contains(&left.address)
    {
        // Moved as a whole, the function's branches lead to their copies; else no way may lead
        // among what is displaced.
        let code = entry.site..entry.site + entry.code as u64;
        let whole = code.end == f.address + f.code.len() as u64;
        if !whole && targeted(&reach.targets, &(code.start + 1..code.end)) {
            return Err(NoExits::NoRoom);
        }
        return with_leaves(reach, entry.clone(), true);
    }
    let part = &reach.parts[left.part];
    let window = window(f, reach, left, behind, taken, options)?;
    // What is behind the jump stays as it is: whoever was put aside there goes on there.
    if options.exits_put_aside && !window.boundaries.is_empty() {
        return Err(NoExits::PutAside);
    }
    let start = left.address + length_of(part, left) - window.code as u64;
    let end = start.saturating_add(window.bytes.len() as u64);
    if options.rseq.iter().any(|r| r.start < end && r.end > start) {
        return Err(NoExits::Rseq);
    }
    let detour = jump(start, window).map_err(|why| match why {
        NoDetour::OutOfReach => NoExits::OutOfReach,
        _ => NoExits::NotRelocatable,
    })?;
    with_leaves(reach, detour, false)
}

fn length_of(part: &Part<'_>, left: &Left) -> u64 {
    part.text.offset(left.address).map_or(0, |at| u64::from(part.lengths[at]))
}

/// A window with hooks for all that leave in it.
fn with_leaves(reach: &Reach<'_>, detour: Detour, at_entry: bool) -> Result<Exit, NoExits> {
    let code = detour.site..detour.site + detour.code as u64;
    let first = reach.leaves.partition_point(|left| left.address < code.start);
    let inside = reach.leaves[first..].iter().take_while(|left| code.contains(&left.address));
    let leaves = inside
        .map(|left| {
            let own = |step: &&Step| step.start && step.original == left.address;
            let step = detour.template.steps.iter().find(own)?;
            let cut = Cut { at: step.offset as u16, conditional: left.conditional };
            let Left { address, leave, live, .. } = *left;
            detour.template.takes(cut).then_some(Leaving { address, leave, live, cut })
        })
        .collect::<Option<Vec<_>>>()
        .ok_or(NoExits::NotRelocatable)?;
    Ok(Exit { at_entry, detour, leaves })
}

/// The bytes to displace.
fn window(
    f: &Function<'_>,
    reach: &Reach<'_>,
    left: &Left,
    behind: Option<&Range<u64>>,
    taken: &Taken<'_>,
    options: &Options<'_>,
) -> Result<Window, NoExits> {
    let go = options.convention == Convention::Go;
    let part = &reach.parts[left.part];
    let text = part.text;
    let last = text.offset(left.address).ok_or(NoExits::NoRoom)?;
    let end = last + usize::from(part.lengths[last]);
    let address = |offset: usize| text.address.wrapping_add(offset as u64);
    let free = |start: usize, end: usize| {
        let range = address(start)..address(end);
        let overlaps = |other: &Range<u64>| other.start < range.end && range.start < other.end;
        !taken.ranges.iter().any(overlaps) && !behind.is_some_and(overlaps)
    };
    if !text.at(last).is_some_and(|d| relocatable(&d)) {
        return Err(NoExits::NotRelocatable);
    }
    if !free(last, end) {
        return Err(NoExits::NoRoom);
    }
    let after: &[u8] = if left.part == 0 { f.after } else { &[] };
    // Only one behind which nothing runs on can take what is behind it.
    let filled = |start: usize| {
        let need = JUMP.saturating_sub(end - start);
        let padding = || padding(reach, text, end, need, after).filter(|_| free(start, end + need));
        if left.conditional { None } else { padding() }
    };
    let mut start = last;
    // Where goroutines may have been put aside, the jump takes the bytes of one instruction: of the
    // one that leaves, or of one in front of it.
    let aside = options.exits_put_aside;
    let divides = |start: usize| aside && usize::from(part.lengths[start]) < JUMP;
    let alone = aside && end - last < JUMP && filled(last).is_some();
    while !alone
        && (end - start < JUMP || divides(start) && end - start < MOST)
        && !targeted(&reach.targets, &(address(start)..address(start + 1)))
    {
        let Some(before) = part.before(start).filter(|at| free(*at, end)) else { break };
        let fits = text.at(before).is_some_and(|d| {
            let i = &d.instruction;
            let calls = i.is_call_near() || i.is_call_near_indirect();
            // Go's runtime does not know faults elsewhere, where the stack is not as at the entry.
            let faults = go && may_fault(i);
            relocatable(&d) && !calls && !ends_flow(i) && !faults
        });
        if !fits {
            break;
        }
        start = before;
    }
    let boundaries = |start: usize| {
        let begins = |at: &usize| *at < end && part.lengths[*at] != 0;
        (start + 1..start + JUMP).filter(begins).map(|at| (at - start) as u8).collect()
    };
    if targeted(&reach.targets, &(address(start + 1)..address(end))) {
        return Err(NoExits::NoRoom);
    }
    if end - start >= JUMP {
        let bytes = text.bytes[start..end].to_vec();
        return Ok(Window { bytes, code: end - start, boundaries: boundaries(start) });
    }
    let padding = filled(start).ok_or(NoExits::NoRoom)?;
    let mut bytes = text.bytes[start..end].to_vec();
    bytes.extend(padding);
    Ok(Window { bytes, code: end - start, boundaries: boundaries(start) })
}

/// `need` bytes behind an instruction that nobody gets to and that are padding.
fn padding(
    reach: &Reach<'_>,
    text: Text<'_>,
    from: usize,
    need: usize,
    after: &[u8],
) -> Option<Vec<u8>> {
    let bytes: Vec<u8> = text.bytes[from..].iter().chain(after).copied().take(need + 15).collect();
    let begin = text.address.wrapping_add(from as u64);
    let rest = Text { address: begin, bytes: &bytes };
    let mut end = 0;
    while end < need {
        end += rest.at(end).filter(|d| is_padding(&d.instruction))?.bytes.len();
    }
    let used = targeted(&reach.targets, &(begin..begin + need as u64));
    (!used).then(|| bytes[..need].to_vec())
}
