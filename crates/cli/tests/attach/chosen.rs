//! Which processes and which functions are meant.

use super::common::build;
use super::running::{Attached, Kind, Process, trapline_with};
use std::fs;
use std::process::Command;

#[test]
fn several_processes_are_counted_apart_and_together() {
    let (Some(first), Some(second)) = (Kind::Dynamic.build(), Kind::Static.build()) else { return };
    let mut processes =
        [Process::start(&first, 2), Process::start(&first, 3), Process::start(&second, 4)];
    let pids: Vec<String> = processes.iter().map(|process| process.pid().to_string()).collect();
    let attached =
        Attached::to(&["-p", &pids[..2].join(","), "-p", &pids[2], "--per-process", "t_work"]);
    let own = processes.each_mut().map(|process| process.tell("w 10"));
    assert_eq!(own, [20, 30, 40]);
    let (report, finished) = attached.interrupt();
    assert_eq!(report.sum(|name| name == "t_work"), 90, "{}", finished.stderr);
    // Two programs: each is the main program of its process.
    assert_eq!(report.functions().len(), 2);
    let mut counted: Vec<(u64, u64)> = Vec::new();
    for function in report.functions() {
        let parts = function["processes"].as_array().expect("parts");
        let number = |part: &serde_json::Value, name: &str| part[name].as_u64().expect("a number");
        counted.extend(parts.iter().map(|part| (number(part, "process"), number(part, "calls"))));
    }
    counted.sort_unstable();
    let mut expected: Vec<(u64, u64)> =
        pids.iter().map(|pid| pid.parse().expect("a number")).zip(own).collect();
    expected.sort_unstable();
    assert_eq!(counted, expected);
    for process in processes {
        process.end();
    }
}

#[test]
fn by_name() {
    let Some(program) = Kind::StaticPie.build() else { return };
    let directory = tempfile::tempdir().expect("a directory");
    let named = directory.path().join("trapline-by-name");
    build::copy(&program, &named);
    let mut process = Process::start(&named, 2);
    for arguments in [["--name", "trapline-by-*"], ["--comm", "trapline-by-nam"]] {
        let attached = Attached::to(&[arguments[0], arguments[1], "trapline-by-name:t_work"]);
        let own = process.tell("w 10");
        let (report, finished) = attached.interrupt();
        assert_eq!(report.calls("t_work"), own, "{}", finished.stderr);
    }
    process.end();
}

/// What matches nothing is said before anything is touched.
#[test]
fn specs_that_mean_nothing() {
    let Some(program) = Kind::Dynamic.build() else { return };
    let process = Process::start(&program, 2);
    let pid = process.pid().to_string();
    let all = format!("to see all: trapline list -p {pid}");
    for (spec, said) in [("t_wrok", "did you mean"), ("nothinglikethat", &all)] {
        let refused = trapline_with(&["stat", "-p", &pid, spec]);
        assert_eq!(refused.code, 2, "{}", refused.stderr);
        assert!(refused.stderr.contains(said), "{}", refused.stderr);
        assert_eq!(refused.stderr.lines().count(), 1);
    }
    let maps = fs::read_to_string(format!("/proc/{pid}/maps")).expect("it runs");
    assert!(!maps.contains("memfd"), "{maps}");
    process.end();
}

#[test]
fn what_there_is_in_a_process() {
    let Some(program) = Kind::Dynamic.build() else { return };
    let process = Process::start(&program, 2);
    let pid = process.pid().to_string();
    let listed = trapline_with(&["list", "-p", &pid, "t_*", "libc:malloc"]);
    let lines: Vec<&str> = listed.stdout.lines().collect();
    assert_eq!(lines, ["running:t_work", "libc.so.6:malloc"], "{}", listed.stderr);
    let doctor = trapline_with(&["doctor", &pid]);
    assert_eq!(doctor.code, 0, "{}", doctor.stdout);
    let open = format!("trapline stat -p {pid} SPEC");
    assert!(doctor.stdout.contains(&open), "{}", doctor.stdout);
    process.end();
}

/// The file is found that the process has, whatever has its name by now.
#[test]
fn a_program_whose_file_is_gone() {
    let Some(program) = Kind::Dynamic.build() else { return };
    let directory = tempfile::tempdir().expect("a directory");
    let gone = directory.path().join("gone");
    build::copy(&program, &gone);
    let mut process = Process::start(&gone, 2);
    fs::remove_file(&gone).expect("ours");
    build::copy("/bin/true", &gone);
    let attached = Attached::to(&["-p", &process.pid().to_string(), "t_work"]);
    let own = process.tell("w 10");
    let (report, finished) = attached.interrupt();
    assert_eq!(report.calls("t_work"), own, "{}", finished.stderr);
    process.end();
}

/// In namespaces of its own, with a root directory that has nothing but the program: no /proc.
#[test]
fn a_program_in_a_sandbox() {
    let Some(program) = Kind::Static.build() else { return };
    let root = tempfile::tempdir().expect("a directory");
    build::copy(&program, root.path().join("inside"));
    let sandbox = || {
        let mut command = Command::new("unshare");
        command.args(["-Urm", "chroot"]).arg(root.path());
        command
    };
    let possible = sandbox().args(["/inside", "1"]).stdin(std::process::Stdio::null()).output();
    if !possible.is_ok_and(|output| output.status.code() == Some(7)) {
        return super::common::missing::missing("a user namespace");
    }
    let mut command = sandbox();
    command.arg("/inside");
    let mut process = Process::start_by(command, 3);
    let pid = process.pid().to_string();
    for _ in 0..2 {
        let attached = Attached::to(&["-p", &pid, "inside:t_work"]);
        let own = process.tell("w 10") + process.tell("f 10");
        let (report, finished) = attached.interrupt();
        assert_eq!(report.calls("t_work"), own, "{}", finished.stderr);
    }
    process.end();
}
