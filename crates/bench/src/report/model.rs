//! The report as data: the JSON, and the source of the text.

use super::sheet::Sheet;
use super::target::Target;
use crate::harness::{Campaign, Role};
use crate::line_transfer::NEAR_BELOW_NS;
use crate::machine::Machine;
use crate::stats::Summary;
use serde::Serialize;

/// A whole run.
#[derive(Clone, Debug, Serialize)]
pub struct Report {
    /// Subcommand.
    pub bench: String,
    /// Where and when.
    pub machine: Machine,
    /// Settings of the run, as `name = value`.
    pub settings: Vec<String>,
    /// Measured groups, each one table.
    pub groups: Vec<Group>,
    /// Other tables.
    pub sheets: Vec<Sheet>,
    /// What was to be reached.
    pub targets: Vec<Target>,
    /// How to read the tables.
    pub notes: Vec<String>,
}

impl Report {
    /// An empty report of this machine.
    pub fn new(bench: &str) -> Self {
        Self {
            bench: bench.to_owned(),
            machine: Machine::here(),
            settings: Vec::new(),
            groups: Vec::new(),
            sheets: Vec::new(),
            targets: Vec::new(),
            notes: Vec::new(),
        }
    }

    /// Appends a campaign's cases as groups; `prefix` goes before each title.
    pub fn add(&mut self, prefix: &str, campaign: &Campaign) {
        self.groups
            .extend((0..campaign.titles.len()).map(|case| Group::of(prefix, campaign, case)));
    }
}

/// All contenders of one case.
#[derive(Clone, Debug, Serialize)]
pub struct Group {
    /// What was done, and by how many threads.
    pub title: String,
    /// Threads that worked at once.
    pub threads: usize,
    /// One-way line transfer between the first two CPUs, just before each measurement; only for
    /// more than one thread.
    pub line_transfer_ns: Option<Summary>,
    /// One per contender.
    pub rows: Vec<Row>,
}

/// One contender in one case.
#[derive(Clone, Debug, Serialize)]
pub struct Row {
    /// The contender.
    pub name: String,
    /// What the row is for.
    pub role: Role,
    /// CPU nanoseconds per operation (without the subtracted row's).
    pub cpu_ns: Option<Summary>,
    /// The same before subtraction, where something was subtracted.
    pub raw_cpu_ns: Option<Summary>,
    /// Wall nanoseconds per operation of all threads together.
    pub wall_ns: Option<Summary>,
    /// `cpu_ns` over that of the best peer of the group, repeat by repeat.
    pub to_best_peer: Option<Summary>,
    /// `cpu_ns` over that of the best floor row of the group, repeat by repeat.
    pub to_floor: Option<Summary>,
    /// Refused operations per million.
    pub misses_per_million: f64,
    /// Why there are no numbers.
    pub absent: Option<String>,
    /// `cpu_ns` of each repeat.
    pub cpu_ns_runs: Vec<f64>,
}

impl Group {
    fn of(prefix: &str, campaign: &Campaign, case: usize) -> Self {
        let peer = campaign.best(case, Role::Peer);
        let floor = campaign.best(case, Role::Floor);
        let rows = (0..campaign.names.len()).filter_map(|entry| {
            let cell = &campaign.cells[case][entry];
            let absent = campaign.absent[entry].clone();
            let samples: Vec<_> = cell.samples.iter().flatten().collect();
            if samples.is_empty() && absent.is_none() {
                return None;
            }
            let runs: Vec<f64> = campaign.cpu(case, entry).into_iter().flatten().collect();
            let subtracted = campaign.subtract.is_some_and(|s| s != entry);
            let (ops, misses) = samples.iter().fold((0, 0), |(o, m), s| (o + s.ops, m + s.misses));
            Some(Row {
                name: campaign.names[entry].clone(),
                role: campaign.roles[entry],
                cpu_ns: Summary::of(runs.iter().copied()),
                raw_cpu_ns: if subtracted {
                    Summary::of(samples.iter().map(|s| s.cpu_ns))
                } else {
                    None
                },
                wall_ns: Summary::of(samples.iter().map(|s| s.wall_ns)),
                to_best_peer: peer.and_then(|p| campaign.ratio(case, entry, case, p)),
                to_floor: floor.and_then(|f| campaign.ratio(case, entry, case, f)),
                misses_per_million: if ops == 0 {
                    0.0
                } else {
                    misses as f64 * 1e6 / (ops + misses) as f64
                },
                absent,
                cpu_ns_runs: runs,
            })
        });
        Self {
            title: format!("{prefix}{}", campaign.titles[case]),
            threads: campaign.threads[case],
            line_transfer_ns: campaign.transfer(case),
            rows: rows.collect(),
        }
    }

    /// The cores' distance in words, if it was measured.
    pub fn distance(&self) -> Option<&'static str> {
        self.line_transfer_ns.map(|t| match (t.min < NEAR_BELOW_NS, t.max < NEAR_BELOW_NS) {
            (true, true) => "near",
            (false, false) => "far",
            _ if t.median < NEAR_BELOW_NS => "near, far at times",
            _ => "far, near at times",
        })
    }
}
