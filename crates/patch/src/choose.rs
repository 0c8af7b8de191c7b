//! The choice of the method.

use crate::arch::x86_64::branches::{Branch, Kind, sweep};
use crate::arch::x86_64::dead::liveness;
use crate::arch::x86_64::decode::Text;
use crate::arch::x86_64::flow::{Flow, walk};
use crate::arch::x86_64::goroutine::{faults, stack_check};
use crate::arch::x86_64::leaving::reach;
use crate::arch::x86_64::relocate::JUMP;
use crate::arch::x86_64::special;
use crate::arch::x86_64::window::{entered_elsewhere, outside_rseq, whole, window};
use crate::back_branches::{Known, branches_back};
use crate::exits::{Taken, exits, range_of};
use crate::make::{breakpoint, jump};
use crate::method::{Breakpoint, Detour, Method, Resume};
use crate::plan::{BackBranch, Plan};
use crate::{Convention, Function, Liveness, NoDetour, NoExits, NoReturn, Options, Refusal};
use alloc::vec::Vec;
use core::ops::Range;

/// Decides how to put a probe at `f.site`.
///
/// Context: allocates; time is linear in the size of the function (about 10 ns for an instruction).
///
/// # Errors
/// The reason why there can be no probe.
pub fn plan(f: &Function<'_>, options: &Options<'_>) -> Result<Plan, Refusal> {
    let text = Text { address: f.address, bytes: f.code };
    let asked = f.site as usize;
    if asked >= f.code.len() {
        return Err(Refusal::Empty);
    }
    let mut first = text.at(asked).ok_or(Refusal::Undecodable)?;
    special::check(text, &first)?;
    let swept = sweep(text);
    let flow = walk(text, 0);
    if !swept.starts[asked] && !flow.reached[asked] {
        return Err(Refusal::NotAnInstruction);
    }
    // An endbr64 must stay where indirect branches arrive.
    let mut site = asked;
    if let Some(next) =
        special::is_landing_pad(&first).then(|| text.at(asked + first.bytes.len())).flatten()
    {
        special::check(text, &next)?;
        site += first.bytes.len();
        first = next;
    }
    let address = text.address.wrapping_add(site as u64);
    if options.rseq.iter().any(|r| r.contains(&address)) {
        return Err(Refusal::Rseq);
    }
    let branches: Vec<Branch> = swept.branches.iter().chain(&flow.branches).copied().collect();
    let go = options.convention == Convention::Go;
    // Bytes of the look whether the stack has room: behind it each call comes by once.
    let check = if go && asked == 0 { stack_check(text) } else { None };
    let method = match detour(f, (site, check), &flow, &branches, options) {
        Ok(detour) => Method::Detour(detour),
        Err(why) if go => {
            return Err(match why {
                NoDetour::PutAside => Refusal::GoPutAside,
                NoDetour::Faults => Refusal::GoFaults,
                _ => Refusal::GoNoJump,
            });
        }
        Err(why) => Method::Breakpoint(breakpoint(&first, why)?),
    };
    let entry = text.address.wrapping_add(asked as u64)..address.saturating_add(1);
    let displaced = address..address.saturating_add(displaced(&method));
    let behind = check.is_some() && matches!(method, Method::Detour(_));
    let loops = !behind && loops(&displaced, &entry, address, &branches);
    let known = Known { function: f, options, swept: &swept, flow: &flow, branches: &branches };
    let back = (asked == 0 && !behind).then(|| branches_back(&known, &entry, &displaced)).flatten();
    let red_zone = asked != 0 || loops;
    let returns = match () {
        () if go => Err(NoReturn::Goroutine),
        () if asked != 0 => Err(NoReturn::NotEntry),
        () => flow.returns,
    };
    // What the convention gives away is there at the entry only, and behind the check.
    let live = match () {
        () if go && asked == 0 => Liveness::GO,
        () if go => Liveness { no_stack: true, ..liveness(text, site, true) },
        () => liveness(text, site, red_zone),
    };
    let exits = match () {
        () if !options.exits => Err(NoExits::NotAsked),
        () if asked != 0 => Err(NoExits::NotEntry),
        () => {
            let ranges = taken(&method, &displaced, back.as_deref());
            let reach = reach(f, &swept, &branches, options);
            reach.and_then(|r| exits(f, &r, &Taken { method: &method, ranges: &ranges }, options))
        }
    };
    Ok(Plan { site: address, live, method, loops, behind, back, entry, returns, exits })
}

/// What the sites of a plan take.
fn taken(method: &Method, displaced: &Range<u64>, back: Option<&[BackBranch]>) -> Vec<Range<u64>> {
    let entry = match method {
        Method::Detour(detour) => range_of(detour),
        Method::Breakpoint(b) => b.site..displaced.end.max(b.site.saturating_add(1)),
    };
    let back = back.unwrap_or(&[]).iter().map(|branch| {
        let trap = branch.trap.site..branch.trap.site.saturating_add(1);
        branch.detour.as_ref().map_or(trap, range_of)
    });
    core::iter::once(entry).chain(back).collect()
}

/// The detour at the offset `site`, that displaces the check there if there is one.
fn detour(
    f: &Function<'_>,
    (site, check): (usize, Option<usize>),
    flow: &Flow,
    branches: &[Branch],
    options: &Options<'_>,
) -> Result<Detour, NoDetour> {
    if options.breakpoint {
        return Err(NoDetour::Asked);
    }
    let go = options.convention == Convention::Go;
    let mut window = window(f, site, check.unwrap_or(JUMP))?;
    if go && faults(Text { address: f.address, bytes: &f.code[..site + window.code] }, site) {
        return Err(NoDetour::Faults);
    }
    // Nobody is put aside in the middle of the check (see `stack_check`).
    if options.put_aside && check.is_none() && !window.boundaries.is_empty() {
        return Err(NoDetour::PutAside);
    }
    if !flow.decodes {
        return Err(NoDetour::Undecodable);
    }
    let address = f.address.wrapping_add(site as u64);
    match entered_elsewhere(address, &window, branches, options) {
        Err(NoDetour::BranchIntoWindow) if !go => {
            window = whole(f, site, branches, options).ok_or(NoDetour::BranchIntoWindow)?
        }
        other => other?,
    }
    outside_rseq(address, &window, options)?;
    jump(address, window)
}

/// Bytes from the site on that run elsewhere.
fn displaced(method: &Method) -> u64 {
    match method {
        Method::Detour(d) => d.code as u64,
        Method::Breakpoint(Breakpoint { resume: Resume::Slot, original, .. }) => {
            original.len() as u64
        }
        Method::Breakpoint(_) => 0,
    }
}

/// Whether the function jumps back to the site, or to what is before it and falls into it. A jump
/// of a relocated instruction to the site goes to its copy.
fn loops(displaced: &Range<u64>, entry: &Range<u64>, site: u64, branches: &[Branch]) -> bool {
    let own = |b: &Branch| b.to == site && displaced.contains(&b.from);
    branches.iter().any(|b| b.kind == Kind::Jump && entry.contains(&b.to) && !own(b))
}
