//! nginx with more and more workers, bare and under `trapline stat`: what probes cost a server.

use super::load::Load;
use super::options::{Options, wants};
use super::process::cpu;
use crate::executable;
use crate::harness::progress;
use crate::nginx::{self, Nginx};
use crate::programs::installed;
use crate::report::{Report, Sheet};
use crate::stats::Summary;
use std::collections::BTreeSet;
use std::io;
use std::path::Path;
use std::process::Command;

/// Workers, as far as this machine's memory and patience go.
const WORKERS: [usize; 5] = [1, 2, 8, 32, 128];

/// What is probed.
const SPECS: [(&str, Option<&str>); 3] = [
    ("bare", None),
    ("one function of each request", Some("entry:nginx:ngx_http_process_request")),
    ("all functions", Some("entry:nginx:*")),
];

/// One server, once.
#[derive(Clone, Copy, Debug)]
struct Round {
    rate: f64,
    cpu: f64,
}

/// Appends its table.
pub(super) fn add(report: &mut Report, options: &Options, rounds: usize, seconds: f64) {
    if !wants(&options.common, "nginx") {
        return;
    }
    if !installed("nginx") {
        report.notes.push("nginx is not installed".to_owned());
        return;
    }
    let trapline = match executable::trapline(options.trapline.as_deref()) {
        Ok(path) => path,
        Err(why) => return report.notes.push(format!("no trapline: {why}")),
    };
    let load = if installed("wrk") { Load::Wrk } else { Load::Own };
    let columns =
        ["k/s: min", "median", "max", "share: min", "median", "max", "CPU us", "over bare, us"];
    let title = format!("nginx, a file of 1,000 bytes, asked by {}", load.label());
    let mut sheet = Sheet::new(&title, &columns);
    let mut failures = BTreeSet::new();
    let workers = if options.common.quick { &WORKERS[..2] } else { &WORKERS[..] };
    for &workers in workers {
        let mut found: [Vec<Option<Round>>; SPECS.len()] = Default::default();
        for round in 0..rounds {
            progress(&format!("http: nginx, {workers} workers, round {}/{rounds}", round + 1));
            for turn in 0..SPECS.len() {
                let place = (turn + round) % SPECS.len();
                let one = one(&trapline, SPECS[place].1, workers, load, seconds);
                if let Err(why) = &one {
                    failures.insert(format!("FAILED: nginx, {workers} workers: {why}"));
                }
                found[place].push(one.ok());
            }
        }
        let of = |place: usize, value: fn(&Round) -> f64| -> Vec<Option<f64>> {
            found[place].iter().map(|round| round.as_ref().map(value)).collect()
        };
        for (place, (name, _)) in SPECS.iter().enumerate() {
            let rate = Summary::of(of(place, |round| round.rate / 1e3).into_iter().flatten());
            let share = Summary::of_ratios(&of(place, |r| r.rate), &of(0, |r| r.rate));
            let cpu = of(place, |round| round.cpu / 1e3);
            let over = cpu.iter().zip(of(0, |round| round.cpu / 1e3));
            let over = Summary::of(over.filter_map(|(a, b)| Some((*a)? - b?)));
            let values = vec![
                rate.map(|s| s.min),
                rate.map(|s| s.median),
                rate.map(|s| s.max),
                share.map(|s| s.min),
                share.map(|s| s.median),
                share.map(|s| s.max),
                Summary::of(cpu.iter().copied().flatten()).map(|s| s.median),
                over.filter(|_| place > 0).map(|s| s.median),
            ];
            let workers =
                if workers == 1 { "1 worker".into() } else { format!("{workers} workers") };
            sheet.row(&format!("{workers}, {name}"), values, "");
        }
    }
    progress("");
    sheet
        .notes
        .push("CPU: of all its processes, by request; connections: four a worker".to_owned());
    report.sheets.push(sheet);
    report.notes.extend(failures);
}

fn one(
    trapline: &Path,
    spec: Option<&str>,
    workers: usize,
    load: Load,
    seconds: f64,
) -> io::Result<Round> {
    let launched = spec.map(|spec| {
        let mut command = Command::new(trapline);
        command.args(["stat", "-o", "/dev/null", spec, "--"]);
        command
    });
    let server = Nginx::start(launched, workers)?;
    // No more than wrk and this process may open.
    let connections = (4 * workers).clamp(16, 512);
    // Every worker has been asked before anything counts.
    load.run(server.port(), nginx::FILE, connections, seconds.min(0.2))?;
    let spent = || -> io::Result<u64> { server.pids()?.into_iter().map(cpu).sum() };
    let before = spent()?;
    let found = load.run(server.port(), nginx::FILE, connections, seconds)?;
    let spent = spent()? - before;
    Ok(Round { rate: found.rate, cpu: spent as f64 / found.requests })
}
