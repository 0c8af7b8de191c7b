//! The other ways to ask for a report: live, for a while, in fields, by thread, compared; and a budget that does not suffice.

use std::io::{BufRead, BufReader};

use crate::common::process::{run, send_signal, start, wait_until};
use crate::common::{Report, Target, trapline};
use crate::ends::child_named;

/// The tracing ends and the report comes after the time; the program goes on, unprobed, and its exit code is passed.
#[test]
fn for_a_while() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let file = directory.path().join("report");
    let mut command = trapline();
    command.args(["stat", "-j", "-d", "200ms", "-o"]).arg(&file).args(["t_*", "--"]).arg(Target::new("waits.c").build());
    let mut running = start(&mut command);
    wait_until("the report is written", || running.child.try_wait().expect("ours").is_some() || Report::read(&file).is_ok());
    let report = Report::read(&file).expect("a report");
    assert_eq!(report.calls("t_level"), 4);
    assert!(child_named(running.id(), "waits").is_some(), "the program goes on");
    let finished = running.finish(b"");
    assert_eq!(finished.code, 5, "{}", finished.stderr);
    assert!(finished.stdout.contains("calls t_wait 1"));
}

/// Lines while the program runs.
#[test]
fn live() {
    let mut command = trapline();
    command.args(["stat", "-i", "30ms", "t_*", "--"]).arg(Target::new("ticks.c").build()).arg("rest");
    let mut running = start(&mut command);
    let mut errors = BufReader::new(running.child.stderr.take().expect("piped"));
    let mut seen = 0;
    while seen < 3 {
        let mut line = String::new();
        assert!(errors.read_line(&mut line).expect("readable") > 0, "the lines end after {seen}");
        seen += usize::from(!line.trim().is_empty());
    }
    let target = child_named(running.id(), "ticks").expect("the program runs");
    send_signal(target, libc::SIGKILL);
    running.child.stderr = Some(errors.into_inner());
    let finished = running.finish(b"");
    assert_eq!(finished.code, 137);
    assert!(finished.stderr.contains("t_tick"), "{}", finished.stderr);
}

fn report_text(arguments: &[&str]) -> String {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let file = directory.path().join("report");
    let program = Target::new("threads.c").build();
    let finished = run(trapline().arg("stat").args(arguments).arg("-o").arg(&file).args(["t_*", "--"]).arg(program), b"");
    assert_eq!((finished.code, finished.stderr.as_str()), (0, ""));
    std::fs::read_to_string(file).expect("a report")
}

#[test]
fn as_a_table() {
    let text = report_text(&[]);
    assert!(text.contains("t_outer") && text.contains("t_leaf"), "{text}");
    for word in ["hits", "lost", "detour", "breakpoint", "skipped"] {
        assert!(text.contains(word), "no {word} in\n{text}");
    }
}

#[test]
fn in_fields() {
    let text = report_text(&["-x", ";"]);
    let line = text.lines().find(|line| line.split(';').any(|field| field == "t_outer")).unwrap_or_else(|| panic!("{text}"));
    assert!(line.split(';').any(|field| field == "720000"), "{line}");
}

#[test]
fn with_histograms() {
    let (plain, text) = (report_text(&[]), report_text(&["--hist"]));
    assert!(text.lines().count() > plain.lines().count(), "{text}");
}

/// Eight threads and the main one; a thread's row has its own calls.
#[test]
fn by_thread() {
    let text = report_text(&["--per-thread", "-x", ";"]);
    let mut calls: Vec<u64> = Vec::new();
    for line in text.lines().filter(|line| line.split(';').any(|field| field == "t_outer")) {
        calls.extend(
            line.split(';').filter_map(|field| field.parse::<u64>().ok()).filter(|n| *n % 20_000 == 0 && (1..=8).contains(&(n / 20_000))),
        );
    }
    calls.sort_unstable();
    calls.dedup();
    assert_eq!(calls, (1..=8).map(|n| 20_000 * n).collect::<Vec<_>>(), "{text}");
}

#[test]
fn compared() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let program = Target::new("recursion.c").build();
    for (name, depth) in [("a", "99"), ("b", "199")] {
        let file = directory.path().join(name);
        let finished = run(trapline().args(["stat", "-j", "-o"]).arg(&file).args(["t_*", "--"]).arg(&program).arg(depth), b"");
        assert_eq!(finished.code, 0, "{}", finished.stderr);
    }
    let finished = run(trapline().args(["stat", "--diff", "a", "b"]).current_dir(directory.path()), b"");
    assert_eq!(finished.code, 0, "{}", finished.stderr);
    let text = finished.stdout + &finished.stderr;
    assert!(text.contains("t_down") && text.contains("300") && text.contains("600"), "{text}");
}

#[test]
fn no_hits_are_said_in_words() {
    let program = Target::new("ends.c").build();
    let stat = |arguments: &[&str]| {
        run(trapline().arg("stat").args(arguments).args(["libc.so.6:getpriority", "--"]).arg(&program).args(["exit", "0"]), b"")
    };
    let finished = stat(&[]);
    assert_eq!(finished.code, 0);
    assert!(!finished.stderr.is_empty());
    assert_eq!(stat(&["--require-events"]).code, 1);
}

/// A budget for far fewer counters than there are: what does not fit is said to be lost, and the program does not notice.
#[test]
fn a_budget_that_does_not_suffice() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let file = directory.path().join("report");
    let program = Target::new("panic.rs").build();
    let bare = run(&mut crate::common::process::program(&program), b"");
    let finished = run(trapline().args(["stat", "-j", "--max-memory", "256k", "-o"]).arg(&file).arg("--").arg(&program), b"");
    if finished.code == 125 || finished.code == 2 {
        // A budget that cannot be kept at all is refused before the program starts.
        assert!(finished.stdout.is_empty() && !finished.stderr.is_empty());
        return;
    }
    assert_eq!((finished.code, &finished.stdout), (bare.code, &bare.stdout));
    let report = Report::read(&file).expect("a report");
    assert!(!report.lost().is_empty() || !report.0["skipped"].as_array().is_none_or(Vec::is_empty), "{}", report.0);
}
