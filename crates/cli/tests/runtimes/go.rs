//! Programs of Go with every function timed, while goroutines' stacks grow and are copied, the
//! collector runs all the time and goroutines are preempted: calls and returns are exact, with a C
//! library and without, stripped and not.

use super::common::go::Build;
use super::common::process::{Finished, program, run, trapline};
use super::common::report::Report;
use super::rounds;
use serde_json::Value;
use std::path::Path;

const SOURCE: &str = "runtimes/go";

const ENVIRONMENTS: [&[(&str, &str)]; 3] = [
    &[("GOGC", "1"), ("GODEBUG", "asyncpreemptoff=0")],
    &[("GOMAXPROCS", "8")],
    &[("GOMAXPROCS", "1"), ("GODEBUG", "gcstoptheworld=1")],
];

/// Calls of a function, those that have a time, and those left and still running; of all instances
/// together if it is generic.
fn counted(report: &Report, name: &str) -> [u64; 4] {
    let instance = format!("{name}[");
    let its = |function: &&Value| {
        let other = function["name"].as_str().unwrap_or_default();
        other == name || other.starts_with(&instance)
    };
    let mut sum = [0; 4];
    for function in report.functions().iter().filter(its) {
        let number = |field: &str| function[field].as_u64().unwrap_or(0);
        // (from, to, how many)
        let buckets = function["histogram"].as_array().into_iter().flatten();
        let timed = buckets.filter_map(|bucket| bucket[2].as_u64()).sum();
        let its = [number("calls"), timed, number("unwound"), number("running")];
        sum.iter_mut().zip(its).for_each(|(sum, its)| *sum += its);
    }
    sum
}

/// What the program says of its functions, against the report.
fn compare(what: &str, stdout: &str, stderr: &str, report: &Report) {
    let mut functions = 0;
    for line in stdout.lines() {
        let mut words = line.rsplitn(3, ' ');
        let mut number = || words.next().and_then(|word| word.parse::<u64>().ok());
        let (Some(returned), Some(calls)) = (number(), number()) else {
            panic!("{what}: {line}");
        };
        let name = words.next().expect("a name");
        let [counted, returns, unwound, running] = counted(report, name);
        assert_eq!([counted, returns], [calls, returned], "{what}: {name}: calls and returns");
        assert_eq!(unwound + running, calls - returned, "{what}: {name}: what was left");
        functions += 1;
    }
    assert_eq!(functions, 16, "{what}: {stdout}");
    for line in stderr.lines().filter_map(|line| line.strip_prefix("took ")) {
        let words: Vec<&str> = line.split(' ').collect();
        let [name, least, most] = words[..] else { panic!("{what}: {line}") };
        let [least, most]: [u64; 2] = [least, most].map(|word| word.parse().expect("a number"));
        let total = report.time(name, "total_ns");
        // The program's clock and ours are two.
        assert!(
            least - least / 100 <= total && total <= most + most / 100,
            "{what}: {name}: {total} ns of {least} to {most}"
        );
    }
}

fn check(build: Build, path: &Path, mode: &str, specs: &[&str], environment: &[(&str, &str)]) {
    let what = format!("{build:?} {mode} {specs:?} {environment:?}");
    let environment = || environment.iter().copied();
    let arguments = [mode, "2"];
    let bare = run(program(path).args(arguments).envs(environment()), b"");
    assert_eq!(bare.code, 3, "{what} bare: {}", bare.stderr);
    let folder = tempfile::tempdir().expect("a directory");
    let file = folder.path().join("report.json");
    let mut command = trapline();
    command
        .args(["stat", "-j", "--hist", "-o"])
        .arg(&file)
        .args(specs)
        .arg("--")
        .arg(path)
        .args(arguments);
    let Finished { code, stdout, stderr, .. } = run(command.envs(environment()), b"");
    assert_eq!((code, &stdout), (3, &bare.stdout), "{what}: {stderr}");
    let report = Report::read(&file).unwrap_or_else(|why| panic!("{what}: {why}"));
    compare(&what, &stdout, &stderr, &report);
    assert_eq!(report.lost(), [], "{what}");
    assert_eq!(report.problems(), [""; 0], "{what}");
}

fn returns_are_exact(builds: &[Build]) {
    for round in 0..rounds() as usize {
        for (at, build) in builds.iter().enumerate() {
            let Some(path) = build.program(SOURCE) else { return };
            let environment = ENVIRONMENTS[(round + at) % ENVIRONMENTS.len()];
            for mode in ["work", "serve"] {
                let specs: &[&str] = if (round + at) % 2 == 0 { &["main.*"] } else { &["*"] };
                check(*build, &path, mode, specs, environment);
            }
        }
    }
}

#[test]
fn without_a_c_library() {
    returns_are_exact(&[Build::Pure, Build::PureStripped, Build::PurePie]);
}

#[test]
fn with_cgo() {
    returns_are_exact(&[Build::Cgo, Build::CgoStripped, Build::CgoStatic]);
}
