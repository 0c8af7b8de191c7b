//! What is armed in the process, and the memory for it: under the engine's lock.

use crate::near::Near;
use crate::trampolines::Trampolines;
use crate::trap_table::Traps;
use alloc::boxed::Box;
use alloc::collections::BTreeMap;
use alloc::vec::Vec;
use core::ops::Range;
use patch::Body;

/// How code may be changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Patching {
    /// No thread is in the functions or on its way there: the process has one thread, or the
    /// library is just being loaded.
    Quiet,
    /// Threads run.
    Live,
}

/// Whether code is changed under running threads: never where somebody else writes.
pub(crate) fn is_live(patching: Option<Patching>) -> bool {
    cfg!(feature = "std") && patching == Some(Patching::Live)
}

/// What the engine's lock protects.
#[derive(Debug, Default)]
pub(crate) struct State {
    pub(crate) near: Near,
    pub(crate) trampolines: Trampolines,
    pub(crate) traps: Traps,
    /// By address of the probed instruction.
    pub(crate) sites: BTreeMap<u64, Site>,
}

/// What was done to a site. Kept after removal, for its stub is: arming again only writes the
/// patch.
#[derive(Clone, Debug)]
pub(crate) struct Site {
    pub(crate) index: u32,
    /// Code of the action and its cell, or none for consumers.
    pub(crate) action: (u32, u32),
    pub(crate) original: Vec<u8>,
    pub(crate) patch: Vec<u8>,
    /// First byte of the stub, for a detour.
    pub(crate) stub: Option<u64>,
    pub(crate) armed: bool,
    /// It will be, when the batch is complete that is being prepared.
    pub(crate) chosen: bool,
    /// It was armed, and is not any more: its consumers are those of then.
    pub(crate) stale: bool,
    /// The program may have taken its memory away, or made it unreadable.
    pub(crate) hidden: bool,
    /// Where, by what was found, the program branches to in the probe's window; none, if nobody
    /// looked for it here.
    #[cfg_attr(not(feature = "plan"), allow(dead_code, reason = "nobody looks for it"))]
    pub(crate) branch_targets: Option<Box<[u64]>>,
    /// The displaced instructions of a detour, and where the copy of each is.
    pub(crate) moved: Box<[(u64, u64)]>,
    /// Of the probe of a function that branches back to its first byte: where the branches are.
    /// They are sites of their own, with the same index, which count nothing.
    pub(crate) back: Box<[u64]>,
    /// Of the probe of a function whose returns are seen at its exits: where these are, as far as
    /// they are not displaced with the entry. Sites of their own, as `back`.
    pub(crate) exits: Option<Box<[u64]>>,
    /// A detour that made way for this one, which has another action, and what made way for that.
    pub(crate) spare: Option<Box<Site>>,
}

impl Site {
    /// It, with those that made way for it, as far as they may be used again.
    fn made_way(mut self) -> Option<Box<Self>> {
        // The branches that are led past a probe have its index.
        let again = self.stub.is_some() && self.back.is_empty();
        if again { Some(Box::new(self)) } else { self.spare.take() }
    }
}

/// Where the displaced instructions are, which are `original` from `site` on, when `body` lies at
/// `at`.
pub(crate) fn moved(site: u64, original: &[u8], at: u64, body: &Body) -> Box<[(u64, u64)]> {
    let window = site..site + original.len() as u64;
    let inside = body.steps.iter().filter(|step| step.start && window.contains(&step.original));
    inside.map(|step| (step.original, at + u64::from(step.offset))).collect()
}

/// [`Site::action`] of a branch that is led past a probe.
pub(crate) const PASSES_BY: (u32, u32) = (u32::MAX, 0);

/// [`Site::action`] of an exit of the function with that number.
pub(crate) fn exit_of(function: u32) -> (u32, u32) {
    (EXIT, function)
}

const EXIT: u32 = u32::MAX - 1;

/// Whether a site with this [`Site::action`] is a probe, and no part of one.
pub(crate) fn is_probe(action: (u32, u32)) -> bool {
    action.0 < EXIT
}

impl State {
    /// Puts a site in the place of one that is not armed, if there is one.
    pub(crate) fn put(&mut self, at: u64, site: Site) {
        let Some(old) = self.sites.insert(at, site) else { return };
        if let Some(new) = self.sites.get_mut(&at) {
            new.spare = old.made_way();
        }
    }

    /// Lets the site at an address, which is not armed, make way for one with this action that has
    /// made way for it before: the index of that.
    pub(crate) fn exchange(&mut self, at: u64, action: (u32, u32)) -> Option<u32> {
        let old = self.sites.get_mut(&at)?;
        let mut place = &mut old.spare;
        while place.as_ref()?.action != action {
            place = &mut place.as_mut()?.spare;
        }
        let mut found = place.take()?;
        *place = found.spare.take();
        let index = found.index;
        let old = core::mem::replace(old, *found);
        if let Some(new) = self.sites.get_mut(&at) {
            new.spare = old.made_way();
        }
        Some(index)
    }

    /// Lets the exits of a site that was exchanged for another take their places again.
    pub(crate) fn exchange_exits(&mut self, at: u64) {
        let Some(site) = self.sites.get(&at) else { return };
        let (action, exits) = (exit_of(site.index), site.exits.clone());
        for exit in exits.iter().flatten() {
            if self.sites.get(exit).is_some_and(|there| there.action != action) {
                self.exchange(*exit, action);
            }
        }
    }

    /// Whether a site that is armed, or is about to be, displaces some of these bytes.
    pub(crate) fn displaces(&self, bytes: &Range<u64>, new_from: u32) -> bool {
        self.others_displace(bytes, new_from, None)
    }

    /// As [`State::displaces`], but for the sites with number `own`.
    pub(crate) fn others_displace(
        &self,
        bytes: &Range<u64>,
        new_from: u32,
        own: Option<u32>,
    ) -> bool {
        // Functions that are moved as a whole are the longest.
        let near = self.sites.range(bytes.start.saturating_sub(LONGEST_WINDOW)..bytes.end);
        let taken = |(at, site): (&u64, &Site)| at + site.original.len() as u64 > bytes.start;
        let others = near.filter(|(_, s)| Some(s.index) != own);
        others.filter(|(_, s)| s.armed || s.chosen || s.index >= new_from).any(taken)
    }
}

/// Bytes that a site may displace.
pub(crate) const LONGEST_WINDOW: u64 = 512;
