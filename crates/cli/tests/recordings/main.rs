//! `trapline record` and `trapline report` from end to end: known stacks, ends of all kinds, full
//! memory, formats, and what is refused.

#[path = "../common/mod.rs"]
mod common;

mod ends;
mod full;
mod known;
mod namespaces;
mod outputs;
mod refused;
mod threads;

use common::{Recording, Target, trapline};
use std::path::{Path, PathBuf};

/// The program whose stacks are known.
fn callers() -> PathBuf {
    Target::new("callers.c").build()
}

/// Records it.
fn record(options: &[&str], specs: &[&str], arguments: &[&str]) -> (Recording, String) {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let file = directory.path().join("recording.tlp");
    let mut command = trapline();
    command
        .args(["record", "-o"])
        .arg(&file)
        .args(options)
        .args(specs)
        .arg("--")
        .arg(callers())
        .args(arguments);
    let finished = common::process::run(&mut command, b"");
    assert_eq!(finished.code, 0, "{}", finished.stderr);
    (read(&file), finished.stderr)
}

fn read(file: &Path) -> Recording {
    let recording = Recording::read(file).unwrap_or_else(|error| panic!("{error}"));
    recording.report().unwrap_or_else(|error| panic!("{error}"));
    recording
}
