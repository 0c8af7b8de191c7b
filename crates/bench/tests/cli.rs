//! Runs the program as a user would, in its short form. What is checked is that every row is there
//! and makes sense; timings are never a verdict.

use serde_json::Value;
use std::path::Path;
use std::process::{Command, Output};

fn run(args: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_trapline-bench"))
        .args(args)
        .output()
        .expect("the program starts")
}

fn json(args: &[&str]) -> Value {
    let output = run(args);
    assert!(
        output.status.success(),
        "{args:?}: {}\n{}",
        output.status,
        String::from_utf8_lossy(&output.stderr)
    );
    serde_json::from_slice(&output.stdout).expect("JSON on standard output")
}

fn array<'v>(value: &'v Value, key: &str) -> &'v Vec<Value> {
    value[key].as_array().unwrap_or_else(|| panic!("{key} is an array"))
}

/// Every group has every row of `expected`, with a positive median or a reason, and every summary
/// is in order.
fn check(report: &Value, expected: &[&str]) {
    assert!(report["machine"]["cpus"].as_u64().is_some_and(|n| n >= 1));
    let groups = array(report, "groups");
    assert!(!groups.is_empty());
    let mut seen = Vec::new();
    for group in groups {
        for row in array(group, "rows") {
            let name = row["name"].as_str().expect("a name");
            seen.push(name.to_owned());
            let cpu = &row["cpu_ns"];
            if row["absent"].is_null() && !cpu.is_null() {
                let (min, median, max) =
                    (cpu["min"].as_f64(), cpu["median"].as_f64(), cpu["max"].as_f64());
                assert!(min > Some(0.0) && min <= median && median <= max, "{name}: {cpu}");
            }
        }
    }
    for name in expected {
        assert!(seen.iter().any(|s| s == name), "no row {name} in {seen:?}");
    }
    let targets = array(report, "targets");
    assert!(!targets.is_empty());
    for target in targets {
        assert!(
            ["reached", "missed", "not_measured"]
                .contains(&target["verdict"].as_str().unwrap_or("")),
            "{target}"
        );
    }
}

#[test]
fn pool_shows_ours_and_the_peers() {
    let report = json(&["pool", "--quick", "--json", "--repeats", "1"]);
    check(
        &report,
        &[
            "default pool",
            "default pool, no rseq",
            "bitmap",
            "CAS LIFO",
            "flat array",
            "ring array",
            "per-CPU list",
            "jemalloc",
            "mimalloc",
            "ArrayQueue",
        ],
    );
    assert_eq!(array(&report["sheets"][0], "rows").len(), 3, "latency of floor, ours and jemalloc");
}

#[test]
fn refscale_shows_ours_and_the_peers() {
    let report = json(&["refscale", "--quick", "--json", "--repeats", "1"]);
    check(
        &report,
        &[
            "none",
            "hazptr, kept holder",
            "rcu",
            "srcu",
            "srcu-fast",
            "percpu_ref",
            "cached ref",
            "crossbeam-epoch pin",
            "haphazard",
            "liburcu memb",
        ],
    );
    // Not a timing: a reader that stalls must not keep more than the stated bound, however long.
    let stalled = report["sheets"][0]["rows"].as_array().expect("rows");
    let hazptr = stalled.iter().find(|row| row["name"] == "hazptr").expect("a row");
    assert!(hazptr["values"][0].as_f64() <= hazptr["values"][1].as_f64(), "{hazptr}");
}

#[test]
fn depot_shows_ours_and_the_peers() {
    let report = json(&["depot", "--quick", "--json", "--repeats", "1"]);
    check(
        &report,
        &[
            "generate the stack alone",
            "hash + one table line + compare",
            "depot",
            "Mutex<HashMap>",
            "DashMap",
            "scc HashIndex",
        ],
    );
}

#[test]
#[cfg(target_arch = "x86_64")]
fn probe_shows_floors_and_every_function() {
    let report = json(&[
        "probe",
        "--quick",
        "--json",
        "--repeats",
        "1",
        "--threads",
        "1",
        "--trapline",
        "/nonexistent/trapline",
    ]);
    check(
        &report,
        &[
            "call + ret",
            "two rdtsc",
            "bare call",
            "bare int3 + SIGTRAP handler",
            "two rdtsc around the call",
        ],
    );
    let titles: Vec<_> =
        array(&report, "groups").iter().filter_map(|group| group["title"].as_str()).collect();
    for name in ["nop", "push", "ret", "nop5", "ordinary"] {
        assert!(
            titles.iter().any(|title| title.contains(&format!(": {name},"))),
            "no {name} in {titles:?}"
        );
    }
    for note in array(&report, "notes") {
        assert!(!note.as_str().expect("text").contains("WRONG"), "{note}");
    }
}

#[test]
#[cfg(target_arch = "x86_64")]
fn stacks_are_taken_by_us_and_the_peers() {
    let report =
        json(&["probe", "--stack", "--quick", "--json", "--repeats", "1", "--threads", "1"]);
    check(
        &report,
        &[
            "bare call",
            "stack by unwind tables, de-duplicated and counted",
            "glibc backtrace(), unwinding only",
            "framehop, rule cache, unwinding only",
        ],
    );
    for note in array(&report, "notes") {
        assert!(!note.as_str().expect("text").contains("WRONG"), "{note}");
    }
}

/// Where redis is not installed the report says so; no tracer is built for the test.
#[test]
fn redis_runs_without_a_tracer_and_says_so() {
    let report = json(&[
        "redis",
        "--quick",
        "--json",
        "--repeats",
        "1",
        "--trapline",
        "/nonexistent/trapline",
    ]);
    assert_eq!(array(&report, "targets").len(), 5);
    let notes = array(&report, "notes");
    assert!(
        notes.iter().any(|note| note.as_str().is_some_and(|n| n.contains("/nonexistent/trapline"))),
        "{notes:?}"
    );
}

/// A program that does nothing, in trapline's place: every command is run and measured, whatever it
/// is. Peers that are not there are named.
#[test]
fn inject_has_its_peers_and_says_what_is_missing() {
    let report = json(&[
        "inject",
        "--quick",
        "--json",
        "--repeats",
        "1",
        "--threads",
        "2",
        "--only",
        "gdb",
        "--trapline",
        "/nonexistent",
    ]);
    let notes: Vec<&str> = array(&report, "notes").iter().filter_map(Value::as_str).collect();
    assert!(notes.iter().any(|note| note.contains("/nonexistent is no file")), "{notes:?}");
    if notes.contains(&"gdb is not installed") {
        return;
    }
    let sheets = array(&report, "sheets");
    assert_eq!(sheets.len(), 3, "standing, times, memory");
    for sheet in sheets {
        let [row] = &array(sheet, "rows")[..] else { panic!("one row: {sheet}") };
        assert_eq!(row["name"], "2 threads, 1 function, gdb, attach and detach alone");
    }
    let (stood, times) = (&sheets[0]["rows"][0]["values"], &sheets[1]["rows"][0]["values"]);
    assert!(stood[0].as_f64() > Some(0.0) && stood[0].as_f64() <= times[0].as_f64(), "{stood}");
}

/// Every request of every scheme is answered, and what is replaced goes. By wrk only where it is
/// installed.
#[test]
fn http_serves_by_every_scheme() {
    let report =
        json(&["http", "--quick", "--json", "--repeats", "1", "--threads", "1", "--no-nginx"]);
    let notes: Vec<&str> = array(&report, "notes").iter().filter_map(Value::as_str).collect();
    assert!(!notes.iter().any(|note| note.contains("FAILED")), "{notes:?}");
    let absent = notes.iter().any(|note| note.contains("wrk is not installed"));
    let sheets = array(&report, "sheets");
    assert_eq!(sheets.len(), if absent { 1 } else { 2 });
    for sheet in sheets {
        let rows = array(sheet, "rows");
        assert_eq!(rows.len(), 11, "{sheet}");
        for row in rows {
            let values: Vec<Option<f64>> = array(row, "values").iter().map(Value::as_f64).collect();
            let [rate, cpu, late, most] = [1, 3, 7, 9].map(|column| values[column]);
            assert!(rate > Some(0.0) && cpu > Some(0.0) && late > Some(0.0), "{row}");
            // Some 20 replacements.
            assert!(most.is_some_and(|most| most <= 1_000.0), "{row}");
        }
    }
    assert!(!array(&report, "targets").is_empty());
}

/// A small table, with what was posted and what stops it; and the two CPUs of this machine.
#[test]
fn scale_shows_tables_and_predicts() {
    let run = |arguments: &[&str]| {
        let output = run(&[&["scale"], arguments].concat());
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).expect("UTF-8")
    };
    let text = run(&["readers", "two"]);
    for part in [
        "posted",
        "what stops it",
        "posted ratios that the calibration knows nothing of",
        "posted, fitted",
        "two CPUs, predicted",
        "targets",
    ] {
        assert!(text.contains(part), "no {part:?} in\n{text}");
    }
    assert!(!text.contains("MISSED  readers"), "the model is the same everywhere:\n{text}");
    let here = run(&["--here", "--quick"]);
    assert!(here.contains("what things cost here") && here.contains("hit: a load"), "{here}");
    let cpus = std::thread::available_parallelism().map_or(1, usize::from);
    assert!(cpus < 2 || here.contains("one count (Arc)"), "{here}");
}

#[test]
fn cost_has_a_row_for_every_verb_and_program() {
    let args = ["cost", "--quick", "--json", "--repeats", "1", "--trapline"];
    let nothing = ["/usr/bin/true", "/bin/true"].into_iter().find(|p| Path::new(p).exists());
    let report = json(&[&args[..], &[nothing.expect("a program")]].concat());
    let rows = array(&report["sheets"][0], "rows");
    let row = |name: &str| rows.iter().find(|row| row["name"].as_str() == Some(name));
    for name in ["true", "50 programs", "python3"].map(|program| format!("{program}, bare")) {
        assert!(row(&name).is_some(), "{name}");
    }
    for subject in ["true, one function", "true, all of libc", "50 programs, all of libc"] {
        for verb in ["stat", "record", "report"] {
            assert!(row(&format!("{subject}, trapline {verb}")).is_some(), "{subject} {verb}");
        }
    }
    assert!(row("all of libc, trapline list").is_some());
    for row in rows.iter().filter(|row| row["name"].as_str().unwrap_or("").contains("trapline")) {
        let values: Vec<f64> = array(row, "values").iter().filter_map(Value::as_f64).collect();
        assert_eq!(values.len(), 8, "{row}");
        assert!(values[0] > 0.0 && values[0] <= values[1] && values[1] <= values[2], "{row}");
        assert!(values[3] > 0.0 && values[3] <= values[4] && values[4] <= values[5], "{row}");
    }
    let notes = array(&report, "notes");
    for peer in ["uftrace", "perf"] {
        let said = notes.iter().any(|n| n == &format!("{peer} is not installed"));
        let shown = row(&format!("true, {peer} record")).is_some();
        assert!(said != shown, "{peer}: {notes:?}");
    }
}

#[test]
fn text_has_tables_and_targets() {
    let dir = std::env::temp_dir().join(format!("trapline-bench-{}", std::process::id()));
    let output = run(&[
        "pool",
        "--quick",
        "--repeats",
        "1",
        "--threads",
        "1",
        "--only",
        "jemalloc",
        "--out",
        dir.to_str().expect("UTF-8"),
    ]);
    assert!(output.status.success());
    let text = String::from_utf8(output.stdout).expect("UTF-8");
    for part in ["jemalloc", "thread-local list", "targets (median", "not measured"] {
        assert!(text.contains(part), "no {part:?} in\n{text}");
    }
    let written: Vec<_> = std::fs::read_dir(&dir)
        .expect("was made")
        .map(|e| e.expect("an entry").file_name().into_string().expect("UTF-8"))
        .collect();
    std::fs::remove_dir_all(&dir).expect("can be removed");
    assert_eq!(written.len(), 2, "{written:?}");
    assert!(
        written.iter().any(|n| n.ends_with("-pool.txt"))
            && written.iter().any(|n| n.ends_with("-pool.json")),
        "{written:?}"
    );
}

#[test]
fn bad_options_are_refused() {
    for args in [
        &["pool", "--threads", "0"][..],
        &["pool", "--repeats", "0"],
        &["torture"],
        &["torture", "--flavour", "nonsense"],
        &["nonsense"],
    ] {
        assert_eq!(run(args).status.code(), Some(2), "{args:?}");
    }
    assert!(run(&["--help"]).status.success());
    assert!(run(&["pool", "--help"]).status.success());
}
