//! Programs of Go (`tests/targets/go`), with a C library and without, stripped and not: calls are
//! exact where trapline starts them, and within what ran where it comes to them later; times are
//! those of what ended. (Exact returns: `tests/runtimes/go.rs`.)

use super::common::Report;
use super::common::go::Build;
use super::common::process::{Finished, program, run, trapline};
use super::running::{Attached, code};
use std::collections::BTreeMap;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::path::Path;
use std::process::{Child, ChildStdout, Stdio};

/// The program.
const SOURCE: &str = "go";

/// Environments that the runtime heeds.
const ENVIRONMENTS: [&[(&str, &str)]; 4] = [
    &[],
    &[("GOMAXPROCS", "1"), ("GODEBUG", "asyncpreemptoff=0")],
    &[("GOMAXPROCS", "8")],
    &[("GODEBUG", "asyncpreemptoff=1")],
];

/// What the program says of its functions.
fn own(output: &str) -> BTreeMap<String, u64> {
    let said = output.lines().filter_map(|line| {
        let (name, number) = line.rsplit_once(' ')?;
        Some((name.to_string(), number.parse().ok()?))
    });
    let own: BTreeMap<String, u64> = said.collect();
    assert_eq!(own.len(), 8, "{output}");
    own
}

/// What was counted of a function, of all instances together if it is generic.
fn counted(report: &Report, name: &str) -> u64 {
    let instance = format!("{name}[");
    report.sum(|other| other == name || other.starts_with(&instance))
}

/// Of a function whose calls all return soon, those that were seen to begin were seen to end, but
/// for what each goroutine was just at, and have times.
fn ended(what: &str, report: &Report, name: &str) {
    let function = report.functions().iter().find(|function| function["name"] == name);
    let function = function.unwrap_or_else(|| panic!("{what}: no {name}"));
    let number = |field: &str| function[field].as_u64().unwrap_or(0);
    assert!(number("total_ns") > 0 && number("unwound") == 0, "{what}: {function}");
    // Sixteen goroutines at most, each at most 3,001 calls deep.
    let most = if name == "main.deep" { 16 * 3001 } else { 16 };
    assert!(number("running") <= most, "{what}: {function}");
}

fn launched(build: Build, path: &Path, specs: &[&str], environment: &[(&str, &str)]) {
    const INPUT: &[u8] = b"1\n2\n3\n";
    let what = format!("{build:?} {specs:?} {environment:?}");
    let environment = || environment.iter().copied();
    let bare = run(program(path).arg("0").envs(environment()), INPUT);
    let folder = tempfile::tempdir().expect("a directory");
    let file = folder.path().join("report.json");
    let mut command = trapline();
    command.args(["stat", "-j", "-o"]).arg(&file).args(specs).arg("--").arg(path).arg("0");
    let Finished { code, stdout, stderr, .. } = run(command.envs(environment()), INPUT);
    assert_eq!((code, &stdout), (7, &bare.stdout), "{what}: {stderr}");
    let report = Report::read(&file).unwrap_or_else(|why| panic!("{what}: {why}"));
    for (name, calls) in own(&stdout) {
        assert_eq!(counted(&report, &name), calls, "{what}: {name}");
    }
    assert_eq!(report.lost(), [], "{what}");
}

#[test]
fn calls_are_exact_from_the_start() {
    for (at, build) in Build::ALL.into_iter().enumerate() {
        let Some(path) = build.program(SOURCE) else { return };
        launched(build, &path, &["main.*"], ENVIRONMENTS[at % 4]);
        if matches!(build, Build::PureStripped | Build::Cgo) {
            launched(build, &path, &["*"], ENVIRONMENTS[(at + 1) % 4]);
        }
    }
}

/// A program that does what it is told, and works all the time beside it.
struct Busy {
    child: Child,
    stdout: BufReader<ChildStdout>,
}

impl Busy {
    fn start(path: &Path, environment: &[(&str, &str)]) -> Self {
        let mut command = program(path);
        command.arg("3").envs(environment.iter().copied());
        command.stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = command.spawn().expect("the program starts");
        let stdout = BufReader::new(child.stdout.take().expect("piped"));
        let mut this = Self { child, stdout };
        // All of it has run once.
        this.tell();
        this
    }

    /// A round, while it also does other things.
    fn tell(&mut self) {
        let stdin = self.child.stdin.as_mut().expect("open");
        stdin.write_all(b"go\n").expect("it reads");
        let mut line = String::new();
        self.stdout.read_line(&mut line).expect("it writes");
        assert_eq!(line, "done\n");
    }

    /// What it says of its functions at its end, which is the usual one.
    fn end(mut self) -> BTreeMap<String, u64> {
        drop(self.child.stdin.take());
        let mut rest = String::new();
        self.stdout.read_to_string(&mut rest).expect("it writes");
        assert_eq!(self.child.wait().expect("ours").code(), Some(7), "{rest}");
        own(&rest)
    }
}

impl Drop for Busy {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn attached(build: Build, path: &Path, spec: &str, environment: &[(&str, &str)]) {
    let what = format!("{build:?} {spec} {environment:?}");
    let mut busy = Busy::start(path, environment);
    let pid = busy.child.id();
    let before = code(pid.cast_signed());
    let mut all: BTreeMap<String, u64> = BTreeMap::new();
    for _ in 0..2 {
        let tracing = Attached::to(&["-p", &pid.to_string(), spec]);
        busy.tell();
        let (report, finished) = tracing.interrupt();
        assert_eq!(finished.code, 0, "{what}: {}", finished.stderr);
        assert_eq!(report.0["attached"][0]["after"], "running", "{what}");
        assert_eq!(code(pid.cast_signed()), before, "{what}: its code is as before");
        for name in ["main.leaf", "main.deep", "main.big", "main.mid", "main.(*T).method"] {
            *all.entry(name.to_string()).or_default() += counted(&report, name);
        }
        for name in ["main.generic", "main.faults", "main.handle"] {
            *all.entry(name.to_string()).or_default() += counted(&report, name);
        }
        for name in ["main.leaf", "main.deep", "main.big", "main.mid", "main.(*T).method"] {
            ended(&what, &report, name);
        }
        busy.tell();
    }
    for (name, calls) in busy.end() {
        let counted = all[&name];
        assert!(0 < counted && counted <= calls, "{what}: {name}: {counted} of {calls}");
    }
}

#[test]
fn calls_are_counted_while_it_runs() {
    for (at, build) in Build::ALL.into_iter().enumerate() {
        let Some(path) = build.program(SOURCE) else { return };
        attached(build, &path, "main.*", ENVIRONMENTS[at % 4]);
        if matches!(build, Build::Pure | Build::CgoStripped) {
            attached(build, &path, "*", ENVIRONMENTS[(at + 2) % 4]);
        }
    }
}

/// Names are accepted and printed as Go writes them, and what is left alone says why.
#[test]
fn names_and_refusals() {
    for build in [Build::Pure, Build::PureStripped, Build::Cgo] {
        let Some(path) = build.program(SOURCE) else { return };
        let instance = if build.is_stripped() { "[...]" } else { "[go.shape.int_0]" };
        let instance = format!("main.generic{instance}");
        let list = |specs: &[&str]| {
            let listed = run(trapline().args(["list", "-v"]).args(specs).arg("--").arg(&path), b"");
            assert_eq!(listed.code, 0, "{build:?} {specs:?}: {}", listed.stderr);
            listed.stdout
        };
        let listed = list(&["main.(*T).method", &instance, "net/http.(*conn).serve"]);
        for name in ["main.(*T).method", &*instance, "net/http.(*conn).serve"] {
            assert!(listed.contains(&format!(":{name}")), "{build:?}: {name} in {listed}");
        }
        assert!(listed.contains("exits ("), "{listed}");
        assert!(listed.contains(", 0 entry only"), "{listed}");
        let listed = list(&["runtime.mallocgc", "math/big.addVV*"]);
        assert!(listed.contains("(part of Go's runtime)"), "{listed}");
        assert!(listed.contains("assembly in a Go program"), "{listed}");
        let refused = list(&["runtime.*", "internal/cpu.*"]);
        assert!(refused.contains("0 by detour, 0 by breakpoint"), "{refused}");
    }
}

#[test]
fn the_doctor_knows() {
    let Some(path) = Build::Pure.program(SOURCE) else { return };
    let busy = Busy::start(&path, &[]);
    let pid = busy.child.id().to_string();
    let doctor = run(trapline().args(["doctor", &pid]), b"");
    assert!(doctor.stdout.contains("none: Go's own runtime"), "{}", doctor.stdout);
    busy.end();
}
