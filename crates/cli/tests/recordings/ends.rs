//! Ends that are not the program's own: killed programs, a killed trapline, ^C.

use super::{callers, read};
use crate::common::process::{send_signal, start, wait_until};
use crate::common::{Recording, trapline};
use std::io::Read;
use std::path::Path;

/// Waits until the program has said that it runs.
fn until_it_runs(running: &mut crate::common::process::Running) {
    let mut said = [0; 8];
    running.child.stdout.as_mut().expect("piped").read_exact(&mut said).expect("it says so");
    assert_eq!(&said, b"running\n");
}

fn hits(recording: &Recording) -> u64 {
    recording.calls(|names| {
        names.ends_with(&["main".to_owned(), "t_one".to_owned(), "t_leaf".to_owned()])
    })
}

#[test]
fn a_program_that_is_killed() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let file = directory.path().join("a.tlp");
    let mut command = trapline();
    command.args(["record", "t_leaf", "-o"]).arg(&file).arg("--").arg(callers()).arg("die");
    let finished = crate::common::process::run(&mut command, b"");
    assert_eq!(finished.code, 137, "{}", finished.stderr);
    let recording = read(&file);
    assert_eq!(hits(&recording), 100_001);
    assert_eq!(recording.0["header"]["exit_code"], 137);
}

#[test]
fn the_recording_is_written_at_interrupt_and_the_program_goes_on() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let file = directory.path().join("a.tlp");
    let mut command = trapline();
    command.args(["record", "t_leaf", "-o"]).arg(&file).arg("--").arg(callers()).arg("forever");
    let mut running = start(&mut command);
    until_it_runs(&mut running);
    // To trapline alone, as `kill -INT` does.
    send_signal(running.id(), libc::SIGINT);
    wait_until("the recording is written", || file.exists());
    assert!(hits(&read(&file)) >= 100_001);
    assert!(
        running.child.try_wait().expect("ours").is_none(),
        "the program goes on, and trapline with it"
    );
}

/// Everything is in the segment: it can be reported while the program runs, and after both were
/// killed.
#[test]
fn a_trapline_that_is_killed() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let segment = directory.path().join("segment");
    let mut command = trapline();
    command
        .args(["record", "t_leaf", "--segment"])
        .arg(&segment)
        .arg("-o")
        .arg(directory.path().join("never.tlp"));
    command.arg("--").arg(callers()).arg("forever");
    let mut running = start(&mut command);
    until_it_runs(&mut running);
    let first = hits(&report(&segment, directory.path()));
    assert!(first >= 100_001, "{first} hits while it runs");
    // Trapline alone: the program is its child, in the same group, and goes on.
    send_signal(running.id(), libc::SIGKILL);
    let _ = running.child.wait();
    wait_until("the program goes on", || hits(&report(&segment, directory.path())) > first);
    crate::common::process::kill_group(running.id());
    let recording = report(&segment, directory.path());
    assert!(hits(&recording) > first);
    assert_eq!(recording.0["header"]["recovered"], true);
    assert_eq!(recording.0["header"]["specs"][0], "t_leaf");
    assert_eq!(recording.0["functions"][0]["name"], "t_leaf");
    assert!(!directory.path().join("never.tlp").exists());
}

/// A segment as a recording.
fn report(segment: &Path, directory: &Path) -> Recording {
    let file = directory.join("recovered.tlp");
    let mut command = trapline();
    command.arg("report").arg(segment).arg("-o").arg(&file);
    let finished = crate::common::process::run(&mut command, b"");
    assert_eq!(finished.code, 0, "{}", finished.stderr);
    read(&file)
}
