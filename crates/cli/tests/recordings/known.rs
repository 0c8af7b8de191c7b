//! A program whose every stack is known.

use super::{callers, read, record};
use crate::common::{Recording, trapline};

/// Calls of the stacks that end like this, and that begin where programs begin.
fn ending(recording: &Recording, tail: &[&str]) -> u64 {
    recording.calls(|names| {
        let own: Vec<&str> =
            names.iter().skip_while(|name| *name != "main").map(String::as_str).collect();
        names.first().is_some_and(|first| first == "_start") && own == tail
    })
}

#[test]
fn every_stack_with_its_count() {
    let deep: Vec<&str> = ["main"].into_iter().chain(["t_deep"; 21]).chain(["t_leaf"]).collect();
    for options in [
        &[][..],
        &["--stack", "fp"],
        &["--weight", "time"],
        &["--on-full", "evict"],
        &["--stack", "dwarf:254"],
    ] {
        let (recording, _) = record(options, &["t_leaf"], &[]);
        assert_eq!(ending(&recording, &["main", "t_one", "t_leaf"]), 10, "{options:?}");
        assert_eq!(ending(&recording, &["main", "t_two", "t_leaf"]), 14, "{options:?}");
        assert_eq!(ending(&recording, &deep), 3, "{options:?}");
        assert_eq!(recording.calls(|_| true), 27, "{options:?}");
        assert_eq!(recording.stacks().len(), 4, "t_two calls from two places");
        assert!(recording.cuts().is_empty(), "{options:?}: {:?}", recording.cuts());
    }
}

/// With everything on the way probed at its return, stacks are the same.
#[test]
fn through_return_probes() {
    let (recording, _) = record(&["--weight", "time"], &["t_*", "main"], &[]);
    let deep: Vec<&str> = ["main"].into_iter().chain(["t_deep"; 21]).chain(["t_leaf"]).collect();
    assert_eq!(ending(&recording, &["main", "t_one", "t_leaf"]), 10);
    assert_eq!(ending(&recording, &["main", "t_two", "t_leaf"]), 14);
    assert_eq!(ending(&recording, &deep), 3);
    assert_eq!(ending(&recording, &["main", "t_one"]), 10);
    assert_eq!(ending(&recording, &["main"]), 1);
    assert_eq!(recording.calls(|_| true), 27 + 10 + 7 + 3 * 21 + 1);
    assert!(recording.cuts().is_empty());
}

/// Times by stack add up to the functions' own times, and those to the time of the outermost one.
#[test]
fn times_add_up() {
    let (recording, _) = record(&["--weight", "time"], &["t_*", "main"], &["tree", "6"]);
    let sum = |rows: &serde_json::Value, field: &str| -> u64 {
        rows.as_array().unwrap().iter().filter_map(|row| row[field].as_u64()).sum()
    };
    let (stacks, functions) =
        (sum(&recording.0["stacks"], "self_ns"), sum(&recording.0["functions"], "self_ns"));
    // Ticks become nanoseconds row by row.
    assert!(stacks.abs_diff(functions) < 1000, "{stacks} by stack, {functions} by function");
    let functions = recording.0["functions"].as_array().unwrap();
    let main =
        functions.iter().find(|row| row["name"] == "main").unwrap()["total_ns"].as_u64().unwrap();
    assert!(stacks.abs_diff(main) < 1000, "{stacks} by stack, {main} in main");
    assert!(
        functions.iter().all(|row| !row["histogram"].as_array().unwrap().is_empty()),
        "histograms are kept"
    );
}

#[test]
fn a_limit_of_frames_cuts_and_says_so() {
    let (recording, said) = record(&["--stack", "dwarf:3"], &["t_leaf"], &[]);
    assert_eq!(recording.calls(|names| names == ["t_deep", "t_deep", "t_leaf"]), 3);
    assert_eq!(recording.calls(|names| names == ["main", "t_one", "t_leaf"]), 10);
    assert_eq!(recording.cuts(), ["deeper than the limit"; 4]);
    assert!(said.contains("cut stacks: 27 (deeper than the limit 27)"), "{said}");
    let (recording, _) = record(&["--stack", "none"], &["t_leaf"], &[]);
    assert_eq!((recording.calls(|names| names == ["t_leaf"]), recording.stacks().len()), (27, 1));
}

#[test]
fn many_stacks_through_tables_that_grow() {
    let (recording, _) = record(&[], &["t_leaf"], &["tree", "11"]);
    assert_eq!((recording.stacks().len(), recording.calls(|_| true)), (1 << 11, 3 << 11));
    let memory = &recording.0["header"]["memory"];
    let of = |part: &str| memory[part].as_u64().unwrap();
    assert!(
        of("frames") > 0
            && of("stacks") > of("frames")
            && of("total") >= of("stacks") + of("counters"),
        "{memory}"
    );
}

/// A program that is executed by another one in the same process, again and again, goes on in its
/// place.
#[test]
fn programs_that_execute_others() {
    for (times, options) in [(40, &[][..]), (3, &["--on-full", "evict"])] {
        let directory = tempfile::tempdir().expect("a temporary directory");
        let script = directory.path().join("again.sh");
        let text =
            format!("[ $1 -eq 0 ] && exec {}\nexec sh $0 $(($1 - 1))\n", callers().display());
        std::fs::write(&script, text).expect("a script");
        let file = directory.path().join("a.tlp");
        let mut command = trapline();
        command
            .args(["record", "callers:t_leaf", "-o"])
            .arg(&file)
            .args(options)
            .args(["--", "sh"])
            .arg(&script)
            .arg(times.to_string());
        let finished = crate::common::process::run(&mut command, b"");
        assert_eq!(
            (finished.code, finished.stdout.as_str()),
            (0, "sum 236\n"),
            "{}",
            finished.stderr
        );
        let recording = read(&file);
        assert_eq!(
            (recording.calls(|_| true), recording.stacks().len()),
            (27, 4),
            "{options:?}: {}",
            finished.stderr
        );
    }
}
