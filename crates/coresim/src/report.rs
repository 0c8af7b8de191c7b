//! What a simulation leaves.

use crate::machine::Picoseconds;
use crate::statistics::{Counts, Site};
use crate::world::World;
use std::fmt;

/// What happened on the machine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Report {
    /// When the last thread ended.
    pub elapsed: Picoseconds,
    /// Accesses to lines.
    pub accesses: u64,
    /// How often a CPU went to another thread.
    pub switches: u64,
    /// How often a running thread went to another CPU.
    pub migrations: u64,
    /// All lines that were touched; first those that cost most time.
    pub lines: Vec<LineReport>,
}

/// What happened to a line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LineReport {
    /// What the program calls it ([`name`](crate::name)), else its number in the order of first
    /// accesses.
    pub name: String,
    /// All accesses.
    pub counts: Counts,
    /// The same by the code that made them; first what cost most time.
    pub sites: Vec<SiteReport>,
}

/// What a place in the source did to a line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SiteReport {
    /// The method.
    pub operation: &'static str,
    /// Where it is called: file and line.
    pub place: String,
    /// What it cost.
    pub counts: Counts,
}

impl Report {
    /// The line on which most time was lost to other CPUs. `None`: none was lost.
    pub fn bottleneck(&self) -> Option<&LineReport> {
        self.lines.first().filter(|line| line.counts.lost() > 0)
    }

    /// The line of this name.
    pub fn line(&self, name: &str) -> Option<&LineReport> {
        self.lines.iter().find(|line| line.name == name)
    }

    pub(crate) fn of(world: &World) -> Self {
        let entries = world.memory.entries().iter().enumerate();
        let mut lines: Vec<_> = entries
            .map(|(place, entry)| LineReport::of(world.memory.name_of(place), entry.sites.iter()))
            .collect();
        // Stable: lines that cost the same stay in the order of their first accesses.
        lines.sort_by_key(|line| std::cmp::Reverse(line.counts.lost()));
        Self {
            elapsed: world.scheduler.ended_at(),
            accesses: world.accesses,
            switches: world.scheduler.switches,
            migrations: world.scheduler.migrations,
            lines,
        }
    }
}

impl LineReport {
    fn of<'a>(name: String, sites: impl Iterator<Item = &'a Site>) -> Self {
        let mut counts = Counts::default();
        let mut by_place: Vec<SiteReport> = Vec::new();
        for Site { location, operation, counts: theirs } in sites {
            counts.add(*theirs);
            // The compiler may have made several of one place.
            let place = format!("{}:{}", location.file(), location.line());
            let known = by_place.iter_mut().find(|s| s.operation == *operation && s.place == place);
            match known {
                Some(site) => site.counts.add(*theirs),
                None => by_place.push(SiteReport { operation, place, counts: *theirs }),
            }
        }
        by_place.sort_by_key(|site| std::cmp::Reverse(site.counts.lost()));
        Self { name, counts, sites: by_place }
    }
}

impl fmt::Display for LineReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.name)?;
        match self.sites.first() {
            Some(site) => write!(f, ": {} at {}", site.operation, site.place),
            None => Ok(()),
        }
    }
}
