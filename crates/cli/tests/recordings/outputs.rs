//! Formats, and `trapline report`.

use super::callers;
use crate::common::build::sources;
use crate::common::process::run;
use crate::common::{Recording, trapline};
use std::path::PathBuf;

/// Records into all formats at once.
fn all() -> (tempfile::TempDir, Vec<PathBuf>) {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let files: Vec<PathBuf> = ["a.tlp", "a.svg", "a.html", "a.folded", "a.pb.gz", "a.json"]
        .iter()
        .map(|name| directory.path().join(name))
        .collect();
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
    let starts: [&[u8]; 6] =
        [b"trapline recording 1\n", b"<?xml", b"<!doctype html>", b"", b"\x1f\x8b", b"{"];
    for (file, start) in files.iter().zip(starts) {
        let bytes =
            std::fs::read(file).unwrap_or_else(|error| panic!("{}: {error}", file.display()));
        assert!(
            bytes.to_ascii_lowercase().starts_with(start) && bytes.len() > 100,
            "{}",
            file.display()
        );
    }
}

/// What `report` makes of the recording is what `record` wrote.
#[test]
fn report_converts_as_record_does() {
    let (directory, files) = all();
    for file in &files[1..] {
        let again = directory
            .path()
            .join("again")
            .with_file_name(format!("again-{}", file.file_name().unwrap().to_str().unwrap()));
        let finished = run(trapline().arg("report").arg(&files[0]).arg("-o").arg(&again), b"");
        assert_eq!(finished.code, 0, "{}", finished.stderr);
        assert_eq!(
            std::fs::read(&again).unwrap(),
            std::fs::read(file).unwrap(),
            "{}",
            file.display()
        );
    }
}

/// Probed functions are where their source says, in the recording and in what is made of it.
#[test]
fn probed_functions_have_file_and_line() {
    let (_directory, files) = all();
    let source = std::fs::read_to_string(sources().join("callers.c")).expect("a source file");
    let recording = Recording::read(&files[0]).expect("a recording").0;
    let mut seen = Vec::new();
    for frame in recording["frames"]
        .as_array()
        .expect("frames")
        .iter()
        .filter(|frame| frame["returns"] == false)
    {
        let symbol = &frame["symbols"][0];
        let name = symbol["name"].as_str().expect("a name");
        assert!(
            symbol["file"].as_str().is_some_and(|file| file.ends_with("/callers.c")),
            "{symbol}"
        );
        let line = symbol["line"].as_u64().expect("a line") as usize;
        // The line of the head or, where the compiler begins with the body, one right below.
        let text: Vec<&str> = source.lines().skip(line.saturating_sub(4)).take(4).collect();
        assert!(text.concat().contains(&format!("{name}(")), "{name} at line {line}: {text:?}");
        seen.push(name);
    }
    seen.sort_unstable();
    assert_eq!(seen, ["t_deep", "t_leaf", "t_one", "t_two"]);
    // No frame of t_leaf but that of its probe: it calls nothing.
    let page = std::fs::read_to_string(&files[2]).expect("a page");
    let data = page
        .split_once("id=\"data\">")
        .and_then(|(_, rest)| rest.split_once("</script>"))
        .expect("data")
        .0;
    let data: serde_json::Value = serde_json::from_str(data).expect("JSON");
    let names = data["functions"]["name"].as_array().expect("names");
    let leaf = names.iter().position(|name| name == "t_leaf").expect("a function");
    assert!(
        data["functions"]["file"][leaf].as_str().is_some_and(|file| file.ends_with("/callers.c"))
    );
    let nodes = data["tree"]["function"].as_array().expect("nodes");
    let first = nodes.iter().position(|function| function == leaf).expect("a node");
    assert!(data["tree"]["first_line"][first].as_u64().is_some_and(|line| line > 0));
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
    assert!(
        table.contains("lost: 0") && table.contains("no stack: 0") && table.contains("armed:"),
        "{table}"
    );
    let tree = report(&["--tree", "--min-percent", "0"]);
    let (one, leaf) =
        (tree.find("t_one").expect("in the tree"), tree.rfind("t_leaf").expect("in the tree"));
    assert!(one < leaf, "{tree}");
    let callers = report(&["--callers", "t_leaf"]);
    assert!(callers.contains("t_two") && callers.contains("main"), "{callers}");
    let callees = report(&["--callees", "t_two"]);
    assert!(callees.contains("t_leaf") && !callees.contains("t_deep"), "{callees}");
    let json: serde_json::Value = serde_json::from_str(&report(&["-j"])).expect("one JSON object");
    assert_eq!(
        (&json["hits"], &json["unit"]),
        (&serde_json::json!(27 + 10 + 7 + 63), &serde_json::json!("calls"))
    );
}
