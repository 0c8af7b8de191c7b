//! Golden outputs.

use super::{Look, Share, diff, fields, footer, table};
use crate::args::Sort;
use crate::report::counters::Counters;
use crate::report::diff::changes;
use crate::report::{Armed, Report, Row, SkippedRow, ThreadRow, sort};
use wire::cell::{BUCKET_COUNT, bucket};

fn counters(durations: &[u64]) -> Counters {
    let mut counters = Counters { buckets: vec![0; BUCKET_COUNT], ..Counters::default() };
    for &ticks in durations {
        counters.calls += 1;
        counters.returns += 1;
        counters.total += ticks;
        counters.own += ticks / 2;
        counters.max = counters.max.max(ticks);
        counters.buckets[bucket(ticks)] += 1;
    }
    counters
}

fn report() -> Report {
    let work = counters(&[2048, 2048, 2048, 4096, 1_000_000]);
    let mut rows = vec![
        Row::new("prog", "never", &Counters::default(), 0.5),
        Row {
            note: Some("entries only".into()),
            ..Row::new("prog", "counted", &Counters { calls: 1_234_567, ..Counters::default() }, 0.5)
        },
        Row::new("prog", "work", &work, 0.5).with_histogram(&work, 0.5),
    ];
    rows[2].threads = vec![ThreadRow::new(10, 11, &work, 0.5)];
    sort(&mut rows, Sort::Total);
    Report {
        functions: rows,
        hits: 1_234_572,
        lost: [("depth".to_string(), 0), ("recursion".to_string(), 3)].into(),
        armed: Armed { detour: 2, breakpoint: 1 },
        skipped: vec![
            SkippedRow { object: "prog".into(), name: "a".into(), reason: "undecodable".into() },
            SkippedRow { object: "prog".into(), name: "b".into(), reason: "undecodable".into() },
        ],
        elapsed_ns: 2_000_000_000,
        agent_bytes: 1 << 20,
        processes: 1,
        overhead_ns: 1_481_610,
        exit_code: Some(0),
    }
}

const LOOK: Look = Look { limit: 40, all: false, bold: false };

#[test]
fn the_table() {
    let expected = [
        "    calls    rate      p50     p90     p99     max   total    self  function",
        "        5   2.5/s  1.13 us  496 us  500 us  500 us  505 us  253 us  work",
        "        5   2.5/s  1.13 us  496 us  500 us  500 us  505 us  253 us    thread 11 of process 10",
        "   1.02 us .. 2.05 us             3 |########################################|",
        "   2.05 us .. 4.10 us             1 |##############                          |",
    ];
    let lines = table(&report(), LOOK);
    assert_eq!(lines[..5], expected, "{lines:#?}");
    assert_eq!(lines.last().unwrap(), "1,234,567  617k/s        -       -       -       -       -       -  counted  (entries only)");
    assert!(!lines.iter().any(|line| line.contains("never")));
}

#[test]
fn limits_of_the_table() {
    let mut report = report();
    assert!(table(&report, Look { limit: 1, ..LOOK }).last().unwrap().starts_with("... and 1 more"));
    assert!(table(&report, Look { limit: 1, all: true, ..LOOK }).iter().any(|line| line.ends_with("never")));
    assert!(table(&report, Look { bold: true, ..LOOK })[0].starts_with("\x1b[1m"));
    report.functions[1].object = "libc.so.6".into();
    assert!(table(&report, LOOK).iter().any(|line| line.contains("libc.so.6:counted")));
    report.functions.clear();
    assert!(table(&report, LOOK).is_empty());
}

#[test]
fn the_footer() {
    let shares = [Share { hits: 1_234_567, ns: 1.2, what: "counted" }, Share { hits: 5, ns: 26.0, what: "timed" }];
    let expected = [
        "1,234,572 hits in 2.00 s",
        "lost: 3 (depth 0, recursion 3)",
        "armed: 2 by detour, 1 by breakpoint; skipped: 2",
        "       2 undecodable",
        "agent memory: 1.00 MiB; estimated overhead: 1.48 ms of CPU time (0.1 % of the run): 1,234,567 x 1.2 ns counted + 5 x 26 ns timed",
    ];
    assert_eq!(footer(&report(), &shares, false), expected);
    assert!(footer(&report(), &shares, true).contains(&"  prog:b  (undecodable)".to_string()));
    let nothing = Report { elapsed_ns: 1_000_000, ..Report::default() };
    assert_eq!(footer(&nothing, &[], false)[..2], ["no hits: none of the functions was called in 1.00 ms", "lost: 0"]);
}

#[test]
fn fields_for_programs() {
    let mut report = report();
    report.functions[1].name = "operator;\"\"".into();
    let lines = fields(&report, ";", false);
    assert_eq!(lines[0], "object;name;calls;p50_ns;p90_ns;p99_ns;max_ns;total_ns;self_ns;elapsed_ns;process;thread");
    assert!(lines[1].starts_with("prog;work;5;1131;"), "{}", lines[1]);
    assert!(lines[2].starts_with("prog;work;5;1131;") && lines[2].ends_with(";2000000000;10;11"), "{}", lines[2]);
    assert_eq!(lines[3], "prog;\"operator;\"\"\"\"\";1234567;;;;;;;2000000000;;");
    assert_eq!(lines.len(), 4);
    assert_eq!(fields(&report, ";", true).len(), 5);
}

#[test]
fn json_has_the_documented_fields_first() {
    let json = serde_json::to_string(&report()).unwrap();
    let order = ["\"functions\"", "\"hits\"", "\"lost\"", "\"armed\"", "\"skipped\"", "\"elapsed_ns\"", "\"agent_bytes\""];
    let at: Vec<usize> = order.iter().map(|field| json.find(field).unwrap()).collect();
    assert!(at.is_sorted(), "{json}");
    let value: serde_json::Value = serde_json::from_str(&json).unwrap();
    let function = &value["functions"][0];
    for field in ["object", "name", "calls", "p50_ns", "p90_ns", "p99_ns", "max_ns", "total_ns", "self_ns"] {
        assert!(!function[field].is_null(), "{field}");
    }
    assert_eq!(value["lost"]["recursion"], 3);
    assert_eq!(value["armed"]["detour"], 2);
    assert_eq!(value["skipped"][0]["reason"], "undecodable");
}

#[test]
fn a_difference() {
    let mut after = report();
    after.functions[0].calls = 10;
    after.functions.remove(1);
    let lines = diff(&changes(report(), after), 40);
    assert!(lines[0].contains("calls A"));
    assert!(lines.iter().any(|line| line.contains("x2.00") && line.ends_with("prog:work")), "{lines:#?}");
    assert!(lines.iter().any(|line| line.contains("gone") && line.ends_with("prog:counted")), "{lines:#?}");
    assert_eq!(diff(&[], 40), ["neither report has a call"]);
}
