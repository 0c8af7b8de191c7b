//! Branches of a function back to its own probed first byte: they are no calls.
//!
//! The probe sees whoever comes by, and nothing that it could look at tells a branch from a call.
//! So the branches are redirected: each becomes a branch to the relocated first instructions,
//! behind the probe. Where a jump to a stub has room at the branch, or around it, it is written
//! there; else a trap.

use crate::arch::x86_64::branches::{Branch, Kind, Sweep};
use crate::arch::x86_64::decode::Text;
use crate::arch::x86_64::flow::Flow;
use crate::arch::x86_64::relocate::JUMP;
use crate::arch::x86_64::window::{entered_elsewhere, outside_rseq, window};
use crate::make::{breakpoint, jump};
use crate::method::Detour;
use crate::plan::BackBranch;
use crate::{Convention, Function, NoDetour, Options};
use alloc::vec::Vec;
use core::ops::Range;

/// What is known of the function.
pub(crate) struct Known<'a> {
    pub(crate) function: &'a Function<'a>,
    pub(crate) options: &'a Options<'a>,
    pub(crate) swept: &'a Sweep,
    pub(crate) flow: &'a Flow,
    pub(crate) branches: &'a [Branch],
}

/// The branches to `entry` (the site, and what stands before it and falls into it), but for those
/// in `displaced`, the instructions that the probe itself displaces. `None`: one of them cannot be
/// redirected, or it is not sure to be an instruction.
pub(crate) fn branches_back(
    known: &Known<'_>,
    entry: &Range<u64>,
    displaced: &Range<u64>,
) -> Option<Vec<BackBranch>> {
    let text = Text { address: known.function.address, bytes: known.function.code };
    let back = |b: &&Branch| b.kind == Kind::Jump && entry.contains(&b.to);
    let outside = |from: &u64| !displaced.contains(from);
    let mut from: Vec<u64> =
        known.branches.iter().filter(back).map(|b| b.from).filter(outside).collect();
    from.sort_unstable();
    from.dedup();
    // Up to here nothing may be displaced any more.
    let mut free = displaced.end.max(entry.end);
    let mut all = Vec::with_capacity(from.len());
    for (k, &at) in from.iter().enumerate() {
        let offset = text.offset(at)?;
        // Where there is data among the code, what nobody was seen to reach may be data.
        if at < free || !(known.swept.decodes || known.flow.reached[offset]) {
            return None;
        }
        let end = from.get(k + 1).copied().unwrap_or(u64::MAX);
        let detour = detour(known, text, offset, free..end);
        let end = |d: &Detour| d.site.saturating_add(d.original.len() as u64);
        free = detour.as_ref().map_or(at, end).max(at.saturating_add(1));
        let trap = breakpoint(&text.at(offset)?, NoDetour::Asked).ok()?;
        if known.options.rseq.iter().any(|r| r.contains(&at)) {
            return None;
        }
        all.push(BackBranch { detour, trap });
    }
    Some(all)
}

/// A window with the branch at `offset` in it, and nothing outside `free`.
fn detour(known: &Known<'_>, text: Text<'_>, offset: usize, free: Range<u64>) -> Option<Detour> {
    if known.options.breakpoint || !known.flow.decodes {
        return None;
    }
    // The nearest first: what is in front of the branch is displaced only if need be.
    (0..JUMP).filter_map(|before| offset.checked_sub(before)).find_map(|start| {
        let address = text.address.wrapping_add(start as u64);
        if address < free.start || !known.flow.reached[start] {
            return None;
        }
        let window = window(known.function, start, JUMP).ok()?;
        let inside = start == offset || window.boundaries.contains(&((offset - start) as u8));
        // A label that an indirect jump may lead to must not be displaced unawares.
        // Nor may anything in a function of Go's where a goroutine may have been put aside, or that
        // faults.
        let go = known.options.convention == Convention::Go;
        let whole = window.boundaries.is_empty() || !(known.swept.indirect || go);
        if !inside || !whole || free.end < address.saturating_add(window.bytes.len() as u64) {
            return None;
        }
        entered_elsewhere(address, &window, known.branches, known.options).ok()?;
        outside_rseq(address, &window, known.options).ok()?;
        jump(address, window).ok()
    })
}
