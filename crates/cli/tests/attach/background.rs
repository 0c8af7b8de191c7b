//! Probes that stay when the command line has ended: `attach`, `ps`, `stat --attached`, `detach`.

use super::common::Target;
use super::common::process::{Finished, Running, run, send_signal, start, trapline, wait_until};
use super::running::{Attached, Kind, Process, has_more_jumps};
use serde_json::Value;
use std::fs;

fn process(kind: Kind) -> Option<Process> {
    let mut process = Process::start(&kind.linked(Target::new("chain.c"))?.build(), 0);
    // It has begun.
    process.tell("w 1");
    Some(process)
}

/// Trapline, to its end.
fn trapline_with(arguments: &[&str]) -> Finished {
    run(trapline().args(arguments), b"")
}

/// As [`trapline_with`], and well.
fn well(arguments: &[&str]) -> Finished {
    let finished = trapline_with(arguments);
    assert_eq!(finished.code, 0, "{arguments:?}: {}", finished.stderr);
    finished
}

/// What `ps` says of a process.
fn listed(pid: &str) -> Option<Value> {
    let text = well(&["ps", "-j"]).stdout;
    let rows = text.lines().map(|line| serde_json::from_str::<Value>(line).expect("JSON"));
    let pid: u32 = pid.parse().expect("a number");
    rows.into_iter().find(|row| row["process"] == pid)
}

fn calls(report: &str, function: &str) -> Option<u64> {
    let report: Value = serde_json::from_str(report).expect("JSON");
    let rows = report["functions"].as_array()?;
    rows.iter().find(|row| row["name"] == function)?["calls"].as_u64()
}

/// How many calls of a function that has times still run.
fn running(report: &str, function: &str) -> Option<u64> {
    let report: Value = serde_json::from_str(report).expect("JSON");
    let rows = report["functions"].as_array()?;
    let row = rows.iter().find(|row| row["name"] == function)?;
    row["total_ns"].as_u64().filter(|total| *total > 0).and(row["running"].as_u64())
}

fn descriptors(process: &Process) -> Vec<u32> {
    let entries = fs::read_dir(format!("/proc/{}/fd", process.pid())).expect("it runs");
    let number = |entry: fs::DirEntry| entry.file_name().to_str()?.parse().ok();
    entries.flatten().filter_map(number).collect()
}

#[test]
fn probes_stay_and_are_taken_back() {
    for kind in Kind::ALL {
        let Some(mut process) = process(kind) else { continue };
        let pid = process.pid().to_string();
        let (before, had) = (process.code(), descriptors(&process));
        let said = well(&["attach", &pid, "t_*"]).stderr;
        assert!(said.contains("4 functions"), "{kind:?}: {said}");
        process.tell("w 100");
        process.tell("c 10");
        let row = listed(&pid).expect("armed");
        assert_eq!((row["hits"].as_u64(), row["functions"].as_u64()), (Some(660), Some(4)));
        assert_eq!((row["lost"].as_u64(), row["background"].as_bool()), (Some(0), Some(true)));
        assert!(row["memory"].as_u64() > Some(1 << 20) && row["trapline"].is_null(), "{row}");
        let report = well(&["stat", "--attached", &pid, "-j", "--per-process"]).stdout;
        assert_eq!(calls(&report, "t_leaf"), Some(330), "{kind:?}: {report}");
        process.tell("w 5");
        let report = well(&["detach", &pid, "-j"]).stdout;
        assert_eq!(calls(&report, "t_leaf"), Some(345), "{kind:?}: {report}");
        assert_eq!(calls(&report, "t_outer"), Some(115), "{kind:?}: {report}");
        assert_eq!(running(&report, "t_outer"), Some(0), "{kind:?}: {report}");
        assert_eq!(descriptors(&process), had, "{kind:?}");
        assert!(process.code() == before, "{kind:?}: its code is as before");
        assert_eq!(listed(&pid), None);
        process.tell("w 100");
        process.end();
    }
}

/// New descriptors are the ones that the program would get anyway.
#[test]
fn descriptors_are_out_of_the_way() {
    let Some(process) = process(Kind::Dynamic) else { return };
    let pid = process.pid().to_string();
    let had = descriptors(&process);
    well(&["attach", &pid, "t_leaf"]);
    let more: Vec<u32> = descriptors(&process).into_iter().filter(|n| !had.contains(n)).collect();
    assert!(more.len() == 2 && more.iter().all(|n| *n > 100), "{more:?}");
    well(&["detach", &pid]);
    process.end();
}

#[test]
fn others_do_not_take_over_what_is_to_stay() {
    let Some(mut process) = process(Kind::Dynamic) else { return };
    let pid = process.pid().to_string();
    well(&["attach", &pid, "t_leaf", "-e", "t_first"]);
    process.tell("w 10");
    for arguments in [&["stat", "-p", &pid, "t_leaf"], &["attach", &pid, "t_leaf", "--force"]] {
        let refused = trapline_with(&arguments[..]);
        assert_eq!(refused.code, 125);
        assert!(refused.stderr.contains("in the background"), "{}", refused.stderr);
    }
    let report = well(&["detach", &pid, "-j"]).stdout;
    assert_eq!((calls(&report, "t_leaf"), calls(&report, "t_first")), (Some(30), Some(10)));
    // And now somebody else may.
    let attached = Attached::to(&["-p", &pid, "t_leaf"]);
    process.tell("w 10");
    assert_eq!(listed(&pid).expect("armed")["background"], false);
    let (code, said) = (trapline_with(&["detach", &pid]).code, process.tell("w 1"));
    assert_eq!((code, said), (125, 1), "it is being used");
    let (report, finished) = attached.interrupt();
    assert_eq!(report.calls("t_leaf"), 33, "{}", finished.stderr);
    process.end();
}

/// kill -9 of the command line: the process goes on, is seen, and gets its code back.
#[test]
fn what_a_killed_trapline_has_left() {
    for kind in Kind::ALL {
        let Some(mut process) = process(kind) else { continue };
        let pid = process.pid().to_string();
        let before = process.code();
        let attached = Attached::to(&["-p", &pid, "t_leaf"]);
        process.tell("w 10");
        attached.kill();
        process.tell("w 10");
        assert!(has_more_jumps(&before, &process.code()));
        let row = listed(&pid).expect("armed");
        assert!(row["trapline"].is_null() && row["background"] == false, "{kind:?}: {row}");
        let finished = well(&["detach", &pid]);
        assert!(finished.stderr.contains("detached from"), "{}", finished.stderr);
        assert!(!has_more_jumps(&before, &process.code()), "{kind:?}");
        assert_eq!(listed(&pid), None, "{kind:?}");
        process.end();
    }
}

/// `attach` is killed at any moment: the process is as before, or armed and detached.
#[test]
fn attach_is_killed() {
    let Some(mut process) = process(Kind::Dynamic) else { return };
    let pid = process.pid().to_string();
    let before = process.code();
    for round in 0..20 {
        let running: Running = start(trapline().args(["attach", &pid, "t_leaf"]));
        std::thread::sleep(std::time::Duration::from_millis(5 * round));
        send_signal(running.id(), libc::SIGKILL);
        running.finish(b"");
        process.tell("w 10");
        if listed(&pid).is_some() {
            well(&["detach", &pid]);
        }
        assert!(!has_more_jumps(&before, &process.code()), "round {round}");
    }
    process.end();
}

#[test]
fn ends_and_mistakes() {
    let Some(process) = process(Kind::Dynamic) else { return };
    let pid = process.pid().to_string();
    let not = trapline_with(&["detach", &pid]);
    assert!(not.code == 125 && not.stderr.contains("has no probes in it"), "{}", not.stderr);
    let not = trapline_with(&["stat", "--attached", &pid]);
    assert!(not.code == 125 && not.stderr.contains("has no probes in it"), "{}", not.stderr);
    let nothing = trapline_with(&["attach", &pid, "nosuchfunction"]);
    assert_eq!(nothing.code, 2, "{}", nothing.stderr);
    assert_eq!(trapline_with(&["attach", "x", "f"]).code, 2);
    assert_eq!(trapline_with(&["attach"]).code, 2);
    well(&["attach", &pid, "t_leaf"]);
    process.end();
    wait_until("gone", || listed(&pid).is_none());
    let gone = trapline_with(&["detach", &pid]);
    assert!(gone.code == 125 && gone.stderr.contains("there is no process"), "{}", gone.stderr);
}

/// By name, several at once.
#[test]
fn by_name() {
    let folder = tempfile::tempdir().expect("a directory");
    let program = folder.path().join("tr-by-name");
    let built = Kind::Dynamic.linked(Target::new("chain.c")).expect("gcc is there").build();
    fs::copy(built, &program).expect("room");
    let [mut one, mut two] = [0, 1].map(|_| Process::start(&program, 0));
    let pids = [one.pid().to_string(), two.pid().to_string()];
    one.tell("w 1");
    two.tell("w 1");
    well(&["attach", "--comm", "tr-by-name", "t_leaf"]);
    one.tell("w 10");
    two.tell("w 20");
    let reports = well(&["detach", &pids[0], &pids[1], "-j"]).stdout;
    let counted: Vec<_> = reports.lines().map(|report| calls(report, "t_leaf")).collect();
    assert_eq!(counted, [Some(30), Some(60)]);
    one.end();
    two.end();
}
