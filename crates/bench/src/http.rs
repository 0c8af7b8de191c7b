//! `http`: references to one hot object in a server under load.
//!
//! A hyper server whose requests take and give back 1, 4 or 16 references to a configuration that
//! is replaced a hundred times a second, with each of our schemes and each peer in its place; asked
//! by wrk and by clients in this process. And nginx under trapline: what probes cost a server of
//! many workers. The same handler runs on the model: `trapline-bench scale http hits`.

mod config;
// The same source as on the model, where it is public.
#[allow(unreachable_pub)]
#[path = "../../scale/src/held.rs"]
mod held;
mod load;
mod options;
mod peers;
mod probed;
mod process;
mod server;
mod setting;
mod targets;

use crate::harness::progress;
use crate::options::Options as Common;
use crate::programs::installed;
use crate::report::{Report, Sheet};
use crate::stats::Summary;
use load::{CONNECTIONS, Load};
use options::wants;
use process::Process;
use std::collections::BTreeSet;
use std::io;

pub use options::Options;
use server::{SCHEMES, Served};
pub use server::{Serve, main as serve};
use setting::{Round, Setting};

/// References of a request.
const REFERENCES: [usize; 3] = [1, 4, 16];
/// Worker threads.
const WORKERS: [usize; 2] = [1, 2];

/// Measures and reports.
pub fn run(options: &Options) -> Report {
    let common = &options.common;
    let mut report = Report::new("http");
    let rounds = common.repeats(5);
    let seconds =
        common.window_ms.map_or(if common.quick { 0.2 } else { 1.0 }, |ms| ms as f64 / 1e3);
    report.settings = vec![
        format!("rounds {rounds}, of {seconds} s each"),
        format!("{CONNECTIONS} connections, 100 replacements a second"),
    ];
    if common.quick {
        report.settings.push("QUICK: the figures mean little".to_owned());
    }
    report.notes = vec![
        "CPU: of the server's process, by request, the kernel's part in it; over: what it is more \
            than that of the row whose configuration is never replaced, in the same round"
            .to_owned(),
        "kept: configurations beside the current one, just before each replacement".to_owned(),
        "server and load share this machine's processors: requests a second are of both".to_owned(),
        "arc-swap's Cache lends what it has, and owns nothing; the others hold all references at a \
            time"
            .to_owned(),
    ];
    let mut settings = Vec::new();
    for load in Load::ALL {
        match load.program().filter(|program| !installed(program)) {
            Some(program) => {
                report.notes.push(format!("{program} is not installed (Debian: {program})"));
            }
            None => settings.extend(of_load(common, load)),
        }
    }
    let failures = measure(common, &mut settings, rounds, seconds);
    report.notes.extend(failures);
    report.sheets.extend(settings.iter().map(sheet));
    report.targets = targets::judge(&settings);
    if !options.no_nginx {
        probed::add(&mut report, options, rounds.min(3), seconds);
    }
    report
}

fn of_load(common: &Common, load: Load) -> Vec<Setting> {
    let workers = if common.threads.is_empty() { &WORKERS[..] } else { &common.threads };
    let references = if common.quick { &REFERENCES[1..2] } else { &REFERENCES[..] };
    let of = |workers: usize| {
        references.iter().map(move |&references| Setting {
            load,
            workers,
            references,
            rounds: vec![Vec::new(); SCHEMES.len()],
        })
    };
    workers.iter().copied().flat_map(of).collect()
}

/// Every scheme in every setting once a round, in rotating order. What failed.
fn measure(
    common: &Common,
    settings: &mut [Setting],
    rounds: usize,
    seconds: f64,
) -> BTreeSet<String> {
    let mut failures = BTreeSet::new();
    for round in 0..rounds {
        for setting in &mut *settings {
            progress(&format!("http: round {}/{rounds}, {}", round + 1, setting.title()));
            for turn in 0..SCHEMES.len() {
                let place = (turn + round) % SCHEMES.len();
                let served = &SCHEMES[place];
                if served.name != server::FIXED && !wants(common, served.name) {
                    continue;
                }
                let found = one(setting, served, seconds);
                if let Err(why) = &found {
                    let title = setting.title();
                    failures.insert(format!("FAILED: {}, {title}: {why}", served.name));
                }
                setting.rounds[place].push(found.ok());
            }
        }
    }
    progress("");
    failures
}

fn one(setting: &Setting, served: &Served, seconds: f64) -> io::Result<Round> {
    let process = Process::start(served, setting.references, setting.workers)?;
    // Until every connection has been made once, and every thread has been in every path.
    Load::Own.run(process.port(), "/", CONNECTIONS, seconds.min(0.1))?;
    let before = process.cpu()?;
    let found = setting.load.run(process.port(), "/", CONNECTIONS, seconds)?;
    let spent = process.cpu()? - before;
    let held = process.stop()?;
    let cpu = spent as f64 / found.requests;
    Ok(Round { rate: found.rate, cpu, late: found.late, held })
}

fn sheet(setting: &Setting) -> Sheet {
    let columns = [
        "k/s: min",
        "median",
        "max",
        "CPU us",
        "over: min",
        "median",
        "max ns",
        "p99.9 ms",
        "kept",
        "most",
    ];
    let mut sheet = Sheet::new(&setting.title(), &columns);
    let floor = setting.of(server::FIXED, |round| round.cpu).unwrap_or_default();
    for served in &SCHEMES {
        let Some(cpu) = setting.of(served.name, |round| round.cpu).filter(|cpu| !cpu.is_empty())
        else {
            continue;
        };
        let all = |value: fn(&Round) -> f64| {
            let values = setting.of(served.name, value).unwrap_or_default();
            Summary::of(values.into_iter().flatten())
        };
        let median = |value: fn(&Round) -> f64| all(value).map(|summary| summary.median);
        let rate = all(|round| round.rate / 1e3);
        let over = Summary::of(cpu.iter().zip(&floor).filter_map(|(a, b)| Some((*a)? - (*b)?)));
        let over = over.filter(|_| served.name != server::FIXED);
        let values = vec![
            rate.map(|s| s.min),
            rate.map(|s| s.median),
            rate.map(|s| s.max),
            median(|round| round.cpu / 1e3),
            over.map(|s| s.min),
            over.map(|s| s.median),
            over.map(|s| s.max),
            median(|round| round.late),
            median(|round| round.held.mean),
            all(|round| round.held.most).map(|s| s.max),
        ];
        sheet.row(served.name, values, if served.ours { "ours" } else { "" });
    }
    sheet
}
