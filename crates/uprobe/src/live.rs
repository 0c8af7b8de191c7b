//! Writing patches: all at once where nobody runs, step by step where threads do.
//!
//! Under running threads: `int3` over the first byte, a barrier, the other bytes, a barrier, the
//! first byte, a barrier; a barrier serves all sites of a batch. A thread that meets the `int3` is
//! sent to the stub by the trap handler. A thread that was asleep at a boundary between displaced
//! instructions wakes in the displacement of the jump, which traps there by the choice of the
//! trampoline's address, and is sent to the relocated instruction.
#![allow(unsafe_code)]

use crate::Refusal;
use crate::site_table;
use crate::sites::{Patching, State, is_probe};
use crate::sync_core::{self, sync_core};
use crate::text::Text;
use alloc::vec::Vec;

const INT3: u8 = 0xcc;
const PAGE: u64 = 4096;

/// Bytes to put at an address in place of others of the same length.
#[derive(Debug)]
struct Change {
    at: u64,
    bytes: Vec<u8>,
}

/// Writes the patches of these sites, whose stubs are ready and whose traps are known. When one
/// cannot be written, none stays.
pub(crate) fn arm(
    state: &mut State,
    sites: &[u64],
    patching: Patching,
    text: &Text,
) -> Result<(), Refusal> {
    // Exits first: what is seen to enter is seen to leave.
    let changes: Vec<_> = in_order(state, sites, false)
        .iter()
        .filter_map(|at| state.sites.get(at).map(|s| Change { at: *at, bytes: s.patch.clone() }))
        .collect();
    if let Err(why) = write(&changes, patching, text) {
        // What could not be written cannot be written back either, and has not changed.
        let _ = write(&originals(state, sites), patching, text);
        return Err(why);
    }
    for at in sites {
        if let Some(site) = state.sites.get_mut(at) {
            site.armed = true;
            site_table::site(site.index).note_armed(true);
        }
    }
    Ok(())
}

/// Puts the original bytes of these sites back.
pub(crate) fn restore(
    state: &mut State,
    sites: &[u64],
    patching: Patching,
    text: &Text,
) -> Result<(), Refusal> {
    write(&originals(state, sites), patching, text)?;
    for at in sites {
        if let Some(site) = state.sites.get_mut(at) {
            (site.armed, site.stale) = (false, true);
            site_table::site(site.index).note_armed(false);
            state.traps.withdraw(*at);
        }
    }
    Ok(())
}

/// The sites with the probes before what belongs to them, or behind.
fn in_order(state: &State, sites: &[u64], probes_first: bool) -> Vec<u64> {
    let probe = |at: &&u64| state.sites.get(at).is_some_and(|site| is_probe(site.action));
    let (probes, parts): (Vec<&u64>, Vec<&u64>) = sites.iter().partition(probe);
    let (first, then) = if probes_first { (probes, parts) } else { (parts, probes) };
    first.into_iter().chain(then).copied().collect()
}

fn originals(state: &State, sites: &[u64]) -> Vec<Change> {
    let original = |at: &u64| {
        state.sites.get(at).map(|s| Change { at: *at, bytes: s.original[..s.patch.len()].to_vec() })
    };
    // Nobody is seen to enter any more before nobody is seen to leave.
    in_order(state, sites, true).iter().filter_map(original).collect()
}

fn write(changes: &[Change], patching: Patching, text: &Text) -> Result<(), Refusal> {
    if patching == Patching::Quiet {
        let merged = by_page(changes);
        let done = merged.iter().filter(|c| !text.write(c.at, &c.bytes)).count() == 0;
        return if done { Ok(()) } else { Err(Refusal::NotWritable) };
    }
    if !sync_core::available() {
        return Err(Refusal::NoSyncCore);
    }
    let long = || changes.iter().filter(|c| c.bytes.len() > 1);
    if long().next().is_some() {
        put(long().map(|c| (c.at, &[INT3][..])), text)?;
        sync_core();
        put(long().map(|c| (c.at + 1, &c.bytes[1..])), text)?;
        sync_core();
    }
    put(changes.iter().map(|c| (c.at, &c.bytes[..1])), text)?;
    sync_core();
    Ok(())
}

/// One change for each page instead of many: with what is there between them. Each write costs a
/// system call.
fn by_page(changes: &[Change]) -> Vec<Change> {
    let mut sorted: Vec<&Change> = changes.iter().collect();
    sys::sort::by_key(&mut sorted, |change| change.at);
    let mut merged: Vec<Change> = Vec::new();
    for change in sorted {
        let end = |change: &Change| change.at + change.bytes.len() as u64;
        match merged.last_mut() {
            Some(last) if last.at / PAGE == (end(change) - 1) / PAGE && end(last) <= change.at => {
                // SAFETY: code between two sites of one page, which is mapped for both; whoever
                // else changes code holds the engine's lock, as we do.
                let between = unsafe {
                    core::slice::from_raw_parts(
                        core::ptr::with_exposed_provenance::<u8>(end(last) as usize),
                        (change.at - end(last)) as usize,
                    )
                };
                last.bytes.extend_from_slice(between);
                last.bytes.extend_from_slice(&change.bytes);
            }
            _ => merged.push(Change { at: change.at, bytes: change.bytes.clone() }),
        }
    }
    merged
}

/// Writes all that can be written, for a batch may be taken back by the same steps.
fn put<'a>(writes: impl Iterator<Item = (u64, &'a [u8])>, text: &Text) -> Result<(), Refusal> {
    let failed = writes.filter(|(at, bytes)| !text.write(*at, bytes)).count();
    if failed == 0 { Ok(()) } else { Err(Refusal::NotWritable) }
}
