//! Memory for stacks that is used up.

use super::record;

const HITS: u64 = 3 << 13;

/// A number below a million as reports write it.
fn grouped(n: u64) -> String {
    if n < 1000 { n.to_string() } else { format!("{},{:03}", n / 1000, n % 1000) }
}

#[test]
fn hits_are_counted_without_a_stack() {
    let (recording, said) = record(&["--stack-memory", "256k"], &["t_leaf"], &["tree", "13"]);
    let (with, without) = (recording.calls(|_| true), recording.no_stack("full"));
    assert!(with > 0 && without > 0, "{with} with a stack, {without} without");
    assert_eq!(with + without, HITS);
    assert!(said.contains(&format!("(full {})", grouped(without))), "{said}");
}

/// What nobody asked for fits an interpreter, with room to spare, and is part of `--max-memory`.
#[test]
fn the_budget_bounds_stacks() {
    let (recording, said) = record(&[], &["t_leaf"], &["tree", "13"]);
    assert_eq!((recording.calls(|_| true), recording.no_stack("full")), (HITS, 0), "{said}");
    let few = ["--max-memory", "10M", "--stack-memory", "1G"];
    let (recording, said) = record(&few, &["t_leaf"], &["tree", "16"]);
    let without = recording.no_stack("full") + recording.no_stack("counters full");
    assert!(without > 0, "{said}");
    assert_eq!(recording.calls(|_| true) + without, 3 << 16, "{said}");
    let bytes = recording.0["header"]["memory"]["total"].as_u64().expect("a number");
    assert!(bytes <= 11 << 20, "{bytes} bytes: {said}");
    assert!(said.contains("--stack-memory gives it more"), "{said}");
}

#[test]
fn old_stacks_give_way() {
    let (recording, said) =
        record(&["--stack-memory", "256k", "--on-full", "evict"], &["t_leaf"], &["tree", "13"]);
    let (with, full, evicted) =
        (recording.calls(|_| true), recording.no_stack("full"), recording.no_stack("evicted"));
    assert!(evicted > 0, "{said}");
    assert_eq!(with + full + evicted, HITS);
}

#[test]
fn outputs_show_what_has_no_stack() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let file = directory.path().join("a.folded");
    let mut command = crate::common::trapline();
    command
        .args(["record", "--stack-memory", "256k", "t_leaf", "-o"])
        .arg(&file)
        .arg("--")
        .arg(super::callers())
        .args(["tree", "13"]);
    assert_eq!(crate::common::process::run(&mut command, b"").code, 0);
    let text = std::fs::read_to_string(file).expect("folded stacks");
    let weight =
        |line: &str| line.rsplit(' ').next().and_then(|n| n.parse::<u64>().ok()).expect("a weight");
    assert_eq!(text.lines().map(weight).sum::<u64>(), HITS);
    assert!(text.lines().any(|line| line.starts_with("[no stack];t_leaf ")), "{text}");
}
