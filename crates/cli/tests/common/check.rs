//! A program run bare and probed must do the same, and the report must have counted what the
//! program did.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use super::process::{Finished, by_image, program, run, trapline};
use super::recording::Recording;
use super::report::Report;

/// What to probe.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Mode {
    /// `t_*`: the functions under test, entry and return with the time.
    Timed,
    /// `entry:t_*`: entries only.
    Counted,
    /// `ret:t_*`: returns only.
    Returned,
    /// No SPEC: every function of the program.
    Everything,
    /// Every function of the program and of the C library.
    WithLibc,
    /// `t_*` by call stack, under `trapline record`.
    Recorded,
    /// Every function of the program by call stack and time.
    RecordedTime,
}

impl Mode {
    /// The modes in which every target must be right.
    pub(crate) const USUAL: [Self; 6] = [
        Self::Timed,
        Self::Counted,
        Self::Returned,
        Self::Everything,
        Self::Recorded,
        Self::RecordedTime,
    ];

    /// Options of `trapline record`; none: it is `trapline stat`.
    fn record(self) -> Option<&'static [&'static str]> {
        match self {
            Self::Recorded => Some(&[]),
            Self::RecordedTime => Some(&["--weight", "time"]),
            _ => None,
        }
    }

    fn specs(self, object: &str) -> Vec<String> {
        match self {
            Self::Timed | Self::Recorded => vec!["t_*".to_owned()],
            Self::Counted => vec!["entry:t_*".to_owned()],
            Self::Returned => vec!["ret:t_*".to_owned()],
            Self::Everything | Self::RecordedTime => vec![],
            Self::WithLibc => vec![format!("{object}:*"), "libc.so.6:*".to_owned()],
        }
    }
}

/// One program with its arguments, input and expectations.
#[derive(Clone)]
pub(crate) struct Case {
    program: PathBuf,
    arguments: Vec<String>,
    environment: Vec<(String, String)>,
    input: Vec<u8>,
    modes: Vec<Mode>,
    specs: Option<Vec<String>>,
    code: i32,
    same_output: bool,
    lost: Vec<&'static str>,
    skipped: Option<&'static str>,
}

impl Case {
    /// `program` without arguments, expected to exit with 0.
    pub(crate) fn new(program: &Path) -> Self {
        Self {
            program: program.to_owned(),
            arguments: Vec::new(),
            environment: Vec::new(),
            input: Vec::new(),
            modes: Mode::USUAL.to_vec(),
            specs: None,
            code: 0,
            same_output: true,
            lost: Vec::new(),
            skipped: None,
        }
    }

    /// Adds an argument.
    pub(crate) fn arg(mut self, argument: impl AsRef<std::ffi::OsStr>) -> Self {
        self.arguments.push(argument.as_ref().to_str().expect("in UTF-8").to_owned());
        self
    }

    /// Sets a variable.
    pub(crate) fn env(mut self, name: &str, value: &str) -> Self {
        self.environment.push((name.to_owned(), value.to_owned()));
        self
    }

    /// Standard input.
    pub(crate) fn input(mut self, bytes: &[u8]) -> Self {
        self.input = bytes.to_owned();
        self
    }

    /// Other modes than the usual ones.
    pub(crate) fn modes(mut self, modes: &[Mode]) -> Self {
        self.modes = modes.to_vec();
        self
    }

    /// These specs instead of any mode.
    pub(crate) fn specs(mut self, specs: &[&str]) -> Self {
        self.specs = Some(specs.iter().map(|&spec| spec.to_owned()).collect());
        self
    }

    /// The exit code, or 128 + signal.
    pub(crate) fn code(mut self, code: i32) -> Self {
        self.code = code;
        self
    }

    /// The output differs between runs of the bare program: only the counts are compared.
    pub(crate) fn output_varies(mut self) -> Self {
        self.same_output = false;
        self
    }

    /// Hits may be lost for this reason.
    pub(crate) fn may_lose(mut self, reason: &'static str) -> Self {
        self.lost.push(reason);
        self
    }

    /// Functions may be left alone for a reason that has this in it.
    pub(crate) fn may_skip(mut self, reason: &'static str) -> Self {
        self.skipped = Some(reason);
        self
    }

    fn prepare(&self, mut command: Command) -> Command {
        command.envs(self.environment.iter().map(|(name, value)| (name, value)));
        command
    }

    /// Runs the program bare.
    pub(crate) fn bare(&self) -> Finished {
        run(self.prepare(program(&self.program)).args(&self.arguments), &self.input)
    }

    /// Runs the program under `trapline stat` with `specs`.
    pub(crate) fn probed(&self, specs: &[String]) -> (Finished, Result<Report, String>) {
        let directory = tempfile::tempdir().expect("a temporary directory");
        let file = directory.path().join("report.json");
        let mut command = self.prepare(trapline());
        command
            .args(["stat", "-j", "-o"])
            .arg(&file)
            .args(specs)
            .arg("--")
            .arg(&self.program)
            .args(&self.arguments);
        let finished = run(&mut command, &self.input);
        (finished, Report::read(&file))
    }

    /// Runs the program under `trapline record` with `specs` and `options`.
    pub(crate) fn recorded(
        &self,
        specs: &[String],
        options: &[&str],
    ) -> (Finished, Result<Report, String>) {
        let directory = tempfile::tempdir().expect("a temporary directory");
        let file = directory.path().join("recording.tlp");
        let mut command = self.prepare(trapline());
        command
            .args(["record", "-o"])
            .arg(&file)
            .args(options)
            .args(specs)
            .arg("--")
            .arg(&self.program)
            .args(&self.arguments);
        let mut finished = run(&mut command, &self.input);
        // What it says of the recording goes to stderr.
        finished.stderr = finished
            .stderr
            .split_inclusive('\n')
            .filter(|line| !line.starts_with("trapline: "))
            .collect();
        (finished, Recording::read(&file).and_then(|recording| recording.report()))
    }

    /// Runs the program bare and in every mode, compares, and gives the reports.
    ///
    /// # Panics
    ///
    /// With all differences of all modes.
    pub(crate) fn check(&self) -> Vec<Report> {
        let bare = self.bare();
        assert!(
            bare.code == self.code,
            "{} bare: exit code {}, expected {}\n{}{}",
            self.program.display(),
            bare.code,
            self.code,
            bare.stdout,
            bare.stderr
        );
        let object =
            self.program.file_name().expect("a program has a name").to_str().expect("in UTF-8");
        let runs: Vec<(Vec<String>, Option<&[&str]>)> = match &self.specs {
            Some(specs) => vec![(specs.clone(), None)],
            None => {
                let mut modes = self.modes.clone();
                modes.retain(|mode| !by_image() || *mode != Mode::RecordedTime);
                modes.iter().map(|mode| (mode.specs(object), mode.record())).collect()
            }
        };
        let mut problems = String::new();
        let mut reports = Vec::new();
        for (specs, record) in runs {
            let (probed, report) = match record {
                None => self.probed(&specs),
                Some(options) => self.recorded(&specs, options),
            };
            let mut found = if self.same_output || probed.code != self.code {
                differences(&bare, &probed)
            } else {
                Vec::new()
            };
            match report {
                Err(error) => found.push(error),
                Ok(report) => {
                    found.extend(self.wrong_counts(&probed.stdout, &report));
                    found.extend(report.problems());
                    reports.push(report);
                }
            }
            if !found.is_empty() {
                let _ = writeln!(
                    problems,
                    "\n{} {:?} with {specs:?} {record:?}:",
                    self.program.display(),
                    self.arguments
                );
                for problem in found {
                    let _ = writeln!(problems, "  - {problem}");
                }
            }
        }
        assert!(problems.is_empty(), "{problems}");
        reports
    }

    /// Runs the program bare and with its specs, compares output and losses but no counts, and
    /// gives the report.
    pub(crate) fn check_output_only(&self) -> Report {
        let bare = self.bare();
        let specs = self.specs.clone().expect("specs of its own");
        let (probed, report) = self.probed(&specs);
        let found = differences(&bare, &probed);
        let what = format!("{} {:?} with {specs:?}", self.program.display(), self.arguments);
        assert!(found.is_empty(), "{what}:\n  - {}", found.join("\n  - "));
        let report = report.unwrap_or_else(|error| panic!("{what}: {error}"));
        assert!(report.lost().is_empty(), "{what}: {:?}", report.lost());
        report
    }

    /// What the program says about its own calls, against the report.
    fn wrong_counts(&self, output: &str, report: &Report) -> Vec<String> {
        let mut wrong = Vec::new();
        for line in output.lines() {
            let words: Vec<&str> = line.split(' ').collect();
            let ([kind @ ("calls" | "sum"), name, number], true) =
                (words.as_slice(), words.len() == 3)
            else {
                continue;
            };
            let Ok(expected) = number.parse::<u64>() else { continue };
            let counted = if *kind == "sum" {
                report.sum(|function| function.starts_with(name))
            } else {
                report.calls(name)
            };
            let skipped = report.skipped(name);
            let may = |reason: &String| self.skipped.is_some_and(|may| reason.contains(may));
            if counted != expected && !(counted == 0 && skipped.iter().any(may)) {
                let why = if skipped.is_empty() {
                    String::new()
                } else {
                    format!(" (skipped: {})", skipped.join(", "))
                };
                wrong.push(format!("{name}: {counted} calls counted, {expected} made{why}"));
            }
        }
        for (reason, number) in report.lost() {
            if !self.lost.contains(&reason.as_str()) {
                wrong.push(format!("{number} lost: {reason}"));
            }
        }
        wrong
    }
}

/// How two runs differ.
pub(crate) fn differences(bare: &Finished, probed: &Finished) -> Vec<String> {
    let mut found = Vec::new();
    if bare.code != probed.code {
        found.push(format!("exit code {} bare, {} probed", bare.code, probed.code));
    }
    // The one thing that the tool says on its own: that a SPEC waits for a library.
    let waits = |line: &&str| {
        line.starts_with("trapline: '")
            && line.contains("; waiting for an object that is opened later")
    };
    let errors: String = probed.stderr.split_inclusive('\n').filter(|line| !waits(line)).collect();
    for (stream, bare, probed) in
        [("output", &bare.stdout, &probed.stdout), ("errors", &bare.stderr, &errors)]
    {
        if bare != probed {
            found.push(format!(
                "{stream} differ\n--- bare\n{}\n--- probed\n{}\n---",
                shorten(bare),
                shorten(probed)
            ));
        }
    }
    found
}

fn shorten(text: &str) -> String {
    let end = text.char_indices().nth(3000).map_or(text.len(), |(at, _)| at);
    text[..end].to_owned()
}
