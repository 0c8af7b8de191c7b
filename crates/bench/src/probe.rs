//! `probe`: what a hit of a probe costs, by method, beside the kernel's uprobes and uftrace on the
//! same functions.
//!
//! After the kernel's trigger benchmark (`tools/testing/selftests/bpf/benchs/bench_trigger.c`): a
//! loop calls one tiny function, bare or probed; what a row shows is the CPU time per call without
//! that of the bare call, measured in the same repeat. Each measurement arms the probe, calls,
//! compares the calls with what was counted, and takes the probe away again.

mod arming;
mod blocks;
mod bpftrace;
mod case;
mod chain;
mod check;
mod copies;
mod first_sight;
mod floors;
mod functions;
mod kernel;
mod ours;
mod slots;
mod stacks;
mod targets;
mod trap;
mod uftrace;
mod village;

pub use case::{Kind, ProbeCase};
pub use functions::{FUNCTIONS, Function};

use crate::harness::Campaign;
use crate::options::Options as Common;
use crate::report::Report;
use crate::{executable, startup};
pub use arming::{ArmOnce, arm_once};
use check::Checks;
use clap::Args;
use std::path::PathBuf;
use std::time::Duration;

/// Options of `probe`.
#[derive(Args, Clone, Debug)]
#[group(id = "probe")]
pub struct Options {
    /// What all benchmarks take; `--only` may also name the tables `arming` and `startup`
    #[command(flatten)]
    pub common: Common,
    /// The executable whose start-up is measured; else the workspace's own is built
    #[arg(long, value_name = "PATH")]
    pub trapline: Option<PathBuf>,
    /// Hits that take their call stack, instead of all the others
    #[arg(long)]
    pub stack: bool,
}

/// Measures and reports.
pub fn run(options: &Options) -> Report {
    if options.stack {
        return stacks::run(&options.common);
    }
    let trapline = executable::trapline(options.trapline.as_deref());
    let options = &options.common;
    let plan = options.plan(9, 500, Duration::from_millis(20));
    let threads = options.thread_list(&[1, 2]);
    let checks = Checks::default();

    let floor_cases: Vec<_> = threads.iter().map(|&n| floors::Floor(n)).collect();
    let floors = Campaign::run("probe floors", &floors::single(), &floor_cases, &plan);

    let mut entries = floors::contenders();
    entries.extend(ours::contenders(&checks));
    entries.extend(kernel::contenders(&checks));
    entries.extend(bpftrace::contenders(&checks, kernel::permitted() && !options.quick));
    entries.extend(uftrace::contenders(options.quick, &checks));
    let mut cases = Vec::new();
    for kind in [Kind::Entry, Kind::Return, Kind::Histogram, Kind::Breakpoint] {
        for function in 0..FUNCTIONS.len() {
            cases.extend(threads.iter().map(|&threads| ProbeCase { kind, function, threads }));
        }
    }
    let mut campaign = Campaign::run("probe", &entries, &cases, &plan);
    campaign.subtract = campaign.entry(floors::BARE);

    let slot_cases = slots::cases(&threads);
    let slots = Campaign::run("probe slots", &slots::contenders(&checks), &slot_cases, &plan);

    let wanted = |table: &str| {
        options.only.is_empty() || options.only.iter().any(|part| table.contains(part.as_str()))
    };
    let arming = wanted("arming").then(|| arming::measure(options.quick, &checks));
    let startup = match &trapline {
        Ok(path) if wanted("startup") => Some(startup::measure(path, options)),
        Ok(_) => None,
        Err(why) => {
            checks.say(format!("no start-up costs: {why}"));
            None
        }
    };
    let mut report = Report::new("probe");
    report.settings = options.describe(&plan);
    report.add("", &floors);
    report.add("", &campaign);
    report.add("", &slots);
    report.targets = targets::judge(&campaign, &cases);
    report.targets.extend(slots::targets(&slots, &slot_cases));
    for (sheet, targets) in arming.into_iter().chain(startup) {
        report.sheets.push(sheet);
        report.targets.extend(targets);
    }
    report.notes =
        vec![
        "ns of CPU time per hit over the bare call of the same repeat, all threads together; \
            `raw`: with the call".to_owned(),
        "every measurement compares the hits that were counted with the calls that were made; \
            what differs is listed here".to_owned(),
        kernel::SINGLE_STEP_NOTE.to_owned(),
        "kernel pair: start time per thread in a hash map, overwritten in place; 64 buckets in a \
            per-CPU array; `bpftrace` is its own compiler's programs, on the push-first function \
            only"
            .to_owned(),
        "uftrace writes 32 bytes per call; its threads that write them to disk are not in its \
            figure".to_owned(),
    ];
    report.notes.extend(checks.lines());
    report
}
