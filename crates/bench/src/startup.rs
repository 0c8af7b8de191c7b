//! What a short program pays for being traced, and how long arming takes.

use crate::group::Group;
use crate::options::Options;
use crate::programs::binary;
use crate::report::{Bound, Sheet, Target};
use crate::scratch::Scratch;
use crate::stats::Summary;
use serde_json::Value;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

/// Programs that end at once, with all functions of the program armed.
const PROGRAMS: [(&str, &[&str]); 3] =
    [("true", &[]), ("redis-server", &["--version"]), ("python3", &["--version"])];

/// The table and its targets.
pub(crate) fn measure(trapline: &Path, options: &Options) -> (Sheet, Vec<Target>) {
    let columns = ["bare ms", "traced ms", "added min", "median", "max", "armed", "by breakpoint"];
    let mut sheet = Sheet::new(
        "start to end of a short program with all its functions armed, over bare",
        &columns,
    );
    let mut targets = Vec::new();
    let repeats = options.repeats.map_or(if options.quick { 2 } else { 20 }, |n| n as usize);
    for (program, arguments) in PROGRAMS {
        let Some(file) = binary(program) else {
            sheet.row(program, vec![None; columns.len()], "not installed");
            continue;
        };
        let mut pairs = Vec::new();
        let mut report = Value::Null;
        let mut failure = None;
        for _ in 0..repeats {
            let bare = timed(Command::new(&file).args(arguments));
            let traced = traced(trapline, &file, arguments);
            match (bare, traced) {
                (Ok(bare), Ok((ms, json))) => {
                    pairs.push((bare, ms));
                    report = json;
                }
                (Err(why), _) | (_, Err(why)) => failure = Some(why),
            }
        }
        let of = |value: fn(&(f64, f64)) -> f64| Summary::of(pairs.iter().map(value));
        let added = of(|(bare, traced)| traced - bare);
        let armed = report["armed"]
            .as_object()
            .map(|by| by.values().filter_map(Value::as_u64).sum::<u64>() as f64);
        let breakpoints = report["armed"]["breakpoint"].as_u64().map(|n| n as f64);
        let values = vec![
            of(|p| p.0).map(|s| s.median),
            of(|p| p.1).map(|s| s.median),
            added.map(|s| s.min),
            added.map(|s| s.median),
            added.map(|s| s.max),
            armed,
            breakpoints,
        ];
        sheet.row(program, values, &failure.unwrap_or_default());
        if program == "true" {
            targets.push(Target::new(
                "start-up cost of a traced `true`, ms",
                Bound::AtMost(30.0),
                added,
            ));
        } else {
            let per_5000 = armed
                .filter(|n| *n > 0.0)
                .and_then(|n| Summary::of(pairs.iter().map(|p| (p.1 - p.0) * 5_000.0 / n)));
            let what = format!(
                "arming all functions of {program}, start-up and report included, ms per 5,000 \
                    sites"
            );
            targets.push(Target::new(what, Bound::AtMost(1_000.0), per_5000));
        }
    }
    (sheet, targets)
}

fn traced(trapline: &Path, program: &Path, arguments: &[&str]) -> Result<(f64, Value), String> {
    let dir = Scratch::new("startup").map_err(|e| e.to_string())?;
    let file = dir.path().join("report.json");
    let mut command = Command::new(trapline);
    command.args(["stat", "-j", "-o"]).arg(&file).arg("--").arg(program).args(arguments);
    let ms = timed(&mut command)?;
    let text = std::fs::read_to_string(&file).map_err(|e| format!("no report: {e}"))?;
    Ok((ms, serde_json::from_str(&text).map_err(|e| format!("bad report: {e}"))?))
}

/// Milliseconds from start to end.
fn timed(command: &mut Command) -> Result<f64, String> {
    const LIMIT: Duration = Duration::from_secs(60);
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    let start = Instant::now();
    let mut group = Group::spawn(command).map_err(|e| e.to_string())?;
    // A look every 5 ms would be seen in the figure.
    let status = group.wait_closely(LIMIT);
    let ms = start.elapsed().as_secs_f64() * 1e3;
    match status {
        Some(status) if status.success() => Ok(ms),
        Some(status) => Err(format!("{status}")),
        None => Err("did not end".to_owned()),
    }
}
