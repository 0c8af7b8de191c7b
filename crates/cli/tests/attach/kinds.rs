//! Every kind of program, with many threads: exact counts of what it did while it was attached.

use super::running::{Attached, Kind, Process};

const THREADS: usize = 20;

#[test]
fn all_that_is_done_meanwhile_is_counted_and_nothing_else() {
    for kind in Kind::ALL {
        let Some(program) = kind.build() else { continue };
        let mut process = Process::start(&program, THREADS);
        let before = process.code();
        process.tell("w 100");
        let pid = process.pid().to_string();
        let attached = Attached::to(&["-p", &pid, "t_work"]);
        let own = process.tell("w 1000") + process.tell("f 500") + process.tell("w 1");
        assert_eq!(own, THREADS as u64 * 1501, "{kind:?}");
        let (report, finished) = attached.interrupt();
        assert_eq!(finished.code, 0, "{kind:?}: {}", finished.stderr);
        assert_eq!(report.calls("t_work"), own, "{kind:?}: {}", finished.stderr);
        assert_eq!(report.0["attached"][0]["process"].as_i64(), Some(process.pid().into()));
        assert_eq!(report.0["attached"][0]["after"], "running", "{kind:?}");
        assert_eq!(process.code(), before, "{kind:?}: its code is as before");
        process.tell("w 100");
        process.end();
    }
}

/// Entered and left at any moment, while all threads run through the function.
#[test]
fn threads_that_run_are_counted_and_go_on() {
    for kind in Kind::ALL {
        let Some(program) = kind.build() else { continue };
        let mut process = Process::start(&program, THREADS);
        let pid = process.pid().to_string();
        process.tell("r");
        let attached = Attached::to(&["-p", &pid, "-d", "100ms", "t_work"]);
        let (report, finished) = attached.finish();
        assert_eq!(finished.code, 0, "{kind:?}: {}", finished.stderr);
        let own = process.tell("s");
        let counted = report.calls("t_work");
        assert!(0 < counted && counted <= own, "{kind:?}: {counted} of {own}");
        process.end();
    }
}

/// All functions of the program and its libraries.
#[test]
fn everything() {
    let Some(program) = Kind::Dynamic.build() else { return };
    let mut process = Process::start(&program, THREADS);
    let pid = process.pid().to_string();
    let attached = Attached::to(&["-p", &pid, "*", "libc:*"]);
    let own = process.tell("w 100") + process.tell("f 10");
    let (report, finished) = attached.interrupt();
    assert_eq!(report.calls("t_work"), own, "{}", finished.stderr);
    assert_eq!(report.calls("in_new_threads"), 1);
    assert!(report.sum(|name| name.starts_with("pthread_create")) >= THREADS as u64);
    process.end();
}
