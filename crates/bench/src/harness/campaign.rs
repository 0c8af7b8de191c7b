//! All contenders in all cases, repeat by repeat.

use super::entry::{Case, Entry, Role};
use super::meter::{Budget, Sample, measure};
use crate::line_transfer;
use crate::stats::Summary;
use std::io::{IsTerminal, Write};

/// How much to measure.
#[derive(Clone, Debug)]
pub struct Plan {
    /// Times each contender is measured in each case.
    pub repeats: usize,
    /// Operations between two looks at the stop flag.
    pub block: u64,
    /// When one measurement ends.
    pub budget: Budget,
    /// Only contenders whose name contains one of these; all if empty. Floor rows always run.
    pub only: Vec<String>,
}

impl Plan {
    fn wants<C>(&self, entry: &Entry<C>) -> bool {
        self.only.is_empty()
            || entry.role() == Role::Floor
            || self.only.iter().any(|part| entry.name().contains(part.as_str()))
    }
}

/// All measurements of one contender in one case.
#[derive(Clone, Debug, Default)]
pub struct Cell {
    /// One per repeat; `None` where the contender does not apply.
    pub samples: Vec<Option<Sample>>,
    /// Line transfer just before each sample, nanoseconds one way.
    pub transfer: Vec<Option<f64>>,
}

/// Results: `cells[case][entry]`.
pub struct Campaign {
    /// Contender names, as given.
    pub names: Vec<String>,
    /// Contender roles, as given.
    pub roles: Vec<Role>,
    /// Why a contender did not run.
    pub absent: Vec<Option<String>>,
    /// Threads of each case.
    pub threads: Vec<usize>,
    /// Title of each case.
    pub titles: Vec<String>,
    /// What was measured.
    pub cells: Vec<Vec<Cell>>,
    /// The row whose cost is taken off all others.
    pub subtract: Option<usize>,
}

impl Campaign {
    /// Measures. `what` names the campaign in the progress line on a terminal.
    pub fn run<C: Case>(what: &str, entries: &[Entry<C>], cases: &[C], plan: &Plan) -> Self {
        let cpus = crate::affinity::allowed().len();
        let mut cells: Vec<Vec<Cell>> =
            cases.iter().map(|_| vec![Cell::default(); entries.len()]).collect();
        for repeat in 0..plan.repeats {
            for (c, case) in cases.iter().enumerate() {
                progress(&format!(
                    "{what}: repeat {}/{}, {}",
                    repeat + 1,
                    plan.repeats,
                    case.title()
                ));
                for i in 0..entries.len() {
                    let e = (i + repeat) % entries.len();
                    let job = match &entries[e].make {
                        Ok(make) if plan.wants(&entries[e]) => make(case),
                        _ => None,
                    };
                    let contended = job.is_some() && case.threads() > 1;
                    let budget = match plan.budget {
                        Budget::Ops(total) => Budget::Ops((total / case.threads() as u64).max(1)),
                        time => time,
                    };
                    let cell = &mut cells[c][e];
                    cell.transfer.push(if contended && cpus > 1 {
                        line_transfer::measure()
                    } else {
                        None
                    });
                    cell.samples
                        .push(job.map(|job| measure(&job, case.threads(), plan.block, budget)));
                }
            }
        }
        progress("");
        Self {
            names: entries.iter().map(|e| e.name.clone()).collect(),
            roles: entries.iter().map(|e| e.role).collect(),
            absent: entries.iter().map(|e| e.make.as_ref().err().cloned()).collect(),
            threads: cases.iter().map(Case::threads).collect(),
            titles: cases.iter().map(Case::title).collect(),
            cells,
            subtract: None,
        }
    }

    /// The row of a contender.
    pub fn entry(&self, name: &str) -> Option<usize> {
        self.names.iter().position(|n| n == name)
    }

    /// CPU nanoseconds per operation, repeat by repeat, without the subtracted row's.
    pub fn cpu(&self, case: usize, entry: usize) -> Vec<Option<f64>> {
        let raw =
            |entry: usize| self.cells[case][entry].samples.iter().map(|s| s.map(|s| s.cpu_ns));
        match self.subtract {
            // A measurement without operations (not a number) stays one.
            Some(base) if base != entry => {
                let over = |(a, b): (Option<f64>, Option<f64>)| {
                    a.map(|a| a - b.unwrap_or(0.0)).map(|ns| if ns < 0.01 { 0.01 } else { ns })
                };
                raw(entry).zip(raw(base)).map(over).collect()
            }
            _ => raw(entry).collect(),
        }
    }

    /// The contender with the lowest median among those of `role`.
    pub fn best(&self, case: usize, role: Role) -> Option<usize> {
        (0..self.names.len())
            .filter(|&e| self.roles[e] == role && Some(e) != self.subtract)
            .filter_map(|e| Some((e, Summary::of(self.cpu(case, e).into_iter().flatten())?.median)))
            .min_by(|a, b| a.1.total_cmp(&b.1))
            .map(|(e, _)| e)
    }

    /// `a` in `case_a` over `b` in `case_b`, within each repeat.
    pub fn ratio(&self, case_a: usize, a: usize, case_b: usize, b: usize) -> Option<Summary> {
        Summary::of_ratios(&self.cpu(case_a, a), &self.cpu(case_b, b))
    }

    /// Like [`ratio`](Self::ratio) within one case and by name; `None` if one of the two is
    /// missing.
    pub fn ratio_of(&self, case: usize, a: &str, b: &str) -> Option<Summary> {
        self.ratio(case, self.entry(a)?, case, self.entry(b)?)
    }

    /// Line transfers seen in a case.
    pub fn transfer(&self, case: usize) -> Option<Summary> {
        Summary::of(
            self.cells[case].iter().flat_map(|cell| cell.transfer.iter().copied().flatten()),
        )
    }
}

/// One line on a terminal that overwrites itself; nothing elsewhere.
pub(crate) fn progress(line: &str) {
    let mut err = std::io::stderr();
    if err.is_terminal() {
        // A progress line that cannot be written is no reason to stop measuring.
        let _ = write!(err, "\r\x1b[2K{line}").and_then(|()| err.flush());
    }
}
