//! Golden outputs.

use super::fields::{fields, head};
use super::{Look, diff, footer, table};
use crate::model::counters::Counters;
use crate::model::diff::changes;
use crate::model::outside::{Inlined, NotFollowed, StillRunning};
use crate::model::report::{Armed, Kind, Part, Report, Row, SCHEMA, Share, SkippedRow, Sort, sort};
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
            ..Row::new(
                "prog",
                "counted",
                &Counters { calls: 1_234_567, ..Counters::default() },
                0.5,
            )
        },
        Row::new("prog", "work", &work, 0.5).with_histogram(&work, 0.5),
    ];
    rows[2].threads = vec![Part::new(10, Some(11), &work, 0.5)];
    sort(&mut rows, Sort::Total);
    Report {
        main: Some("prog".into()),
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
        time: "2026-11-29T07:45:03.123Z".to_string(),
        schema: SCHEMA,
        ..Report::default()
    }
}

const LOOK: Look = Look { limit: 40, all: false, bold: false, width: None };

#[test]
fn the_table() {
    let expected = [
        "    calls    rate      p50     p90     p99     max   total    self  function",
        "        5   2.5/s  1.13 us  500 us  500 us  500 us  505 us  253 us  work",
        "        5   2.5/s  1.13 us  500 us  500 us  500 us  505 us  253 us    thread 11 of \
            process 10",
        "   1.02 us .. 2.05 us             3 |########################################|",
        "   2.05 us .. 4.10 us             1 |##############                          |",
    ];
    let lines = table(&report(), LOOK);
    assert_eq!(lines[..5], expected, "{lines:#?}");
    assert_eq!(
        lines.last().unwrap(),
        "1,234,567  617k/s        -       -       -       -       -       -  counted  (entries \
            only)"
    );
    assert!(!lines.iter().any(|line| line.contains("never")));
}

/// What the program wrote over may have been called unseen: its row is there without calls.
#[test]
fn functions_whose_probes_are_gone() {
    let mut report = report();
    let never = report.functions.iter_mut().find(|row| row.name == "never").unwrap();
    never.note = Some(wire::OVERWRITTEN.into());
    let shown = format!("never  ({})", wire::OVERWRITTEN);
    assert!(table(&report, LOOK).iter().any(|line| line.ends_with(&shown)));
}

/// A call that has not returned has no time, and is said.
#[test]
fn calls_that_run() {
    let counters = Counters { calls: 1, buckets: vec![0; BUCKET_COUNT], ..Counters::default() };
    let mut row = Row::new("prog", "main", &counters, 0.5);
    row.threads = vec![Part::new(10, Some(11), &counters, 0.5)];
    let mut report = Report {
        main: Some("prog".into()),
        functions: vec![row],
        elapsed_ns: 1_000_000_000,
        ..Report::default()
    };
    let lines = table(&report, LOOK);
    assert!(
        lines[1]
            .starts_with("    1   1/s    -    -    -    -      -     -  main  (1 still running)"),
        "{lines:#?}"
    );
    assert!(lines[2].ends_with("thread 11 of process 10  (1 still running)"), "{lines:#?}");
    assert!(
        fields(&report, ";", false)
            .iter()
            .all(|line| line.contains(";1;;;;;;;") && line.ends_with(";1;"))
    );
    assert!(serde_json::to_string(&report).unwrap().contains("\"running\":1,"));
    report.functions[0].note = Some("as it is".into());
    assert!(table(&report, LOOK)[1].ends_with("main  (as it is; 1 still running)"));
    // An end of the table's kind: one that returned, of two.
    let mut two = self::counters(&[500]);
    two.calls += 1;
    report.functions = vec![Row::new("prog", "f", &two, 2.0)];
    let line = &table(&report, LOOK)[1];
    assert_eq!(line.matches("1.00 us").count(), 5, "{line}");
    assert!(line.ends_with("f  (1 still running)"), "{line}");
}

#[test]
fn limits_of_the_table() {
    let mut report = report();
    assert!(
        table(&report, Look { limit: 1, ..LOOK }).last().unwrap().starts_with("... and 1 more")
    );
    assert!(
        table(&report, Look { limit: 1, all: true, ..LOOK })
            .iter()
            .any(|line| line.ends_with("never"))
    );
    assert!(table(&report, Look { bold: true, ..LOOK })[0].starts_with("\x1b[1m"));
    report.functions[1].object = "libc.so.6".into();
    assert!(table(&report, LOOK).iter().any(|line| line.contains("libc.so.6:counted")));
    report.functions.clear();
    assert!(table(&report, LOOK).is_empty());
}

#[test]
fn names_have_the_room_that_is_left() {
    let mut report = report();
    report.functions[0].name =
        "std::map<std::string, std::vector<int> >::find(std::string const&)".into();
    report.functions[1].name = format!("{}@0x1234", "x".repeat(90));
    for width in [120, 130] {
        let lines = table(&report, Look { width: Some(width), ..LOOK });
        assert!(lines.iter().all(|line| line.chars().count() <= width), "{lines:#?}");
        assert!(lines[1].contains("  std::map<...>::find("), "{lines:#?}");
        assert!(lines.last().unwrap().ends_with("@0x1234  (entries only)"), "{lines:#?}");
    }
    assert!(table(&report, LOOK)[1].ends_with("find(std::string const&)"));
    // Without the name of its object, a function would be looked for in the main program.
    report.functions.iter_mut().for_each(|row| row.object = "libc.so.6".into());
    assert!(table(&report, LOOK)[1].contains("  libc.so.6:std::map<"));
}

#[test]
fn the_footer() {
    let shares = [
        Share { hits: 1_234_567, ns: 1.2, what: "counted" },
        Share { hits: 5, ns: 26.0, what: "timed" },
    ];
    let expected = [
        "1,234,572 hits in 2.00 s",
        "lost: 3 (depth 0, recursion 3)",
        "armed: 2 by detour, 1 by breakpoint; skipped: 2",
        "       2 undecodable [prog]",
        "agent memory: 1.00 MiB; estimated overhead: 1.48 ms of CPU time (0.1 % of the run): \
            1,234,567 x 1.2 ns counted + 5 x 26 ns timed",
    ];
    assert_eq!(footer(&report(), &shares, false), expected);
    let mut several = report();
    several.skipped = [("a", 1), ("b", 1200), ("c", 5), ("d", 2), ("e", 1)]
        .iter()
        .flat_map(|(object, n)| {
            let row = |_| SkippedRow { object: (*object).into(), ..several.skipped[0].clone() };
            (0..*n).map(row)
        })
        .collect();
    let line = "   1,209 undecodable [b 1,200, c 5, d 2, 2 others 2]";
    assert_eq!(footer(&several, &shares, false)[3], line);
    let start = Share { hits: 2, ns: 1_230_000.4, what: "start-up" };
    assert!(footer(&report(), &[start], false)[4].ends_with(": 2 x 1.23 ms start-up"));
    assert!(footer(&report(), &shares, true).contains(&"  prog:b  (undecodable)".to_string()));
    let nothing = Report { elapsed_ns: 1_000_000, ..Report::default() };
    let killed = Report { signal: Some(9), ..nothing.clone() };
    let missed = |program: String| NotFollowed { program, reason: "statically linked".into() };
    let alone = Report { not_followed: vec![missed("/bin/a\x1b[1m".into())], ..nothing.clone() };
    let line = "not followed: /bin/a\\x1b[1m (statically linked)".to_string();
    assert_eq!(footer(&alone, &[], false)[3], line);
    let many = (0..20).map(|n| missed(format!("/bin/{n}"))).collect();
    let many = Report { not_followed: many, ..nothing.clone() };
    let more = "not followed: 12 more programs (-v names them)".to_string();
    let lines = [false, true].map(|verbose| footer(&many, &[], verbose));
    assert_eq!(lines.each_ref().map(Vec::len), [4 + 9, 4 + 20]);
    assert_eq!(lines.map(|lines| lines.contains(&more)), [true, false]);
    let on = |process| StillRunning { process, name: "d\x1bn".into() };
    let on = |all: std::ops::Range<u32>| Report {
        still_running: all.map(on).collect(),
        ..nothing.clone()
    };
    assert_eq!(footer(&on(7..8), &[], false)[3], "still running: 1 (7 d\\x1bn)");
    let lines = [false, true].map(|verbose| footer(&on(10..20), &[], verbose)[3].clone());
    assert!(
        lines[0].starts_with("still running: 10 (10 d")
            && lines[0].ends_with(", 2 more, which -v names)")
    );
    assert!(lines[1].ends_with(", 19 d\\x1bn)"), "{}", lines[1]);
    let hot = Inlined {
        object: "prog".into(),
        name: "hot".into(),
        places: 1234,
        within: ["a", "b", "c", "d", "e"].map(str::to_string).into(),
    };
    let hot = Report { also_inlined: vec![hot; 9], inlined_partly: true, ..nothing.clone() };
    let lines = footer(&hot, &[], false);
    let line = "hot is inlined at 1,234 places in a, b, c, 2 more: those are not counted";
    assert_eq!((lines[3].as_str(), lines[10].as_str()), (line, line));
    assert_eq!(lines[11], "1 more are inlined, too (-v names them)");
    assert!(lines[12].contains("a part of the debug information"), "{lines:#?}");
    assert!(footer(&killed, &[], false)[0].ends_with("in 1.00 ms; killed by signal 9 (SIGKILL)"));
    assert_eq!(
        footer(&nothing, &[], false)[..2],
        ["no hits: none of the functions was called in 1.00 ms", "lost: 0"]
    );
}

#[test]
fn fields_for_programs() {
    let mut report = report();
    report.functions[1].name = "operator;\"\"".into();
    let lines = fields(&report, ";", false);
    assert!(head(";").starts_with(
        "object;name;calls;p50_ns;p90_ns;p99_ns;max_ns;total_ns;self_ns;elapsed_ns;\
            process;thread;kind;time;process_name;thread_name;running;note"
    ));
    let time = "2026-11-29T07:45:03.123Z";
    assert!(lines[0].starts_with("prog;work;5;1130;"), "{}", lines[0]);
    assert!(
        lines[1].starts_with("prog;work;5;1130;")
            && lines[1].ends_with(&format!(";2000000000;10;11;report;{time};;;0;")),
        "{}",
        lines[1]
    );
    assert_eq!(
        lines[2],
        format!(
            "prog;\"operator;\"\"\"\"\";1234567;;;;;;;2000000000;;;report;{time};;;0;entries only"
        )
    );
    assert_eq!(lines.len(), 3);
    assert_eq!(fields(&report, ";", true).len(), 4);
    // One whose probe is gone is there, called or not.
    let mut gone = report.clone();
    gone.functions.iter_mut().for_each(|row| row.note = Some(wire::OVERWRITTEN.into()));
    assert_eq!(fields(&gone, ";", false).len(), 4);
    assert!(fields(&gone, ",", false)[3].ends_with(&format!(",0,{}", wire::OVERWRITTEN)));
    let line = &footer(&gone, &[], false)[4];
    assert!(line.starts_with("probes that were overwritten: 3 (work, "), "{line}");
    report.kind = Kind::Interval;
    report.functions[1].object = "#prog".into();
    assert!(
        fields(&report, ":", false)[2].starts_with("\"#prog\":"),
        "no row looks like a comment"
    );
    assert!(fields(&report, ":", false)[0].ends_with(&format!(":interval:\"{time}\":::0:")));
}

#[test]
fn json_has_the_documented_fields_first() {
    let json = serde_json::to_string(&report()).unwrap();
    let order = [
        "\"functions\"",
        "\"hits\"",
        "\"lost\"",
        "\"armed\"",
        "\"skipped\"",
        "\"elapsed_ns\"",
        "\"agent_bytes\"",
    ];
    let at: Vec<usize> = order.iter().map(|field| json.find(field).unwrap()).collect();
    assert!(at.is_sorted(), "{json}");
    let value: serde_json::Value = serde_json::from_str(&json).unwrap();
    let function = &value["functions"][0];
    for field in
        ["object", "name", "calls", "p50_ns", "p90_ns", "p99_ns", "max_ns", "total_ns", "self_ns"]
    {
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
    let lines = diff(&changes(report(), after, Sort::Total, 0), 40, &[], Sort::Total);
    assert!(lines[0].contains("calls A"));
    assert!(
        lines.iter().any(|line| line.contains("x2.00") && line.ends_with("prog:work")),
        "{lines:#?}"
    );
    assert!(
        lines.iter().any(|line| line.contains("gone") && line.ends_with("prog:counted")),
        "{lines:#?}"
    );
    assert_eq!(diff(&[], 40, &[], Sort::Total), ["neither report has a call"]);
}
