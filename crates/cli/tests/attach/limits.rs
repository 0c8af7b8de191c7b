//! Limits of trapline's own, and of the process.
#![allow(unsafe_code)]

use super::common::process::{program, run};
use super::running::{Attached, Kind, Process, trapline_with};
use std::fs;

/// `trapline stat` for a moment, under a limit of the shell's.
fn under(limit: &str, pid: i32) -> super::common::process::Finished {
    let script = format!(r#"ulimit {limit}; exec "$TRAPLINE" stat -d 10ms -p {pid} t_work"#);
    let mut shell = program("sh");
    run(shell.args(["-c", &script]).env("TRAPLINE", env!("CARGO_BIN_EXE_trapline")), b"")
}

/// Where trapline cannot work, that is said, and the process was not touched.
#[test]
fn limits_of_traplines_own() {
    let Some(kind) = Kind::Dynamic.build() else { return };
    let mut process = Process::start(&kind, 2);
    let maps = || fs::read_to_string(format!("/proc/{}/maps", process.pid())).expect("it runs");
    let before = maps();
    for (limit, word) in [
        ("-f 100", "ulimit -f"),
        ("-d 20000", "ulimit -d"),
        ("-v 90000", "ulimit -v"),
        ("-n 8", "ulimit -n"),
    ] {
        let done = under(limit, process.pid());
        assert_eq!((done.signal, done.code), (None, 125), "{limit}: {}", done.stderr);
        assert!(done.stderr.contains(word), "{limit}: {}", done.stderr);
        assert_eq!(maps(), before, "{limit}");
    }
    // One that it may lift for itself is none: not for what it writes into the process either.
    let done = under("-S -f 100", process.pid());
    assert_eq!((done.signal, done.code), (None, 0), "{}", done.stderr);
    process.tell("w 1");
    process.end();
}

/// Sets a limit of a process; the one that it had.
fn limit(pid: i32, kind: libc::__rlimit_resource_t, most: libc::rlim_t) -> libc::rlim_t {
    let mut before = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: a place for the answer.
    let asked = unsafe { libc::prlimit(pid, kind, std::ptr::null(), &raw mut before) };
    let new = libc::rlimit { rlim_cur: most, ..before };
    // SAFETY: a limit that lives through the call.
    let set = unsafe { libc::prlimit(pid, kind, &raw const new, std::ptr::null_mut()) };
    assert_eq!((asked, set), (0, 0), "it is ours");
    before.rlim_cur
}

/// Bytes of address space.
fn size(pid: i32) -> u64 {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).expect("it runs");
    let line = status.lines().find_map(|line| line.strip_prefix("VmSize:")).expect("a size");
    line.trim().trim_end_matches(" kB").parse::<u64>().expect("a number") << 10
}

/// A program may have no long files: no function is armed whose stub would need one, and the kernel
/// does not end the program.
#[test]
fn a_process_that_may_have_no_long_files() {
    for kind in [Kind::Dynamic, Kind::Static] {
        let Some(built) = kind.build() else { continue };
        let mut process = Process::start(&built, 2);
        limit(process.pid(), libc::RLIMIT_FSIZE, 4096);
        for spec in ["t_work", "*:*"] {
            let attached = Attached::to(&["-p", &process.pid().to_string(), spec]);
            process.tell("w 10");
            let (_, finished) = attached.interrupt();
            assert_eq!(finished.code, 0, "{kind:?} {spec}: {}", finished.stderr);
        }
        process.tell("w 10");
        process.end();
    }
}

/// A segment that cannot be mapped takes nothing from the next: its blocks go where those of the
/// one before were.
#[test]
fn a_failed_run_leaves_the_places_of_the_one_before() {
    let Some(built) = Kind::Dynamic.build() else { return };
    let mut process = Process::start(&built, 4);
    let pid = process.pid();
    let one = |process: &mut Process| {
        let attached = Attached::to(&["-p", &pid.to_string(), "t_work"]);
        let own = process.tell("w 10");
        let (report, finished) = attached.interrupt();
        assert_eq!(report.calls("t_work"), own, "{}", finished.stderr);
        size(pid)
    };
    one(&mut process);
    let before = one(&mut process);
    for _ in 0..3 {
        let unlimited = limit(pid, libc::RLIMIT_AS, size(pid) + (64 << 10));
        let refused = trapline_with(&["stat", "-d", "10ms", "-p", &pid.to_string(), "t_work"]);
        limit(pid, libc::RLIMIT_AS, unlimited);
        assert_eq!(refused.code, 125, "{}", refused.stderr);
        assert_eq!(one(&mut process), before);
    }
    process.end();
}
