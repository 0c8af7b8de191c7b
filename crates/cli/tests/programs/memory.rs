//! Memory that is bounded, whatever runs.

use crate::common::process::{Finished, is_root, program, run, trapline};
use crate::common::{Mode, Report, Target, tools};
use serde_json::Value;
use std::collections::HashSet;
use std::path::Path;

const MIB: u64 = 1 << 20;

/// Runs `command` in a shell with a mount namespace of its own, in which `mounts` were made.
/// `None`: there can be none.
fn with_mounts(mounts: &str, command: &str, variables: &[(&str, &Path)]) -> Option<Finished> {
    let own: &[&str] = if is_root() { &["-m"] } else { &["-Urm"] };
    if tools::find("unshare").is_none()
        || run(program("unshare").args(own).arg("true"), b"").code != 0
    {
        tools::missing("a mount namespace");
        return None;
    }
    let mut shell = program("unshare");
    shell.args(own).args(["sh", "-c"]).arg(format!("{mounts} && {command}"));
    shell.env("TRAPLINE", env!("CARGO_BIN_EXE_trapline")).envs(variables.iter().copied());
    Some(run(&mut shell, b""))
}

/// The tables of processes that are gone are used again, also of those that were killed: memory is
/// that of the few that live at one time.
#[test]
fn processes_one_after_the_other() {
    let target = Target::new("many_processes.c");
    let specs = ["t_*".to_string()];
    let bytes = |processes: &str| {
        let case = target.case().arg(processes);
        let (finished, report) = case.probed(&specs);
        let report = report.expect("a report");
        let n: u64 = processes.parse().expect("a number");
        assert_eq!(finished.stdout, case.bare().stdout, "{}", finished.stderr);
        assert_eq!(
            (report.calls("t_work"), report.calls("t_done"), report.lost()),
            (3 * n, n, Vec::new())
        );
        assert_eq!(report.0["processes"], n + 1);
        report.0["agent_bytes"].as_u64().expect("a number")
    };
    let (few, many) = (bytes("50"), bytes("5000"));
    // The table of processes' names is what grows, up to its size: 4,096 of 256 bytes.
    assert!(many <= few + 3 * MIB / 2, "{few} bytes for 50 processes, {many} for 5,000");
    target.case().arg("100").modes(&[Mode::Recorded, Mode::RecordedTime, Mode::WithLibc]).check();
}

/// Where the counts of threads are kept apart they are, and each thread has its row; memory is that
/// of the threads that there are.
#[test]
fn ended_threads_keep_their_rows() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let file = directory.path().join("report");
    let program = Target::new("many_processes.c").build();
    let mut command = trapline();
    command
        .args(["stat", "-j", "--per-thread", "-o"])
        .arg(&file)
        .arg("t_*")
        .arg("--")
        .arg(&program)
        .arg("3000");
    let finished = run(&mut command, b"");
    assert_eq!(finished.code, 0, "{}", finished.stderr);
    let report = Report::read(&file).expect("a report");
    assert_eq!((report.calls("t_work"), report.lost()), (9000, Vec::new()));
    let work = report.functions().iter().find(|f| f["name"] == "t_work").expect("it was called");
    let rows = work["threads"].as_array().expect("rows");
    let sum: u64 = rows.iter().map(|row| row["calls"].as_u64().expect("a number")).sum();
    assert_eq!(sum, 9000);
    assert!(rows.len() > 1000, "{} rows of 3,000 processes", rows.len());
    assert!(
        rows.iter().all(|row| row["calls"].as_u64().is_some_and(|n| n.is_multiple_of(3))),
        "whole processes"
    );
}

/// Docker's /dev/shm of 64 MiB, and one of nothing: nobody dies, nothing is lost, nothing stays
/// there.
#[test]
fn a_small_dev_shm_is_no_limit() {
    let target = Target::new("many_at_once.c").build();
    let directory = tempfile::tempdir().expect("a temporary directory");
    let report = directory.path().join("report");
    for size in ["64m", "8k"] {
        let mounts = format!("mount -t tmpfs -o size={size} tmpfs /dev/shm");
        let command = r#""$TRAPLINE" stat -j -o "$REPORT" t_* -- "$TARGET" 1000 && ls -A /dev/shm"#;
        let Some(done) = with_mounts(&mounts, command, &[("TARGET", &target), ("REPORT", &report)])
        else {
            return;
        };
        assert_eq!(
            (done.code, done.stdout.as_str(), done.stderr.as_str()),
            (0, "fine: 1000 threads\n", ""),
            "{size}"
        );
        let report = Report::read(&report).expect("a report");
        assert_eq!(
            (report.sum(|name| name.starts_with("t_f")), report.lost()),
            (40_000, Vec::new()),
            "{size}"
        );
    }
}

/// A segment in a file for which there is no room: what does not fit is lost for want of memory, or
/// the run is refused before the program starts; nobody is killed by touching what is not there.
#[test]
fn a_full_file_system_is_survived() {
    let target = Target::new("many_at_once.c").build();
    for (size, fits) in [("24m", true), ("2m", false)] {
        let mounts = format!("mount -t tmpfs -o size={size} tmpfs /mnt");
        let options =
            "--weight time --stack-memory 256k --segment /mnt/segment -o /dev/null -f folded";
        let command = format!(
            r#""$TRAPLINE" record {options} t_* -- "$TARGET" 1000; echo $?; df /mnt | tail -n 1"#
        );
        let Some(done) = with_mounts(&mounts, &command, &[("TARGET", &target)]) else { return };
        let said = format!("{size}\n{}\n{}", done.stdout, done.stderr);
        if fits {
            assert!(done.stdout.starts_with("fine: 1000 threads\n0\n"), "{said}");
            let lost = done.stderr.lines().find(|line| line.contains("lost: ")).unwrap_or_default();
            assert!(lost.contains("memory ") && !lost.contains("memory 0"), "{said}");
        } else {
            assert!(done.stdout.starts_with("125\n") && done.stderr.contains("no room"), "{said}");
        }
    }
}

/// What the program allows itself is its own, but for little; threads and children are counted
/// under its limits.
#[test]
fn address_space_is_the_programs() {
    let modes = [Mode::Counted, Mode::Timed, Mode::WithLibc, Mode::Recorded];
    Target::new("self_limited.c").case().modes(&modes).check();
}

/// A program that locks all its memory locks little of ours: what is used, not what may be. (Not
/// root, and with 8 MiB to lock, it cannot lock any, probed or not.)
#[test]
fn locked_memory_is_what_is_used() {
    if !is_root() {
        return;
    }
    Target::new("locks_all.c").case().modes(&[Mode::Counted, Mode::Timed, Mode::Recorded]).check();
}

/// `--max-memory` holds, and says what it costs; one that cannot work is refused.
#[test]
fn the_budget() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let file = directory.path().join("report");
    let target = Target::new("many_at_once.c").build();
    let with = |budget: &str| {
        let mut command = trapline();
        command
            .args(["stat", "-j", "--max-memory", budget, "-o"])
            .arg(&file)
            .arg("t_*")
            .arg("--")
            .arg(&target)
            .arg("500");
        run(&mut command, b"")
    };
    let done = with("16M");
    assert_eq!((done.code, done.stdout.as_str()), (0, "fine: 500 threads\n"), "{}", done.stderr);
    let report = Report::read(&file).expect("a report");
    let counted = report.sum(|name| name.starts_with("t_f"));
    let [(reason, lost)] = report.lost()[..].to_vec().try_into().expect("one reason");
    let bytes = report.0["agent_bytes"].as_u64().expect("a number");
    assert_eq!((reason.as_str(), counted + lost), ("memory", 20_000));
    assert!(counted > 1000 && bytes <= 16 * MIB + MIB / 4, "{counted} counted in {bytes} bytes");
    let refused = with("1M");
    assert!(
        refused.code != 0 && refused.stdout.is_empty() && refused.stderr.contains("--max-memory"),
        "{}",
        refused.stderr
    );
}

/// A library of 40,000 functions that is opened while the program runs: all are counted, exactly.
/// Where the budget has no room for them, those that are left out are named one by one, with their
/// object and what to do about it, and the budget holds.
#[test]
fn functions_of_objects_opened_later() {
    const FUNCTIONS: usize = 40_000;
    let library = Target::new("many_functions.c").shared().named("libmany.so").build();
    let case = Target::new("opens_many.c").case().arg(&library);
    let number = |name: &str| name.strip_prefix("t_many_")?.parse::<u64>().ok();
    let sum: u64 = (0..FUNCTIONS as u64).map(|n| n % 7).sum();
    for (spec, budget) in [("entry:libmany.so:t_many_*", "1G"), ("libmany.so:t_many_*", "64M")] {
        let case = case.clone().env("TRAPLINE_MAX_MEMORY", budget);
        let (finished, report) = case.probed(&[spec.to_string()]);
        let report = report.expect("a report");
        let said = format!("{spec} {budget}\n{}", finished.stderr);
        assert_eq!((finished.code, finished.stdout.as_str()), (0, "fine\n"), "{said}");
        let wrong = report.functions().iter().find(|f| {
            let n = number(f["name"].as_str().expect("a name")).expect("one of ours");
            n % 7 != f["calls"].as_u64().expect("a number")
        });
        assert_eq!(wrong, None, "{said}");
        let skipped = report.0["skipped"].as_array().expect("a list");
        assert_eq!(report.armed() as usize + skipped.len(), FUNCTIONS, "{said}");
        if budget == "1G" {
            assert_eq!((skipped.len(), report.lost()), (0, Vec::new()), "{said}");
            assert_eq!(report.sum(|_| true), sum, "{said}");
            continue;
        }
        let bytes = report.0["agent_bytes"].as_u64().expect("a number");
        assert!(bytes <= 66 * MIB, "{bytes} bytes: {said}");
        assert!((1000..FUNCTIONS - 1000).contains(&skipped.len()), "{}", skipped.len());
        let names: HashSet<&str> =
            skipped.iter().map(|row| row["name"].as_str().expect("a name")).collect();
        assert_eq!(names.len(), skipped.len(), "one by one");
        let remedy = |row: &Value| {
            let reason = row["reason"].as_str().expect("a text");
            row["object"] == "libmany.so" && reason.contains("--max-memory: give it more")
        };
        assert!(skipped.iter().all(remedy), "{}", skipped[0]);
        let left: u64 = names.iter().map(|name| number(name).expect("one of ours") % 7).sum();
        assert_eq!(report.sum(|_| true) + left, sum, "{said}");
    }
}

/// Limits under which trapline cannot work are said before the program starts.
#[test]
fn limits_of_trapline_itself() {
    let program_text = "echo started";
    let under = |limit: &str| {
        let script = format!(
            r#"ulimit {limit}; exec "$TRAPLINE" stat libc:getpid -- /bin/sh -c '{program_text}'"#
        );
        let mut shell = program("sh");
        run(shell.args(["-c", &script]).env("TRAPLINE", env!("CARGO_BIN_EXE_trapline")), b"")
    };
    let files = (6..16).map(|n| (format!("-n {n}"), "ulimit -n"));
    let others = [("-f 100", "ulimit -f"), ("-d 20000", "ulimit -d"), ("-v 90000", "ulimit -v")];
    let others = others.map(|(limit, word)| (limit.to_owned(), word));
    for (limit, word) in files.chain(others) {
        let done = under(&limit);
        assert!(
            done.signal.is_none() && done.code == 125,
            "{limit}: {} {}",
            done.code,
            done.stderr
        );
        assert!(
            done.stdout.is_empty() && done.stderr.contains(word),
            "{limit}: {}{}",
            done.stdout,
            done.stderr
        );
    }
    if is_root() {
        // Root is not bounded by it.
        return;
    }
    let done = under("-u 1");
    assert!(
        done.code != 0 && done.signal.is_none() && done.stdout.is_empty(),
        "{} {}",
        done.code,
        done.stderr
    );
}
