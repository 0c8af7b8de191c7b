//! Formats, and `trapline report`.

use super::callers;
use crate::common::process::run;
use crate::common::trapline;
use std::path::PathBuf;

/// Records into all formats at once.
fn all() -> (tempfile::TempDir, Vec<PathBuf>) {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let files: Vec<PathBuf> =
        ["a.tlp", "a.svg", "a.html", "a.folded", "a.pb.gz", "a.json"].iter().map(|name| directory.path().join(name)).collect();
    let mut command = trapline();
    command.args(["record", "t_*"]);
    files.iter().for_each(|file| _ = command.arg("-o").arg(file));
    let finished = run(command.arg("--").arg(callers()), b"");
    assert_eq!((finished.code, finished.stdout.as_str()), (0, "sum 236\n"), "{}", finished.stderr);
    (directory, files)
}

#[test]
fn every_format_at_once() {
    let (_directory, files) = all();
    let starts: [&[u8]; 6] = [b"trapline recording 1\n", b"<?xml", b"<!doctype html>", b"", b"\x1f\x8b", b"{"];
    for (file, start) in files.iter().zip(starts) {
        let bytes = std::fs::read(file).unwrap_or_else(|error| panic!("{}: {error}", file.display()));
        assert!(bytes.to_ascii_lowercase().starts_with(start) && bytes.len() > 100, "{}", file.display());
    }
}

/// What `report` makes of the recording is what `record` wrote.
#[test]
fn report_converts_as_record_does() {
    let (directory, files) = all();
    for file in &files[1..] {
        let again = directory.path().join("again").with_file_name(format!("again-{}", file.file_name().unwrap().to_str().unwrap()));
        let finished = run(trapline().arg("report").arg(&files[0]).arg("-o").arg(&again), b"");
        assert_eq!(finished.code, 0, "{}", finished.stderr);
        assert_eq!(std::fs::read(&again).unwrap(), std::fs::read(file).unwrap(), "{}", file.display());
    }
}

#[test]
fn tables_and_trees() {
    let (_directory, files) = all();
    let report = |options: &[&str]| {
        let finished = run(trapline().arg("report").args(options).arg(&files[0]), b"");
        assert_eq!(finished.code, 0, "{}", finished.stderr);
        finished.stdout
    };
    let table = report(&[]);
    assert!(table.lines().any(|line| line.ends_with(" t_leaf") && line.contains("27")), "{table}");
    assert!(table.contains("lost: 0") && table.contains("no stack: 0") && table.contains("armed:"), "{table}");
    let tree = report(&["--tree", "--min-percent", "0"]);
    let (one, leaf) = (tree.find("t_one").expect("in the tree"), tree.rfind("t_leaf").expect("in the tree"));
    assert!(one < leaf, "{tree}");
    let callers = report(&["--callers", "t_leaf"]);
    assert!(callers.contains("t_two") && callers.contains("main"), "{callers}");
    let callees = report(&["--callees", "t_two"]);
    assert!(callees.contains("t_leaf") && !callees.contains("t_deep"), "{callees}");
    let json: serde_json::Value = serde_json::from_str(&report(&["-j"])).expect("one JSON object");
    assert_eq!((&json["hits"], &json["unit"]), (&serde_json::json!(27 + 10 + 7 + 63), &serde_json::json!("calls")));
}
