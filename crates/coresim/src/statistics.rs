//! What was done to a line, and by which code.

use crate::machine::Picoseconds;
use std::panic::Location;

/// Accesses of one place in the source to one line.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Site {
    pub(crate) location: &'static Location<'static>,
    pub(crate) operation: &'static str,
    pub(crate) counts: Counts,
}

/// What accesses cost.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Accesses.
    pub accesses: u64,
    /// Accesses for which the line had to come from elsewhere.
    pub transfers: u64,
    /// The time that CPUs waited until the line was theirs: until the request was where the line
    /// was, and others had had it.
    pub waited: Picoseconds,
    /// The time that the line was under way after that.
    pub moved: Picoseconds,
}

impl Counts {
    /// The time that CPUs lost: waiting, and while the line was under way.
    pub fn lost(&self) -> Picoseconds {
        self.waited + self.moved
    }

    pub(crate) fn add(&mut self, other: Self) {
        self.accesses += other.accesses;
        self.transfers += other.transfers;
        self.waited += other.waited;
        self.moved += other.moved;
    }
}

/// The places that use a line: few, so a search from the front.
#[derive(Debug, Default)]
pub(crate) struct Sites(Vec<Site>);

impl Sites {
    pub(crate) fn count(
        &mut self,
        location: &'static Location<'static>,
        operation: &'static str,
        counts: Counts,
    ) {
        let known = self.0.iter_mut().find(|site| {
            std::ptr::eq(site.location, location) && std::ptr::eq(site.operation, operation)
        });
        match known {
            Some(site) => site.counts.add(counts),
            None => self.0.push(Site { location, operation, counts }),
        }
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = &Site> {
        self.0.iter()
    }
}
