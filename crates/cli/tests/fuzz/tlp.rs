//! Recordings that are damaged: their bytes, or values in them behind a right checksum.

use std::io::{Read, Write};

use flate2::Compression;
use flate2::read::GzDecoder;
use flate2::write::GzEncoder;
use serde_json::{Value, json};

use super::random::Random;
use super::{check, each};
use crate::common::process::run;
use crate::common::{Target, trapline};

const REPORTS: [&[&str]; 9] = [
    &[],
    &["--tree"],
    &["--tree", "--min-percent", "0"],
    &["--callers", "*"],
    &["--callees", "main"],
    &["-j"],
    &["-f", "svg", "-o", "/dev/null"],
    &["-f", "folded", "-o", "/dev/null"],
    &["-f", "pprof", "-o", "/dev/null"],
];

/// A value somewhere in `value`, by a way that `random` takes.
fn somewhere<'a>(random: &mut Random, value: &'a mut Value) -> &'a mut Value {
    let inside = match &*value {
        Value::Array(all) => all.len(),
        Value::Object(all) => all.len(),
        _ => 0,
    };
    if inside == 0 || random.percent(15) {
        return value;
    }
    let at = random.below(inside);
    match value {
        Value::Array(all) => somewhere(random, &mut all[at]),
        Value::Object(all) => somewhere(random, all.values_mut().nth(at).expect("so many")),
        other => other,
    }
}

fn damage_value(random: &mut Random, payload: &mut Value) {
    let place = somewhere(random, payload);
    *place = match random.below(14) {
        0 => json!(0),
        1 => json!(-1),
        2 => json!(u32::MAX),
        3 => json!(u64::MAX),
        4 => json!(i64::MIN),
        5 => json!(1e308),
        6 => json!(null),
        7 => json!(""),
        8 => json!("\u{1b}[2J</script>\u{202e}"),
        9 => json!("a".repeat(100_000)),
        10 => json!([]),
        11 => json!({}),
        12 => json!([place.clone(), place.clone(), place.clone()]),
        _ => place.as_u64().map_or(json!([[]]), |n| json!(n.wrapping_mul(1000))),
    };
}

#[test]
fn recordings_that_lie() {
    let flags = ["-DFACTOR=2"];
    let library = Target::new("opened_library.c").shared().flags(&flags).build();
    let directory = tempfile::tempdir().expect("a temporary directory");
    let good = directory.path().join("good.tlp");
    let mut command = trapline();
    command.args(["record", "t_*", "-o"]).arg(&good).arg("--");
    let finished = run(command.arg(Target::new("fuzzed.c").build()).arg(&library).arg("2"), b"");
    assert_eq!(finished.code, 0, "{}", finished.stderr);
    let bytes = std::fs::read(&good).expect("a recording");
    let line = bytes.iter().position(|b| *b == b'\n').expect("a first line") + 1;
    let mut text = String::new();
    GzDecoder::new(&bytes[line..]).read_to_string(&mut text).expect("packed");
    let payload: Value = serde_json::from_str(&text).expect("JSON");
    each("tlp", 150, |seed| {
        let mut random = Random::new(seed);
        let mut damaged = bytes.clone();
        if random.percent(25) {
            let at = random.below(damaged.len());
            damaged[at] ^= 1 << random.below(8);
            damaged.truncate(if random.percent(50) { at } else { bytes.len() });
        } else {
            let mut payload = payload.clone();
            (0..*random.of(&[1, 1, 2, 5])).for_each(|_| damage_value(&mut random, &mut payload));
            let mut packed = GzEncoder::new(bytes[..line].to_vec(), Compression::fast());
            packed.write_all(payload.to_string().as_bytes()).expect("to memory");
            damaged = packed.finish().expect("to memory");
        }
        let file = directory.path().join(format!("{seed}.tlp"));
        std::fs::write(&file, &damaged).expect("written");
        let options = random.of(&REPORTS);
        let mut command = trapline();
        command.arg("report").args(*options).arg(&file);
        if random.percent(15) {
            command.arg("--diff").arg(&good);
        }
        let finished = run(&mut command, b"");
        check(&format!("FUZZ_SEED={seed} FUZZ_RUNS=1 {options:?}"), &finished);
        std::fs::remove_file(&file).expect("written above");
    });
}
