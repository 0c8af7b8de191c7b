//! How programs end: exit codes, signals, kill -9 in mid-run.

use std::io::{BufRead, BufReader, Read};
use std::path::Path;

use crate::common::process::{run, send_signal, start, wait_until};
use crate::common::{Report, Target, trapline};

#[test]
fn exit_codes_and_signals() {
    let target = Target::new("ends.c");
    let cases = [
        ("exit", 0, 0),
        ("exit", 1, 1),
        ("exit", 77, 77),
        ("exit", 255, 255),
        ("_exit", 3, 3),
        ("signal", libc::SIGTERM, 143),
        ("signal", libc::SIGKILL, 137),
        ("signal", libc::SIGINT, 130),
        ("signal", libc::SIGUSR1, 138),
        ("abort", 0, 134),
        ("fault", 0, 139),
        ("exec", 0, 33),
        ("pipe", 0, 141),
    ];
    for (how, number, code) in cases {
        target.case().arg(how).arg(number.to_string()).code(code).check();
    }
}

/// The one child of process `parent` whose program is `name`.
pub(crate) fn child_named(parent: i32, name: &str) -> Option<i32> {
    for entry in std::fs::read_dir("/proc").ok()?.flatten() {
        let Ok(process) = entry.file_name().to_string_lossy().parse::<i32>() else { continue };
        let Ok(stat) = std::fs::read_to_string(entry.path().join("stat")) else { continue };
        let Some((head, tail)) = stat.rsplit_once(')') else { continue };
        let parent_of = tail.split_whitespace().nth(1).and_then(|field| field.parse::<i32>().ok());
        if parent_of == Some(parent) && head.ends_with(&format!("({name}")) {
            return Some(process);
        }
    }
    None
}

/// Runs `ticks` under the tool, kills it with `signal` after its first line, and gives the report
/// and the tool's exit code.
fn killed(
    specs: &[&str],
    argument: &str,
    first_line: &str,
    signal: i32,
    until: impl Fn() -> bool,
) -> (Report, i32) {
    let program = Target::new("ticks.c").build();
    let directory = tempfile::tempdir().expect("a temporary directory");
    let file = directory.path().join("report");
    let mut command = trapline();
    command.args(["stat", "-j", "-o"]).arg(&file).args(specs).arg("--").arg(&program).arg(argument);
    let mut running = start(&mut command);
    let mut output = BufReader::new(running.child.stdout.take().expect("piped"));
    let mut line = String::new();
    output.read_line(&mut line).expect("the program writes a line");
    if line.trim() != first_line {
        let mut errors = String::new();
        let _ = running.child.stderr.take().expect("piped").read_to_string(&mut errors);
        panic!("the program said {line:?}, the tool {errors}");
    }
    wait_until("the program has worked", until);
    let target =
        child_named(running.id(), "ticks").expect("the tool started the program as its child");
    send_signal(target, signal);
    running.child.stdout = Some(output.into_inner());
    let finished = running.finish(b"");
    (
        Report::read(&file).unwrap_or_else(|error| panic!("{error}\n{}", finished.stderr)),
        finished.code,
    )
}

/// Everything counted until then is in the report.
#[test]
fn kill_9_at_rest() {
    for specs in [&["t_*"][..], &["entry:t_*"], &[]] {
        let (report, code) = killed(specs, "rest", "resting", libc::SIGKILL, || true);
        assert_eq!(code, 137);
        assert_eq!(report.calls("t_tick"), 123_456, "{specs:?}");
    }
}

fn finished_calls(file: &Path) -> Vec<u64> {
    let bytes = std::fs::read(file).unwrap_or_default();
    (0..3)
        .filter_map(|i| Some(u64::from_ne_bytes(bytes.get(64 * i..64 * i + 8)?.try_into().ok()?)))
        .collect()
}

/// Killed while three threads run: each may have one call that was counted and not finished, and no
/// finished one is missing.
#[test]
fn kill_9_in_mid_run() {
    for specs in [&["t_*"][..], &["entry:t_*"], &[]] {
        let directory = tempfile::tempdir().expect("a temporary directory");
        let file = directory.path().join("counters");
        let busy = || {
            finished_calls(&file).len() == 3 && finished_calls(&file).iter().all(|&n| n > 20_000)
        };
        let (report, code) =
            killed(specs, file.to_str().expect("in UTF-8"), "running", libc::SIGKILL, busy);
        assert_eq!(code, 137);
        let finished: u64 = finished_calls(&file).iter().sum();
        let counted = report.calls("t_tick");
        assert!(
            (finished..=finished + 3).contains(&counted),
            "{specs:?}: {counted} counted, {finished} finished"
        );
    }
}

/// A signal to the program that it does not handle.
#[test]
fn terminated_in_mid_run() {
    let (report, code) = killed(&["t_*"], "rest", "resting", libc::SIGTERM, || true);
    assert_eq!((code, report.calls("t_tick")), (143, 123_456));
}

/// `main` never returns: it has no times, and the report says that it runs.
#[test]
fn calls_that_still_run() {
    let (report, _) = killed(&["t_*", "main"], "rest", "resting", libc::SIGTERM, || true);
    let function = |name: &str| {
        let mut functions = report.functions().iter();
        functions.find(|function| function["name"] == name).unwrap_or_else(|| panic!("no {name}"))
    };
    let main = function("main");
    assert_eq!((&main["calls"], &main["running"]), (&1.into(), &1.into()));
    for time in ["p50_ns", "p90_ns", "p99_ns", "max_ns", "total_ns", "self_ns"] {
        assert!(main[time].is_null() && function("t_tick")[time].is_u64(), "{time}");
    }
    assert_eq!(function("t_tick")["running"], 0);
}

/// Of functions that are called once, each percentile is that call.
#[test]
fn percentiles_of_one_call() {
    let program = Target::new("waits.c").build();
    let directory = tempfile::tempdir().expect("a temporary directory");
    let file = directory.path().join("report");
    let mut command = trapline();
    command.args(["stat", "-j", "-o"]).arg(&file).args(["t_*", "--"]).arg(&program);
    run(&mut command, b"x");
    let report = Report::read(&file).expect("a report");
    for name in ["t_wait", "t_through_pointer"] {
        let times = ["p50_ns", "p90_ns", "p99_ns", "max_ns", "total_ns"]
            .map(|time| report.time(name, time));
        assert!(times[0] > 0 && times.iter().all(|time| *time == times[0]), "{name}: {times:?}");
    }
}

/// ^C, which goes to the whole process group: the report comes.
#[test]
fn interrupted() {
    let program = Target::new("ticks.c").build();
    let directory = tempfile::tempdir().expect("a temporary directory");
    let file = directory.path().join("report");
    let mut running = start(
        trapline()
            .args(["stat", "-j", "-o"])
            .arg(&file)
            .args(["t_*", "--"])
            .arg(&program)
            .arg("rest"),
    );
    let mut output = BufReader::new(running.child.stdout.take().expect("piped"));
    let mut line = String::new();
    output.read_line(&mut line).expect("the program writes a line");
    assert_eq!(line, "resting\n");
    send_signal(-running.id(), libc::SIGINT);
    running.child.stdout = Some(output.into_inner());
    let finished = running.finish(b"");
    assert_eq!(finished.code, 130, "{}", finished.stderr);
    assert_eq!(Report::read(&file).expect("a report").calls("t_tick"), 123_456);
}
