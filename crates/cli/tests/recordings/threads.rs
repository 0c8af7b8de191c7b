//! Recordings know which thread counted what.

use super::read;
use crate::common::process::run;
use crate::common::{Target, trapline};
use serde_json::Value;
use std::collections::BTreeMap;

/// Process, thread, and their calls.
type Calls = BTreeMap<(String, String), u64>;

fn text(value: &Value, field: &str) -> String {
    value[field].as_str().unwrap_or_default().to_string()
}

/// Threads that come one after the other, some of them where another one was, and a child: each has
/// its own calls and its last name, in the recording and in what is made of it.
#[test]
fn by_thread() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let [tlp, json] = ["a.tlp", "a.json"].map(|name| directory.path().join(name));
    let expected: Calls = [
        ("chief", "chief", 5),
        ("chief", "returner", 10),
        ("chief", "leaver", 20),
        ("chief", "waits", 30),
        ("chief", "cancelled", 40),
        ("child", "child", 50),
    ]
    .map(|(process, thread, calls)| ((process.to_string(), thread.to_string()), calls))
    .into();
    for options in [&[][..], &["--weight", "time"]] {
        let mut command = trapline();
        command.args(["record", "t_work"]).args(options).arg("-o").arg(&tlp).arg("-o").arg(&json);
        command.arg("--").arg(Target::new("renamed.c").build()).arg("exit");
        let finished = run(&mut command, b"");
        assert_eq!((finished.code, &*finished.stdout), (0, "named\n"), "{}", finished.stderr);
        let recording = read(&tlp).0;
        let threads = recording["threads"].as_array().expect("threads");
        let mut seen = Calls::new();
        for stack in recording["stacks"].as_array().expect("stacks") {
            let parts = stack["threads"].as_array().expect("parts");
            let sum = |at: usize| parts.iter().filter_map(|part| part[at].as_u64()).sum::<u64>();
            assert_eq!(
                (sum(1), sum(2)),
                (stack["calls"].as_u64().unwrap(), stack["self_ns"].as_u64().unwrap())
            );
            for part in parts {
                let thread = &threads[part[0].as_u64().expect("an index") as usize];
                let key = (text(thread, "process_name"), text(thread, "thread_name"));
                *seen.entry(key).or_default() += part[1].as_u64().expect("calls");
            }
        }
        assert_eq!(seen, expected);
        let ids = threads.iter().map(|thread| (&thread["process"], &thread["thread"]));
        assert_eq!(ids.filter(|(process, thread)| process == thread).count(), 2, "{threads:?}");

        let profile: Value =
            serde_json::from_slice(&std::fs::read(&json).expect("a profile")).expect("JSON");
        let mut seen = Calls::new();
        for thread in profile["threads"].as_array().expect("threads") {
            let weights = thread["samples"]["weight"].as_array().expect("weights");
            let calls = weights.iter().filter_map(Value::as_u64).sum();
            seen.insert((text(thread, "processName"), text(thread, "name")), calls);
        }
        if options.is_empty() {
            assert_eq!(seen, expected);
        } else {
            assert!(seen.keys().eq(expected.keys()), "{seen:?}");
        }
    }
    let table = run(trapline().args(["report", "-j"]).arg(&tlp), b"");
    let table: Value = serde_json::from_str(&table.stdout).expect("JSON");
    let rows = table["threads"].as_array().expect("threads");
    let own = |row: &Value| row["self"].as_u64().expect("a weight");
    assert_eq!(rows.len(), expected.len());
    assert_eq!(rows.iter().map(own).sum::<u64>(), table["total"].as_u64().expect("a sum"));
}
