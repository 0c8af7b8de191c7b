//! The other ways to ask for a report: live, for a while, in fields, by thread, compared; and a
//! budget that does not suffice.

use std::io::{BufRead, BufReader, Read};

use crate::common::process::{run, send_signal, start, wait_until};
use crate::common::{Report, Target, trapline};
use crate::ends::child_named;

/// The tracing ends and the report comes after the time; the program goes on, unprobed, and its
/// exit code is passed.
#[test]
fn for_a_while() {
    // How long the program takes to get to its calls is the machine's business.
    let enough = ["200ms", "2s", "20s", "100s"].into_iter().any(calls_within);
    assert!(enough, "no calls within any time");
}

fn calls_within(time: &str) -> bool {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let file = directory.path().join("report");
    let mut command = trapline();
    command
        .args(["stat", "-j", "-d", time, "-o"])
        .arg(&file)
        .args(["t_*", "--"])
        .arg(Target::new("waits.c").build());
    let mut running = start(&mut command);
    wait_until("the report is written", || {
        running.child.try_wait().expect("ours").is_some() || Report::read(&file).is_ok()
    });
    let report = Report::read(&file).expect("a report");
    if report.calls("t_level") < 4 {
        return false;
    }
    assert_eq!(report.calls("t_level"), 4);
    assert!(child_named(running.id(), "waits").is_some(), "the program goes on");
    let finished = running.finish(b"");
    assert_eq!(finished.code, 5, "{}", finished.stderr);
    assert!(finished.stdout.contains("calls t_wait 1"));
    true
}

/// Lines while the program runs.
#[test]
fn live() {
    let mut command = trapline();
    command
        .args(["stat", "-i", "30ms", "t_*", "--"])
        .arg(Target::new("ticks.c").build())
        .arg("rest");
    let mut running = start(&mut command);
    let mut errors = BufReader::new(running.child.stderr.take().expect("piped"));
    let (mut intervals, mut rows) = (0, 0);
    while intervals < 3 || rows == 0 {
        let mut line = String::new();
        assert!(
            errors.read_line(&mut line).expect("readable") > 0,
            "the lines end after {intervals}"
        );
        intervals += usize::from(line.starts_with("-- after "));
        rows += usize::from(line.contains("t_tick"));
    }
    let target = child_named(running.id(), "ticks").expect("the program runs");
    send_signal(target, libc::SIGKILL);
    running.child.stderr = Some(errors.into_inner());
    let finished = running.finish(b"");
    assert_eq!(finished.code, 137);
    assert!(finished.stderr.contains("t_tick"), "{}", finished.stderr);
}

/// `ticks rest` under `stat` with `options` until `enough` intervals were seen and it was killed;
/// what was written.
fn streamed(options: &[&str], enough: usize, is_interval: fn(&str) -> bool) -> Vec<String> {
    let mut command = trapline();
    command
        .args(["stat", "-i", "20ms", "-o", "-"])
        .args(options)
        .args(["t_*", "--"])
        .arg(Target::new("ticks.c").build())
        .arg("rest");
    let mut running = start(&mut command);
    let mut output = BufReader::new(running.child.stdout.take().expect("piped"));
    let mut lines = Vec::new();
    while lines.iter().filter(|line: &&String| is_interval(line)).count() < enough
        || !lines.contains(&"resting".to_string())
    {
        let mut line = String::new();
        assert!(output.read_line(&mut line).expect("readable") > 0, "it ends after {lines:#?}");
        lines.push(line.trim_end().to_string());
    }
    send_signal(child_named(running.id(), "ticks").expect("the program runs"), libc::SIGKILL);
    lines.extend(output.by_ref().lines().map(|line| line.expect("readable")));
    running.child.stdout = Some(output.into_inner());
    let finished = running.finish(b"");
    assert_eq!(finished.code, 137, "{}", finished.stderr);
    lines.retain(|line| line != "resting");
    lines
}

#[test]
fn a_stream_of_json_lines() {
    let lines = streamed(&["-j"], 2, |line| line.contains("\"kind\":\"interval\""));
    let values: Vec<serde_json::Value> =
        lines.iter().map(|line| serde_json::from_str(line).expect(line)).collect();
    let (last, intervals) = values.split_last().expect("there are some");
    assert_eq!(
        (&last["kind"], &last["hits"], &last["signal"]),
        (&"report".into(), &123_456.into(), &9.into())
    );
    assert!(intervals.iter().all(|value| value["kind"] == "interval"));
    let hits = |value: &serde_json::Value| value["hits"].as_u64().expect("a number");
    // What came after the last interval is in the report alone.
    assert!(intervals.iter().map(hits).sum::<u64>() <= 123_456);
    let mut times: Vec<&str> = Vec::new();
    for value in &values {
        assert_eq!(value["schema"], 1);
        let run = &value["run"];
        assert!(
            run["command"][0].as_str().is_some_and(|program| program.ends_with("ticks"))
                && run["command"][1] == "rest"
        );
        assert_eq!(run["specs"], serde_json::json!(["t_*"]));
        assert!(run["started"].as_u64().is_some_and(|seconds| seconds > 1_600_000_000));
        let host =
            std::fs::read_to_string("/proc/sys/kernel/hostname").expect("every Linux has it");
        assert_eq!(run["host"], host.trim_end());
        times.push(value["time"].as_str().expect("text"));
    }
    assert!(
        times.is_sorted() && times.iter().all(|time| time.len() == 24 && time.ends_with('Z')),
        "{times:?}"
    );
}

#[test]
fn a_stream_of_rows() {
    let lines = streamed(&["-x", ";"], 1, |line| line.contains(";interval;"));
    let (head, rest) = lines.split_first().expect("there are some");
    let columns: Vec<&str> = head.split(';').collect();
    assert_eq!(columns[..3], ["object", "name", "calls"]);
    let (rows, comments): (Vec<&String>, Vec<&String>) =
        rest.iter().partition(|line| !line.starts_with("# "));
    assert!(rows.iter().all(|row| row.split(';').count() == columns.len()), "{lines:#?}");
    let kind = columns.iter().position(|column| *column == "kind").expect("a column");
    let report: Vec<&&String> =
        rows.iter().filter(|row| row.split(';').nth(kind) == Some("report")).collect();
    assert!(report.len() == 1 && report[0].starts_with("ticks;t_tick;123456;"), "{lines:#?}");
    assert!(
        comments[0].starts_with("# 123,456 hits in ")
            && comments[0].ends_with("; killed by signal 9 (SIGKILL)"),
        "{comments:#?}"
    );
    assert!(comments[1].starts_with("# lost: 0"), "{comments:#?}");
}

/// Variables stand for options; an empty one is not set, and one that says no is a flag that is
/// off.
#[test]
fn variables() {
    let program = Target::new("recursion.c").build();
    let stat = |variables: &[(&str, &str)], options: &[&str]| {
        let mut command = trapline();
        command
            .envs(variables.iter().copied())
            .args(["stat", "-o", "-"])
            .args(options)
            .args(["t_*", "--"])
            .arg(&program)
            .arg("9");
        run(&mut command, b"")
    };
    for yes in ["1", "true", "yes", "on"] {
        let finished = stat(&[("TRAPLINE_VERBOSE", yes), ("TRAPLINE_JSON", yes)], &[]);
        assert!(
            finished.code == 0 && finished.stdout.contains("\"functions\""),
            "{yes}: {}",
            finished.stderr
        );
    }
    for no in ["", "0", "no", "false", "off"] {
        let finished = stat(
            &[("TRAPLINE_VERBOSE", no), ("TRAPLINE_JSON", no), ("TRAPLINE_ALL", no)],
            &["-x", ";", "--limit", "3"],
        );
        assert!(
            finished.code == 0 && finished.stdout.contains("object;name"),
            "{no}: {}",
            finished.stderr
        );
    }
    // Every variable that the help names.
    let help: String = ["stat", "record", "report", "list", "doctor"]
        .map(|verb| run(trapline().args([verb, "--help"]), b"").stdout)
        .concat();
    let names: Vec<&str> = help
        .split("[env: ")
        .skip(1)
        .map(|rest| rest.split(['=', ']']).next().expect("a name"))
        .collect();
    assert!(
        names.len() > 20 && names.iter().all(|name| name.starts_with("TRAPLINE_")),
        "{names:?}"
    );
    let empty: Vec<(&str, &str)> = names.iter().map(|name| (*name, "")).collect();
    let finished = stat(&empty, &[]);
    assert!(finished.code == 0 && finished.stdout.contains("t_down"), "{}", finished.stderr);
}

fn report_text(arguments: &[&str]) -> String {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let file = directory.path().join("report");
    let program = Target::new("threads.c").build();
    let finished = run(
        trapline()
            .arg("stat")
            .args(arguments)
            .arg("-o")
            .arg(&file)
            .args(["t_*", "--"])
            .arg(program),
        b"",
    );
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
    let line = text
        .lines()
        .find(|line| line.split(';').any(|field| field == "t_outer"))
        .unwrap_or_else(|| panic!("{text}"));
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
            line.split(';')
                .filter_map(|field| field.parse::<u64>().ok())
                .filter(|n| *n % 20_000 == 0 && (1..=8).contains(&(n / 20_000))),
        );
    }
    calls.sort_unstable();
    calls.dedup();
    assert_eq!(calls, (1..=8).map(|n| 20_000 * n).collect::<Vec<_>>(), "{text}");
}

/// `named` under `stat` with `options`, whose tracing ends while all its threads are there; the
/// report.
fn of_named_threads(options: &[&str]) -> String {
    let directory = tempfile::tempdir().expect("a directory");
    let report = directory.path().join("report");
    let mut command = trapline();
    command.arg("stat").args(options).arg("-o").arg(&report);
    command.args(["t_work", "--"]).arg(Target::new("named.c").build());
    let mut running = start(&mut command);
    // The program ends when its input does: not before the report is there.
    let input = running.child.stdin.take();
    let mut output = BufReader::new(running.child.stdout.take().expect("piped"));
    let mut line = String::new();
    assert!(output.read_line(&mut line).expect("readable") > 0 && line == "named\n", "{line}");
    send_signal(running.id(), libc::SIGTERM);
    running.child.wait().expect("it ends");
    drop(input);
    std::fs::read_to_string(report).expect("the report")
}

/// Who called, by name: threads and processes in the table, in fields and in JSON. The names are
/// those of the end: when they first called (or were started) they had another one.
#[test]
fn by_the_names_of_threads_and_processes() {
    let json = |options: &[&str], field: &str| {
        let text = of_named_threads(&[&["-j"], options].concat());
        let value: serde_json::Value =
            serde_json::from_str(text.lines().next().expect("a line")).expect("JSON");
        let part = |part: &serde_json::Value| {
            let text = |field: &str| part[field].as_str().unwrap_or("").to_string();
            (text("process_name"), text("thread_name"), part["calls"].as_u64().expect("a number"))
        };
        let mut parts: Vec<_> =
            value["functions"][0][field].as_array().expect("a list").iter().map(part).collect();
        parts.sort();
        parts
    };
    let part =
        |process: &str, thread: &str, calls| (process.to_string(), thread.to_string(), calls);
    let (child, parent) = (part("child", "child", 40), part("parent", "parent", 5));
    assert_eq!(
        json(&["--per-thread"], "threads"),
        [child, parent, part("parent", "reader", 10), part("parent", "writer", 20)]
    );
    assert_eq!(
        json(&["--per-process"], "processes"),
        [part("child", "", 40), part("parent", "", 35)]
    );
    let table = of_named_threads(&["--per-process", "--per-thread"]);
    for name in ["(reader) of process ", "(writer) of process ", " (child)\n", " (parent)\n"] {
        assert!(table.contains(name), "{name} in\n{table}");
    }
    let rows = of_named_threads(&["--per-thread", "-x", ";"]);
    assert!(
        rows.lines().any(|row| row.contains(";t_work;20;") && row.ends_with(";parent;writer;0;")),
        "{rows}"
    );
}

/// Threads and processes that have ended are called what they were called last, however they
/// ended: when they first called they had the program's name.
#[test]
fn names_that_came_late() {
    let program = Target::new("renamed.c").build();
    for end in ["return", "exit", "quick_exit", "_exit"] {
        let stat = |option: &str, field: &str| {
            let mut command = trapline();
            command.args(["stat", "-j", "-o", "-", option, "t_work", "--"]).arg(&program).arg(end);
            let finished = run(&mut command, b"");
            assert_eq!(finished.code, 0, "{}", finished.stderr);
            let json = finished.stdout.strip_prefix("named\n").expect("its own output");
            let report: serde_json::Value = serde_json::from_str(json).expect("JSON");
            let part = |part: &serde_json::Value| {
                let text = |field: &str| part[field].as_str().unwrap_or("").to_string();
                (
                    part["calls"].as_u64().expect("a number"),
                    text("process_name"),
                    text("thread_name"),
                )
            };
            let parts = report["functions"][0][field].as_array().expect("a list");
            let mut parts: Vec<_> = parts.iter().map(part).collect();
            parts.sort();
            parts
        };
        let parts = |all: &[(u64, &str, &str)]| -> Vec<_> {
            all.iter().map(|(calls, a, b)| (*calls, (*a).to_string(), (*b).to_string())).collect()
        };
        let expected = [
            (5, "chief", "chief"),
            (10, "chief", "returner"),
            (20, "chief", "leaver"),
            (30, "chief", "waits"),
            (40, "chief", "cancelled"),
            (50, "child", "child"),
        ];
        assert_eq!(stat("--per-thread", "threads"), parts(&expected), "{end}");
        let expected = [(50, "child", ""), (105, "chief", "")];
        assert_eq!(stat("--per-process", "processes"), parts(&expected), "{end}");
    }
}

#[test]
fn functions_with_few_calls_are_left_out() {
    for options in [&["-x", ";"][..], &["-j"], &[]] {
        let all = report_text(options);
        let few = report_text(&[options, &["--min-calls", "720000"]].concat());
        assert!(
            all.contains("t_outer") && few.contains("t_outer") && few.len() < all.len(),
            "{few}"
        );
    }
}

#[test]
fn compared() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let program = Target::new("recursion.c").build();
    for (name, depth) in [("a", "99"), ("b", "199")] {
        let file = directory.path().join(name);
        let finished = run(
            trapline()
                .args(["stat", "-j", "-o"])
                .arg(&file)
                .args(["t_*", "--"])
                .arg(&program)
                .arg(depth),
            b"",
        );
        assert_eq!(finished.code, 0, "{}", finished.stderr);
    }
    let finished =
        run(trapline().args(["stat", "--diff", "a", "b"]).current_dir(directory.path()), b"");
    assert_eq!(finished.code, 0, "{}", finished.stderr);
    let text = finished.stdout + &finished.stderr;
    assert!(text.contains("t_down") && text.contains("300") && text.contains("600"), "{text}");
    let finished = run(
        trapline()
            .args(["stat", "--diff", "a", "b", "--sort", "p99", "--columns", "max"])
            .current_dir(directory.path()),
        b"",
    );
    let head: Vec<&str> =
        finished.stdout.lines().next().expect("a head").split_whitespace().collect();
    assert_eq!(head, ["max", "A", "max", "B", "p99", "A", "p99", "B", "function"]);
}

#[test]
fn no_hits_are_said_in_words() {
    let program = Target::new("ends.c").build();
    let stat = |arguments: &[&str]| {
        run(
            trapline()
                .arg("stat")
                .args(arguments)
                .args(["libc.so.6:getpriority", "--"])
                .arg(&program)
                .args(["exit", "0"]),
            b"",
        )
    };
    let finished = stat(&[]);
    assert_eq!(finished.code, 0);
    assert!(!finished.stderr.is_empty());
    assert_eq!(stat(&["--require-events"]).code, 1);
}

/// The estimate has what starting cost, also without a hit, and more with every hit.
#[test]
fn the_overhead_has_start_up_and_hits() {
    let recursion = Target::new("recursion.c").build();
    let ends = Target::new("ends.c").build();
    let overhead = |spec: &str, program: &[&std::ffi::OsStr]| {
        let finished = run(trapline().args(["stat", "-o", "-", spec, "--"]).args(program), b"");
        let text = finished.stdout + &finished.stderr;
        let line = text.lines().find(|line| line.contains("estimated overhead")).expect("a footer");
        let sum =
            line.split_once(" of the run): ").unwrap_or_else(|| panic!("{line}")).1.to_string();
        sum.split(" + ").map(str::to_string).collect::<Vec<_>>()
    };
    let none =
        overhead("libc.so.6:getpriority", &[ends.as_os_str(), "exit".as_ref(), "0".as_ref()]);
    assert!(
        none.len() == 1 && none[0].starts_with("1 x ") && none[0].ends_with(" start-up"),
        "{none:?}"
    );
    assert!(!none[0].starts_with("1 x 0 "), "{none:?}");
    let some = overhead("t_down", &[recursion.as_os_str(), "99".as_ref()]);
    assert!(
        some.len() == 2 && some[0].ends_with(" timed") && some[1].ends_with(" start-up"),
        "{some:?}"
    );
}

/// A budget for far fewer counters than there are: what does not fit is said to be lost, and the
/// program does not notice.
#[test]
fn a_budget_that_does_not_suffice() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let file = directory.path().join("report");
    let program = Target::new("panic.rs").build();
    let bare = run(&mut crate::common::process::program(&program), b"");
    let finished = run(
        trapline()
            .args(["stat", "-j", "--max-memory", "256k", "-o"])
            .arg(&file)
            .arg("--")
            .arg(&program),
        b"",
    );
    if finished.code == 125 || finished.code == 2 {
        // A budget that cannot be kept at all is refused before the program starts.
        assert!(finished.stdout.is_empty() && !finished.stderr.is_empty());
        return;
    }
    assert_eq!((finished.code, &finished.stdout), (bare.code, &bare.stdout));
    let report = Report::read(&file).expect("a report");
    assert!(
        !report.lost().is_empty() || !report.0["skipped"].as_array().is_none_or(Vec::is_empty),
        "{}",
        report.0
    );
}
