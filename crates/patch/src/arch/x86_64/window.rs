//! The instructions that a jump at the site displaces.

use super::branches::{Branch, Kind};
use super::decode::{Decoded, Text, ends_flow, ip_relative, is_padding, relocatable};
use super::relocate::{JUMP, size};
use crate::{Function, NoDetour, Options};
use alloc::vec::Vec;
use iced_x86::FlowControl;

/// Whole instructions from the site on, at least five bytes with the padding behind them.
pub(crate) struct Window {
    /// All displaced bytes.
    pub(crate) bytes: Vec<u8>,
    /// How many of them are instructions; the rest is padding that is never executed.
    pub(crate) code: usize,
    /// Where instructions begin, below [`JUMP`], without 0.
    pub(crate) boundaries: Vec<u8>,
}

/// The window at `site`, an offset into the function; of at least `least` bytes, if that is more
/// than a jump.
pub(crate) fn window(f: &Function<'_>, site: usize, least: usize) -> Result<Window, NoDetour> {
    let least = least.max(JUMP);
    let text = Text { address: f.address, bytes: f.code };
    let mut boundaries = Vec::new();
    let mut end = site;
    loop {
        let Some(decoded) = text.at(end) else {
            return Err(if end >= f.code.len() {
                NoDetour::TooShort
            } else {
                NoDetour::Undecodable
            });
        };
        let Decoded { instruction: i, bytes, .. } = decoded;
        if !relocatable(&decoded) {
            return Err(NoDetour::NotRelocatable);
        }
        if (1..JUMP).contains(&(end - site)) {
            boundaries.push((end - site) as u8);
        }
        end += bytes.len();
        let taken = end - site;
        if taken >= least {
            return Ok(Window { bytes: f.code[site..end].to_vec(), code: taken, boundaries });
        }
        if i.is_call_near() || i.is_call_near_indirect() {
            return Err(NoDetour::CallInWindow);
        }
        // A handler may go on behind an instruction that traps, even if what is there looks like
        // padding.
        if i.flow_control() == FlowControl::Exception && end < f.code.len() {
            return Err(NoDetour::CodeBehindJump);
        }
        if ends_flow(&i) {
            let mut bytes = f.code[site..end].to_vec();
            bytes.extend(padding(f, end, JUMP.saturating_sub(taken))?);
            return Ok(Window { bytes, code: taken, boundaries });
        }
    }
}

/// `need` bytes of padding from offset `from` on, which may lie behind the function. The last
/// instruction of the padding may be cut.
fn padding(f: &Function<'_>, from: usize, need: usize) -> Result<Vec<u8>, NoDetour> {
    let bytes: Vec<u8> = f.code[from..].iter().chain(f.after).copied().take(need + 15).collect();
    let inside = f.code.len() - from;
    let text = Text { address: f.address.wrapping_add(from as u64), bytes: &bytes };
    let mut end = 0;
    while end < need {
        let Some(d) = text.at(end).filter(|d| is_padding(&d.instruction)) else {
            return Err(if end < inside { NoDetour::CodeBehindJump } else { NoDetour::TooShort });
        };
        end += d.bytes.len();
    }
    Ok(bytes[..need].to_vec())
}

/// Functions that are moved as a whole have at most so many bytes afterwards.
const WHOLE: usize = 512;

/// All of the function from `site` on, for a function that branches into its first bytes. The
/// branches lead to the copies of their targets, and once in the copy, a thread stays there until
/// it leaves the function. That holds only if nothing else leads into the original code: no call,
/// which would return to it, no label for an indirect jump, no branch from elsewhere.
pub(crate) fn whole(
    f: &Function<'_>,
    site: usize,
    branches: &[Branch],
    options: &Options<'_>,
) -> Option<Window> {
    let text = Text { address: f.address, bytes: f.code };
    // What is behind it may be what it branches to, so the jump has to fit in it.
    let bytes = f.code.get(site..).filter(|b| (JUMP..=WHOLE).contains(&b.len()))?;
    let at = f.address.wrapping_add(site as u64);
    let mut starts = Vec::new();
    let mut relocated = 0;
    let mut end = site;
    let mut ended = false;
    while end < f.code.len() {
        let d = text.at(end)?;
        let i = &d.instruction;
        let behind = ended && is_padding(i);
        let hidden = i.flow_control() == FlowControl::IndirectBranch && ip_relative(i).is_none();
        if !behind && (!relocatable(&d) || i.is_call_near() || i.is_call_near_indirect() || hidden)
        {
            return None;
        }
        relocated += size(&d);
        if relocated > WHOLE {
            return None;
        }
        starts.push((end - site) as u64);
        end += d.bytes.len();
        ended = behind || ends_flow(i);
    }
    let inside = |address: u64| (1..bytes.len() as u64).contains(&address.wrapping_sub(at));
    let known = |address: u64| starts.binary_search(&address.wrapping_sub(at)).is_ok();
    let closed = branches
        .iter()
        .filter(|b| inside(b.to))
        .all(|b| b.kind == Kind::Jump && known(b.from) && known(b.to));
    let boundaries =
        starts.iter().filter(|&&s| s > 0 && s < JUMP as u64).map(|&s| s as u8).collect();
    let first = options.branch_targets.partition_point(|&to| to <= at);
    let reached = options.branch_targets.get(first).is_some_and(|&to| inside(to));
    (closed && !reached).then(|| Window { bytes: bytes.to_vec(), code: bytes.len(), boundaries })
}

/// Checks that control gets into the displaced bytes only through the first. `branches` are the
/// function's own.
pub(crate) fn entered_elsewhere(
    at: u64,
    window: &Window,
    branches: &[Branch],
    options: &Options<'_>,
) -> Result<(), NoDetour> {
    let inside = |address: u64| (1..JUMP as u64).contains(&address.wrapping_sub(at));
    for b in branches.iter().filter(|b| inside(b.to)) {
        // A branch of the window itself goes to the relocated copy.
        let own = b.from.wrapping_sub(at) < window.code as u64 && b.kind != Kind::Address;
        if !own || !window.boundaries.contains(&(b.to.wrapping_sub(at) as u8)) {
            return Err(NoDetour::BranchIntoWindow);
        }
    }
    let first = options.branch_targets.partition_point(|&to| to <= at);
    if options.branch_targets.get(first).is_some_and(|&to| inside(to)) {
        return Err(NoDetour::BranchTargetInWindow);
    }
    Ok(())
}

/// Checks that no restartable sequence is displaced.
pub(crate) fn outside_rseq(
    at: u64,
    window: &Window,
    options: &Options<'_>,
) -> Result<(), NoDetour> {
    let end = at.saturating_add(window.bytes.len() as u64);
    if options.rseq.iter().any(|r| r.start < end && r.end > at) {
        return Err(NoDetour::Rseq);
    }
    Ok(())
}
