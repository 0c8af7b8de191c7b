//! One cell of a table: a scheme with so many threads on a machine.
//!
//! Each cell runs in a process of its own. The crates' statics (the registries of threads, RCU's
//! own domain) are those of a process, so what a cell finds would depend on those before it.

use crate::load::Load;
use crate::machines::machine;
use crate::schemes::scheme;
use coresim::{Picoseconds, Report, Simulation};
use std::collections::BTreeMap;
use std::fmt;
use std::io;
use std::process::Command;

/// What to run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cell {
    /// A name of [`machines`](crate::machines).
    pub machine: String,
    /// A name of [`SCHEMES`](crate::schemes::SCHEMES).
    pub scheme: String,
    /// How many threads; the machine grows where they are more than its CPUs, if it is one that
    /// grows.
    pub threads: usize,
    /// Work in each operation.
    pub work: Picoseconds,
    /// What is random.
    pub seed: u64,
}

/// What a cell found.
#[derive(Clone, Debug, PartialEq)]
pub struct Outcome {
    /// Nanoseconds that one CPU needs for one operation.
    pub nanoseconds: f64,
    /// Millions of operations a second, all threads together.
    pub millions: f64,
    /// Operations that were measured.
    pub operations: u64,
    /// Accesses that were simulated, in all attempts.
    pub accesses: u64,
    /// Part of the CPUs' time that was lost by the operation that lost most.
    pub lost: f64,
    /// That operation, where it is in the source, and on how many lines. Empty: nothing was lost.
    pub stopper: String,
}

/// The longest span, but for those that need it to have all of a scheme inside.
const LONGEST_SPAN: Picoseconds = 16_000_000_000;
/// So many operations have to be measured, and so many for each thread.
const OPERATIONS: u64 = 1_000;
const EACH: u64 = 2;

impl Cell {
    /// Runs it here: with longer and longer spans, until enough is measured.
    ///
    /// # Panics
    /// There is no such scheme or machine.
    pub fn run(&self) -> Outcome {
        let scheme = scheme(&self.scheme).expect("a scheme of that name");
        let machine = machine(&self.machine).expect("a machine of that name").with(self.threads);
        let simulation = Simulation::new(machine).seed(self.seed);
        let (mut span, mut accesses) = (scheme.shortest, 0);
        loop {
            let Self { threads, work, .. } = *self;
            let run = (scheme.run)(&Load { simulation: &simulation, threads, work, span });
            accesses += run.report.accesses;
            let enough = run.operations >= OPERATIONS.max(EACH * self.threads as u64);
            if !enough && span < LONGEST_SPAN {
                span *= 4;
                continue;
            }
            // What is counted begins before the span.
            let time = (span / 4 * 5) as f64 * run.cpus as f64;
            let stopper = stopper(&run.report);
            return Outcome {
                nanoseconds: run.nanoseconds(),
                millions: run.per_second() / 1e6,
                operations: run.operations,
                accesses,
                lost: stopper.as_ref().map_or(0.0, |(_, lost)| *lost as f64 / time),
                stopper: stopper.map_or_else(String::new, |(what, _)| what),
            };
        }
    }

    /// Runs it in a process of its own, which `child` starts.
    ///
    /// # Errors
    /// The process cannot be started, or fails, or says something else.
    pub fn run_apart(&self, child: &Child) -> io::Result<Outcome> {
        let mut command = Command::new(&child.program);
        command.args(&child.arguments).args(self.arguments());
        let output = command.output()?;
        let text = String::from_utf8_lossy(&output.stdout);
        let outcome = if output.status.success() { Outcome::parse(&text) } else { None };
        outcome.ok_or_else(|| {
            let why = String::from_utf8_lossy(&output.stderr);
            io::Error::other(format!("{self}: {}: {text}{why}", output.status))
        })
    }

    fn arguments(&self) -> [String; 5] {
        let Self { machine, scheme, threads, work, seed } = self;
        [machine.clone(), scheme.clone(), threads.to_string(), work.to_string(), seed.to_string()]
    }

    /// The cell that a process was started for.
    pub fn of_arguments(arguments: &[String]) -> Option<Self> {
        let [machine, scheme, threads, work, seed] = arguments else { return None };
        Some(Self {
            machine: machine.clone(),
            scheme: scheme.clone(),
            threads: threads.parse().ok()?,
            work: work.parse().ok()?,
            seed: seed.parse().ok()?,
        })
    }
}

impl fmt::Display for Cell {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} with {} threads on {}", self.scheme, self.threads, self.machine)
    }
}

/// How a process is started that calls [`child_main`] with what comes behind the arguments.
#[derive(Clone, Debug)]
pub struct Child {
    /// The program.
    pub program: std::path::PathBuf,
    /// What comes before the cell.
    pub arguments: Vec<String>,
}

/// Runs the cell that the arguments say, and prints what it found. False: they say none.
pub fn child_main(arguments: &[String]) -> bool {
    let Some(cell) = Cell::of_arguments(arguments) else { return false };
    println!("{}", cell.run());
    true
}

impl Outcome {
    fn parse(text: &str) -> Option<Self> {
        let mut fields = text.trim_end_matches('\n').split('\t');
        Some(Self {
            nanoseconds: fields.next()?.parse().ok()?,
            millions: fields.next()?.parse().ok()?,
            operations: fields.next()?.parse().ok()?,
            accesses: fields.next()?.parse().ok()?,
            lost: fields.next()?.parse().ok()?,
            stopper: fields.next()?.to_owned(),
        })
    }
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { nanoseconds, millions, operations, accesses, lost, stopper } = self;
        write!(f, "{nanoseconds}\t{millions}\t{operations}\t{accesses}\t{lost}\t{stopper}")
    }
}

/// The operation that lost most time, on all its lines, and how much. `None`: none was lost.
fn stopper(report: &Report) -> Option<(String, Picoseconds)> {
    let mut by_place: BTreeMap<(&str, &str), (Picoseconds, usize)> = BTreeMap::new();
    for site in report.lines.iter().flat_map(|line| &line.sites) {
        let (lost, lines) = by_place.entry((&site.place, site.operation)).or_default();
        *lost += site.counts.lost();
        *lines += usize::from(site.counts.lost() > 0);
    }
    let ((place, operation), (lost, lines)) =
        by_place.into_iter().max_by_key(|(_, (lost, _))| *lost)?;
    let plural = if lines == 1 { "" } else { "s" };
    let what = format!("{operation} at {} on {lines} line{plural}", short(place));
    (lost > 0).then_some((what, lost))
}

/// A place in the source without the way to it.
fn short(place: &str) -> &str {
    let from = place.rfind("../").map_or(0, |at| at + 3);
    place[from..].strip_prefix("crates/").unwrap_or(&place[from..])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_process_says_is_what_it_found() {
        let outcome = Outcome {
            nanoseconds: 1.25,
            millions: 800.0,
            operations: 7,
            accesses: 9,
            lost: 0.5,
            stopper: "load at objpool/src/lists/cas_lifo.rs:120".to_owned(),
        };
        assert_eq!(Outcome::parse(&format!("{outcome}\n")), Some(outcome));
        assert_eq!(Outcome::parse("1\t2"), None);
    }

    #[test]
    fn places_are_short() {
        assert_eq!(
            short("crates/scale/simulated/objpool/../../../objpool/src/raw.rs:7"),
            "objpool/src/raw.rs:7"
        );
        assert_eq!(
            short("crates/scale/src/schemes/readers.rs:3"),
            "scale/src/schemes/readers.rs:3"
        );
    }
}
