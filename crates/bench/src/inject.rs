//! `inject`: what a process notices of being entered while it runs, and how long that takes.
//!
//! A program with some threads and functions, of whose threads one does nothing but look how long
//! it did not run, is entered and left by `trapline stat -p`, and beside it, in the same run, by
//! gdb (which only attaches and detaches) and by Frida (an interceptor on each function). And
//! servers under load: requests per second while trapline is attached, when they were started under
//! it, and after it has left, over those of a bare one in the same round.

mod program;
mod servers;
mod tracer;

use crate::executable;
use crate::options::Options as Common;
use crate::programs::installed;
use crate::report::{Bound, Report, Sheet, Target};
use crate::scratch::Scratch;
use crate::stats::Summary;
use clap::Args;
use program::Program;
use servers::{Subject, Way};
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use tracer::{Round, Tracer};

/// Options of `inject`.
#[derive(Args, Clone, Debug)]
#[group(id = "inject")]
pub struct Options {
    /// What all benchmarks take; here `--threads` is of the program that is entered, and
    /// `--window-ms` the length of a server's load
    #[command(flatten)]
    pub common: Common,
    /// The executable to measure; else the workspace's own is built
    #[arg(long, value_name = "PATH")]
    pub trapline: Option<PathBuf>,
}

/// Threads and functions of the program.
const THREADS: [usize; 3] = [2, 20, 500];
const FUNCTIONS: [usize; 2] = [1, 3000];

/// Who enters a program of what size, and what came of it.
struct Case {
    tracer: Tracer,
    threads: usize,
    functions: usize,
    rounds: Vec<Round>,
    failures: BTreeSet<String>,
}

impl Case {
    fn name(&self) -> String {
        let functions = if self.functions == 1 { "function" } else { "functions" };
        let (threads, count) = (self.threads, self.functions);
        format!("{threads} threads, {count} {functions}, {}", self.tracer.label())
    }

    /// Once, on a program of its own. Whether that program watched at real-time priority.
    fn measure(&mut self, program: &Path) -> bool {
        let started = Program::start(program, self.threads);
        let real_time = started.as_ref().is_ok_and(|program| program.real_time);
        match started.and_then(|mut program| self.tracer.round(&mut program)) {
            Ok(round) => self.rounds.push(round),
            Err(why) => _ = self.failures.insert(why.to_string()),
        }
        real_time
    }

    fn summary(&self, value: impl Fn(&Round) -> Option<f64>) -> Option<Summary> {
        Summary::of(self.rounds.iter().filter_map(value))
    }
}

/// Measures and reports.
pub fn run(options: &Options) -> Report {
    let common = &options.common;
    let mut report = Report::new("inject");
    let repeats = common.repeats(15);
    report.settings = vec![format!("rounds {repeats}")];
    if common.quick {
        report.settings.push("QUICK: the figures mean little".to_owned());
    }
    report.notes = vec![
        "longest, sum: how long the thread that watches did not run (at one time; all gaps of more \
            than 20 us), of all that is done from the start of the command to the first count, and \
            from then to its end. It is one thread among those of the program, and a busy machine \
            is in it: so are the gaps of the clock itself"
            .to_owned(),
        "enter: from the start of `trapline stat -p PID -i 10ms` to the first report with a count; \
            for gdb, start to end; for Frida, from attach() to the first hit, without the start of \
            its interpreter. leave: from ^C to the end of the command"
            .to_owned(),
        "memory: what the process has more of than before; what stays is for the next time"
            .to_owned(),
        "per exec: not measured here".to_owned(),
    ];
    let trapline = executable::trapline(options.trapline.as_deref());
    if let Err(why) = &trapline {
        report.notes.push(format!("no trapline: {why}"));
    }
    let folder = match Scratch::new("inject") {
        Ok(folder) => folder,
        Err(why) => {
            report.notes.push(format!("no temporary directory: {why}"));
            return report;
        }
    };
    let (cases, missing) = processes(common, trapline.as_deref().ok(), &folder, repeats);
    report.notes.extend(missing);
    if !cases.is_empty() {
        report.sheets.extend([stood(&cases), times(&cases), memory(&cases)]);
        report.targets = goals(&cases);
    }
    for case in &cases {
        let name = case.name();
        report.notes.extend(case.failures.iter().map(|why| format!("FAILED: {name}: {why}")));
    }
    if let Ok(trapline) = &trapline {
        let (sheet, notes) = throughput(common, trapline, repeats.min(7));
        report.sheets.extend(sheet);
        report.notes.extend(notes);
    }
    report
}

fn wanted(common: &Common, name: &str) -> bool {
    common.only.is_empty() || common.only.iter().any(|part| name.contains(part.as_str()))
}

/// All cases, measured in rotating order; what is missing for some.
fn processes(
    common: &Common,
    trapline: Option<&Path>,
    folder: &Scratch,
    repeats: usize,
) -> (Vec<Case>, Vec<String>) {
    let mut missing = Vec::new();
    let mut tracers: Vec<Tracer> =
        trapline.map(|path| Tracer::Trapline(path.to_owned())).into_iter().collect();
    for (tracer, program) in [(Tracer::Gdb, "gdb"), (Tracer::Frida, "python3")] {
        if installed(program) {
            tracers.push(tracer);
        } else {
            missing.push(format!("{program} is not installed"));
        }
    }
    let usual = if common.quick { &THREADS[..2] } else { &THREADS[..] };
    let threads = if common.threads.is_empty() { usual.to_vec() } else { common.threads.clone() };
    let mut cases = Vec::new();
    let mut programs = Vec::new();
    for functions in FUNCTIONS {
        match program::compile(folder.path(), functions) {
            Ok(path) => programs.push((functions, path)),
            Err(why) => missing.push(why),
        }
    }
    for &threads in &threads {
        for &(functions, _) in &programs {
            let case = |tracer: &Tracer| {
                let (rounds, failures) = Default::default();
                Case {
                    tracer: tracer.clone(),
                    threads: threads.max(2),
                    functions,
                    rounds,
                    failures,
                }
            };
            let all = tracers.iter().filter(|tracer| tracer.arms() || functions == FUNCTIONS[0]);
            cases.extend(all.map(case).filter(|case| wanted(common, &case.name())));
        }
    }
    let mut real_time = true;
    for repeat in 0..repeats {
        let from = repeat % cases.len().max(1);
        let (first, last) = cases.split_at_mut(from);
        for case in last.iter_mut().chain(first) {
            let functions = case.functions;
            let program = programs.iter().find(|(count, _)| *count == functions);
            // What is not there is not there the next time.
            if let Some((_, program)) = program
                && !case.failures.contains(tracer::ABSENT)
            {
                real_time &= case.measure(program);
            }
        }
    }
    if !real_time {
        missing.push(
            "the thread that watches had no real-time priority: others' turns are in its \
            gaps"
                .to_owned(),
        );
    }
    (cases, missing)
}

/// Minimum, median and maximum, as far as there are some.
fn three(summary: Option<Summary>) -> [Option<f64>; 3] {
    [summary.map(|s| s.min), summary.map(|s| s.median), summary.map(|s| s.max)]
}

fn stood(cases: &[Case]) -> Sheet {
    let columns =
        ["enter: min", "median", "max", "sum", "leave: min", "median", "max", "sum", "rounds"];
    let title = "how long the program stands, ms: longest time (sum: median of all together)";
    let mut sheet = Sheet::new(title, &columns);
    for case in cases {
        let median = |value: fn(&Round) -> Option<f64>| case.summary(value).map(|s| s.median);
        let mut values = three(case.summary(|round| Some(round.entering.longest))).to_vec();
        values.push(median(|round| Some(round.entering.sum)));
        values.extend(three(case.summary(|round| Some(round.leaving?.longest))));
        values.push(median(|round| Some(round.leaving?.sum)));
        values.push(Some(case.rounds.len() as f64));
        let failed = if case.failures.is_empty() { "" } else { "some rounds FAILED, see notes" };
        sheet.row(&case.name(), values, failed);
    }
    sheet
}

fn times(cases: &[Case]) -> Sheet {
    let columns = ["enter: min", "median", "max", "leave: min", "median", "max"];
    let mut sheet = Sheet::new("time to the first count, and to leave, ms", &columns);
    for case in cases {
        let enter = three(case.summary(|round| Some(round.enter)));
        let leave = three(case.summary(|round| round.leave));
        sheet.row(&case.name(), [enter, leave].concat(), "");
    }
    sheet
}

fn memory(cases: &[Case]) -> Sheet {
    let columns = ["resident", "space", "left: resident", "space"];
    let mut sheet = Sheet::new("memory of the process, KiB more (medians)", &columns);
    for case in cases {
        let median = |value: fn(&Round) -> Option<f64>| case.summary(value).map(|s| s.median);
        let values = vec![
            median(|round| Some(round.entered?.resident)),
            median(|round| Some(round.entered?.size)),
            median(|round| Some(round.left.resident)),
            median(|round| Some(round.left.size)),
        ];
        sheet.row(&case.name(), values, "");
    }
    sheet
}

/// The longest time that the program stands, by threads, and with which functions that holds.
const GOALS: [(usize, usize, f64); 2] = [(20, 3000, 2.0), (500, 3000, 25.0)];

fn goals(cases: &[Case]) -> Vec<Target> {
    let goal = |(threads, functions, most): (usize, usize, f64)| {
        let is = |case: &&Case| {
            let ours = matches!(case.tracer, Tracer::Trapline(_));
            ours && (case.threads, case.functions) == (threads, functions)
        };
        let of = |round: &Round| {
            let leaving = round.leaving.map_or(0.0, |leaving| leaving.longest);
            Some(round.entering.longest.max(leaving))
        };
        let measured = cases.iter().find(is).and_then(|case| case.summary(of));
        let what = format!("stopped with {threads} threads and {functions} functions, ms");
        Target::new(what, Bound::AtMost(most), measured)
    };
    GOALS.into_iter().map(goal).collect()
}

/// Servers under load, each way once a round.
fn throughput(common: &Common, trapline: &Path, rounds: usize) -> (Option<Sheet>, Vec<String>) {
    let usual = if common.quick { 0.2 } else { 3.0 };
    let seconds = common.window_ms.map_or(usual, |ms| ms as f64 / 1e3);
    let columns = ["min", "median", "max", "median k/s", "rounds"];
    let title = "requests per second as a share of those of a bare server in the same round";
    let (mut sheet, mut notes) = (Sheet::new(title, &columns), Vec::new());
    for subject in Subject::ALL.into_iter().filter(|subject| wanted(common, subject.label())) {
        if let Some(program) = subject.programs().iter().find(|program| !installed(program)) {
            notes.push(format!("{program} is not installed"));
            continue;
        }
        let mut rates = [const { Vec::new() }; Way::ALL.len()];
        let mut failures = BTreeSet::new();
        for round in 0..rounds {
            for turn in 0..Way::ALL.len() {
                let index = (turn + round) % Way::ALL.len();
                let way = Way::ALL[index];
                let rate = subject.run(way, trapline, seconds);
                if let Err(why) = &rate {
                    failures.insert(format!("FAILED: {}, {}: {why}", subject.label(), way.label()));
                }
                rates[index].push(rate.ok());
            }
        }
        for (way, of) in Way::ALL.into_iter().zip(&rates) {
            let share = three(Summary::of_ratios(of, &rates[0]));
            let rate = Summary::of(of.iter().flatten().map(|rate| rate / 1e3)).map(|s| s.median);
            let measured = Some(of.iter().flatten().count() as f64);
            let values = share.into_iter().chain([rate, measured]).collect();
            sheet.row(&format!("{}, {}", subject.label(), way.label()), values, "");
        }
        notes.extend(failures);
    }
    ((!sheet.rows.is_empty()).then_some(sheet), notes)
}
