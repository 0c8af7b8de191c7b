//! What the command line has decided about functions of the objects that are loaded at the start,
//! for those that the agent probes for itself.

use crate::objects::Object;
use patch::{Decision, Decisions};
use uprobe::{Batch, Target};
use wire::Segment;

/// The bytes of all decisions, by object.
pub(crate) struct Plans<'o> {
    objects: Vec<(&'o Object, Vec<u8>)>,
}

impl<'o> Plans<'o> {
    /// Of those objects that the segment knows.
    pub(crate) fn of(segment: &Segment, objects: &'o [Object]) -> Self {
        let plans = |object: &'o Object| {
            let index = segment.find_object(&object.file)?;
            Some((object, segment.plans_of(index)))
        };
        Self { objects: objects.iter().filter_map(plans).collect() }
    }
}

/// Decisions to look up by an address in the process.
pub(crate) struct Decided<'p> {
    objects: Vec<(&'p Object, Decisions<'p>)>,
}

impl<'p> Decided<'p> {
    pub(crate) fn by(plans: &'p Plans<'_>) -> Self {
        let read = |(object, bytes): &'p (&Object, Vec<u8>)| (*object, Decisions::read(bytes));
        Self { objects: plans.objects.iter().map(read).collect() }
    }

    /// Adds the entry of a function to a batch, with what was decided for it, if anything was.
    pub(crate) fn add(&self, batch: &mut Batch<'_>, target: Target) {
        match self.decision(target.address) {
            Some(decision) => batch.add_decided(target, decision),
            None => batch.add(target),
        }
    }

    fn decision(&self, address: u64) -> Option<Decision> {
        let here = self.objects.iter().find(|(object, _)| object.range.contains(&address));
        let (object, decisions) = here?;
        decisions.find(address.wrapping_sub(object.base), 0, object.base)
    }
}
