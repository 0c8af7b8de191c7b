//! How an attached run ends, and what comes after it.

use super::running::{Attached, Kind, Process, code, trapline_with};

/// What an earlier run has left there is used again.
#[test]
fn again_and_again() {
    for kind in [Kind::Dynamic, Kind::MuslStatic] {
        let Some(program) = kind.build() else { continue };
        let mut process = Process::start(&program, 3);
        let pid = process.pid().to_string();
        for round in 0..5 {
            let attached = Attached::to(&["-p", &pid, "t_work"]);
            let own = process.tell("w 100") + process.tell("f 10");
            let (report, finished) = attached.interrupt();
            let said = (finished.stderr, &report.0["lost"]);
            assert_eq!(report.calls("t_work"), own, "{kind:?}, round {round}: {said:?}");
            assert_eq!(process.tell("w 1"), 3);
        }
        process.end();
    }
}

/// The process goes on with the probes in it, which count for nobody; the next run takes them back.
#[test]
fn trapline_is_killed() {
    let Some(program) = Kind::Dynamic.build() else { return };
    let mut process = Process::start(&program, 5);
    let before = process.code();
    let pid = process.pid().to_string();
    let attached = Attached::to(&["-p", &pid, "t_work"]);
    process.tell("w 100");
    attached.kill();
    assert_ne!(process.code(), before, "nobody has taken them back");
    assert_eq!(process.tell("w 100") + process.tell("f 10"), 550);
    let attached = Attached::to(&["-p", &pid, "t_work"]);
    let own = process.tell("w 100") + process.tell("f 10");
    let (report, finished) = attached.interrupt();
    assert_eq!(report.calls("t_work"), own, "{}", finished.stderr);
    assert_eq!(process.code(), before);
    process.end();
}

/// Another trapline does not get into the way of one that counts.
#[test]
fn two_at_a_time() {
    let Some(program) = Kind::Dynamic.build() else { return };
    let mut process = Process::start(&program, 2);
    let pid = process.pid().to_string();
    let attached = Attached::to(&["-p", &pid, "t_work"]);
    let other = trapline_with(&["stat", "-p", &pid, "t_work"]);
    assert_eq!(other.code, 125, "{}", other.stderr);
    assert!(other.stderr.contains("counts in it: end that first"), "{}", other.stderr);
    let own = process.tell("w 100");
    let (report, _) = attached.interrupt();
    assert_eq!(report.calls("t_work"), own);
    process.end();
}

/// Its counts stay, and trapline ends.
#[test]
fn the_process_ends() {
    let Some(program) = Kind::Dynamic.build() else { return };
    let mut process = Process::start(&program, 2);
    let pid = process.pid().to_string();
    let attached = Attached::to(&["-p", &pid, "t_work"]);
    let own = process.tell("w 100");
    process.end();
    let (report, finished) = attached.finish();
    assert_eq!(finished.code, 0, "{}", finished.stderr);
    assert_eq!(report.calls("t_work"), own);
    assert_eq!(report.0["attached"][0]["after"], "ended");
}

/// `--require-events` means the same.
#[test]
fn without_hits() {
    let Some(program) = Kind::Dynamic.build() else { return };
    let process = Process::start(&program, 2);
    let pid = process.pid().to_string();
    let attached = trapline_with(&["stat", "-p", &pid, "-d", "10ms", "t_work"]);
    assert_eq!(attached.code, 0, "{}", attached.stderr);
    let line = format!("attached: 1 ({pid} running");
    assert!(attached.stderr.contains(&line), "{}", attached.stderr);
    assert_eq!(attached.stderr.matches("calls that had begun").count(), 1, "{}", attached.stderr);
    let arguments = ["stat", "-p", &pid, "-d", "10ms", "--require-events", "t_work"];
    assert_eq!(trapline_with(&arguments).code, 1);
    process.end();
}

/// They are counted, too, and get their code back.
#[test]
fn fork_children() {
    for kind in [Kind::Dynamic, Kind::Static, Kind::Musl] {
        let Some(program) = kind.build() else { continue };
        let mut process = Process::start(&program, 2);
        let before = process.code();
        let pid = process.pid().to_string();
        let attached = Attached::to(&["-p", &pid, "t_work"]);
        let own = process.tell("w 10") + process.tell("c 100") + process.tell("c 1");
        let children = process.children();
        assert_eq!(children.len(), 2);
        assert_ne!(code(children[0]), before, "{kind:?}");
        let (report, finished) = attached.interrupt();
        assert_eq!(report.calls("t_work"), own, "{kind:?}: {}", finished.stderr);
        for child in children {
            assert_eq!(code(child), before, "{kind:?}: {}", finished.stderr);
        }
        process.end();
    }
}

/// The first thread has ended before, and what the kernel shows of the process with it.
#[test]
fn a_process_without_its_first_thread() {
    for kind in [Kind::Dynamic, Kind::StaticPie, Kind::Musl] {
        let Some(program) = kind.build() else { continue };
        let mut process = Process::start(&program, 3);
        let before = process.code();
        process.tell("l");
        process.await_end_of_first_thread();
        let pid = process.pid().to_string();
        for round in 0..2 {
            let attached = Attached::to(&["-p", &pid, "t_work"]);
            let own = process.tell("w 10") + process.tell("f 10");
            let (report, finished) = attached.interrupt();
            assert_eq!(report.calls("t_work"), own, "{kind:?} {round}: {}", finished.stderr);
            assert_eq!(report.0["attached"][0]["after"], "running", "{kind:?} {round}");
            assert_eq!(process.code(), before, "{kind:?} {round}");
        }
        process.end();
    }
}
