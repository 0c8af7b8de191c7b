//! `cost`: CPU time and memory of the command line itself.
//!
//! `probe` and `redis` say what a program pays for being traced. Here it is the process of the
//! tracer: reading symbols and planning at the start, collecting while the program runs, writing a
//! report or a recording in the end. What the traced program uses is not in it (`own`) but beside
//! it, with what entering it costs: a shell that executes fifty programs shows that. There are
//! peers: uftrace, which records every call, too, and perf, which samples.

mod own;
mod subject;

use crate::executable;
use crate::options::Options as Common;
use crate::programs::installed;
use crate::report::{Report, Sheet};
use crate::scratch::Scratch;
use crate::stats::Summary;
use clap::Args;
use own::Own;
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;
use subject::Subject;

/// Options of `cost`.
#[derive(Args, Clone, Debug)]
#[group(id = "cost")]
pub struct Options {
    /// What all benchmarks take; here `--threads` and `--window-ms` mean nothing
    #[command(flatten)]
    pub common: Common,
    /// The executable to measure; else the workspace's own is built
    #[arg(long, value_name = "PATH")]
    pub trapline: Option<PathBuf>,
}

/// No run takes longer.
const LIMIT: Duration = Duration::from_secs(300);

/// One command of a chain, measured alone.
struct Step {
    row: String,
    program: PathBuf,
    arguments: Vec<String>,
    runs: Vec<Own>,
    failures: BTreeSet<String>,
}

/// Commands that follow each other in one directory: a report needs its recording.
type Chain = Vec<Step>;

/// Measures and reports.
pub fn run(options: &Options) -> Report {
    let common = &options.common;
    let repeats = common.repeats(5);
    let mut report = Report::new("cost");
    report.settings = vec![format!("repeats {repeats}")];
    if common.quick {
        report.settings.push("QUICK: the figures mean little".to_owned());
    }
    report.notes = vec![
        "CPU: user and system time of all threads of the tracer's own process, from its exec to \
            its end, by its CPU clock; without the programs that it starts"
            .to_owned(),
        "peak: VmHWM of the tracer's own process where it ends; memory that it shares with the \
            program counts as far as it has touched it"
            .to_owned(),
        "children: CPU time of the processes that it started and waited for, and of theirs: the \
            traced program's own is in it. `bare`: the program itself, without a tracer"
            .to_owned(),
        "perf samples by the CPU clock, with frame pointers; what it does not see costs it nothing"
            .to_owned(),
    ];
    let sources = match Scratch::new("cost") {
        Ok(dir) => dir,
        Err(why) => {
            report.notes.push(format!("no temporary directory: {why}"));
            return report;
        }
    };
    let (subjects, missing) = subject::all(sources.path(), common.quick);
    report.notes.extend(missing);
    let trapline = executable::trapline(options.trapline.as_deref());
    if let Err(why) = &trapline {
        report.notes.push(format!("no trapline: {why}"));
    }
    for peer in ["uftrace", "perf"] {
        if !installed(peer) {
            report.notes.push(format!("{peer} is not installed"));
        }
    }
    let wanted = |chain: &Chain| {
        common.only.is_empty()
            || chain.iter().any(|step| common.only.iter().any(|part| step.row.contains(part)))
    };
    let mut chains: Vec<Chain> = chains(trapline.ok().as_deref(), &subjects);
    chains.retain(wanted);
    for repeat in 0..repeats {
        let from = repeat % chains.len().max(1);
        let (first, last) = chains.split_at_mut(from);
        for chain in last.iter_mut().chain(first) {
            measure(chain);
        }
    }
    report.sheets.push(sheet(&chains));
    for step in chains.iter().flatten() {
        report.notes.extend(step.failures.iter().map(|why| format!("FAILED: {}: {why}", step.row)));
    }
    report
}

/// Runs a chain once, as far as it goes well.
fn measure(chain: &mut Chain) {
    let dir = match Scratch::new("cost") {
        Ok(dir) => dir,
        Err(why) => {
            chain.iter_mut().for_each(|step| {
                step.failures.insert(why.to_string());
            });
            return;
        }
    };
    for step in chain {
        let mut command = Command::new(&step.program);
        command.args(&step.arguments).current_dir(dir.path());
        match own::run(&mut command, LIMIT) {
            Ok(own) => step.runs.push(own),
            Err(why) => {
                step.failures.insert(why);
                break;
            }
        }
    }
}

/// What trapline and its peers do with each subject; `{subject}, {tracer} {verb}` are the rows.
fn chains(trapline: Option<&Path>, subjects: &[Subject]) -> Vec<Chain> {
    let mut chains = Vec::new();
    // What the programs themselves take is among the children of those that start them.
    let mut seen = BTreeSet::new();
    for subject in subjects.iter().filter(|subject| seen.insert(subject.program.clone())) {
        let name = subject.name.split(',').next().unwrap_or(&subject.name);
        let arguments = subject.arguments.clone();
        chains.push(vec![step(format!("{name}, bare"), &subject.program, arguments)]);
    }
    if let Some(trapline) = trapline {
        for subject in subjects {
            let run = |head: &[&str]| {
                let mut arguments: Vec<String> = head.iter().map(|&a| a.to_owned()).collect();
                arguments.extend([subject.spec, "--"].map(str::to_owned));
                arguments.extend(traced(subject));
                arguments
            };
            let step = |verb: &str, arguments| {
                step(format!("{}, trapline {verb}", subject.name), trapline, arguments)
            };
            let report = ["report", "recording.tlp"].map(str::to_owned).to_vec();
            chains.push(vec![step("stat", run(&["stat", "-o", "report.txt"]))]);
            chains.push(vec![
                step("record", run(&["record", "-o", "recording.tlp"])),
                step("report", report),
            ]);
        }
        let list = ["list", "libc.so.6:*"].map(str::to_owned).to_vec();
        chains.push(vec![step("all of libc, trapline list".to_owned(), trapline, list)]);
    }
    for (peer, record, report) in [
        (
            "uftrace",
            &["record", "--no-pager", "--no-event", "-P", ".", "-d", "recording"][..],
            &["report", "--no-pager", "-d", "recording"][..],
        ),
        (
            "perf",
            &["record", "-q", "-e", "cpu-clock", "-g", "-o", "recording", "--"],
            &["report", "--stdio", "-i", "recording"],
        ),
    ] {
        if !installed(peer) {
            continue;
        }
        // A program's second row differs in probes that these do not have.
        let mut seen = BTreeSet::new();
        for subject in subjects.iter().filter(|subject| seen.insert(subject.program.clone())) {
            let owned = |list: &[&str]| list.iter().map(|&a| a.to_owned()).collect::<Vec<_>>();
            let name = subject.name.split(',').next().unwrap_or(&subject.name);
            let mut first = owned(record);
            first.extend(traced(subject));
            chains.push(vec![
                step(format!("{name}, {peer} record"), Path::new(peer), first),
                step(format!("{name}, {peer} report"), Path::new(peer), owned(report)),
            ]);
        }
    }
    chains
}

fn step(row: String, program: &Path, arguments: Vec<String>) -> Step {
    let (runs, failures) = (Vec::new(), BTreeSet::new());
    Step { row, program: program.to_owned(), arguments, runs, failures }
}

fn traced(subject: &Subject) -> impl Iterator<Item = String> {
    std::iter::once(subject.program.display().to_string()).chain(subject.arguments.iter().cloned())
}

fn sheet(chains: &[Chain]) -> Sheet {
    let columns =
        ["CPU ms min", "median", "max", "peak MiB min", "median", "max", "children ms", "runs"];
    let mut sheet = Sheet::new("the tracer's own process: CPU time and peak memory", &columns);
    for step in chains.iter().flatten() {
        let of = |value: fn(&Own) -> f64| Summary::of(step.runs.iter().map(value));
        let (cpu, peak) = (of(|own| own.cpu_ms), of(|own| own.peak_kib / 1024.0));
        let values = vec![
            cpu.map(|s| s.min),
            cpu.map(|s| s.median),
            cpu.map(|s| s.max),
            peak.map(|s| s.min),
            peak.map(|s| s.median),
            peak.map(|s| s.max),
            of(|own| own.children_ms).map(|s| s.median),
            Some(step.runs.len() as f64),
        ];
        let remark = if step.failures.is_empty() { "" } else { "some runs FAILED, see notes" };
        sheet.row(&step.row, values, remark);
    }
    sheet
}
