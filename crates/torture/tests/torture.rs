//! Torture of every flavour for a second, and proof that it can fail.

use serde_json::Value;
use std::process::Command;

fn torture(args: &[&str]) -> (Option<i32>, Vec<Value>) {
    let output = Command::new(env!("CARGO_BIN_EXE_trapline-torture"))
        .args(["--json"])
        .args(args)
        .output()
        .expect("the program starts");
    let outcomes: Vec<Value> = serde_json::from_slice(&output.stdout).unwrap_or_else(|e| {
        panic!(
            "{e}: {}\n{}",
            String::from_utf8_lossy(&output.stdout),
            String::from_utf8_lossy(&output.stderr)
        )
    });
    (output.status.code(), outcomes)
}

#[test]
fn every_flavour_survives_a_second() {
    let (code, outcomes) = torture(&["--all", "--secs", "1", "--stall-secs", "20"]);
    assert_eq!(code, Some(0), "{outcomes:#?}");
    let names: Vec<&str> = outcomes.iter().filter_map(|o| o["flavour"].as_str()).collect();
    assert_eq!(
        names,
        [
            "rcu",
            "rcu-poll",
            "srcu",
            "srcu-fast",
            "hazptr",
            "hazptr-wildcard",
            "percpu_ref",
            "cached"
        ]
    );
    for outcome in &outcomes {
        assert!(
            outcome["max_stage"].as_u64() <= Some(1) && outcome["failure"].is_null(),
            "{outcome}"
        );
        assert!(
            outcome["reads"].as_u64() > Some(0) && outcome["updates"].as_u64() > Some(0),
            "{outcome}"
        );
    }
}

#[test]
fn a_flavour_without_grace_periods_is_caught() {
    let (code, outcomes) = torture(&["--broken", "--secs", "10"]);
    assert_eq!(code, Some(1), "{outcomes:#?}");
    assert!(outcomes[0]["max_stage"].as_u64() > Some(1), "{outcomes:#?}");
}

#[test]
fn the_last_line_of_a_failure_names_flavour_cause_and_seed() {
    let mut program = Command::new(env!("CARGO_BIN_EXE_trapline-torture"));
    let run = program.args(["--broken", "--secs", "10", "--seed", "4711"]);
    let output = run.output().expect("the program starts");
    assert_eq!(output.status.code(), Some(1));
    let (table, words) =
        (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    let last = words.lines().last().expect("a last line");
    assert!(table.lines().next().is_some_and(|first| first.ends_with("seed 4711")), "{table}");
    assert!(last.contains("torture failed: broken: a reader saw an object at stage"), "{last}");
    assert!(last.ends_with("(--broken --seed 4711)"), "{last}");
}
