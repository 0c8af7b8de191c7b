//! Runtimes that look at their own stacks, or move them: node, HotSpot, greenlet, fibers, LuaJIT,
//! Go. With every function timed, they do what they do bare.
//!
//! Once each; `TRAPLINE_ROUNDS=20` for more.

#[path = "../common/mod.rs"]
mod common;

mod copied;
mod fibers;
mod frames;
mod go;
mod greenlet;
mod java;
mod luajit;
mod node;
mod wrappers;

use common::process::{Finished, program, run, trapline};
use common::{Report, build};
use std::path::{Path, PathBuf};

/// A file of `tests/targets/runtimes`.
fn source(name: &str) -> PathBuf {
    build::sources().join("runtimes").join(name)
}

/// How often each is run.
fn rounds() -> u32 {
    std::env::var("TRAPLINE_ROUNDS").map_or(1, |n| n.parse().expect("a number"))
}

/// A program that prints the same in every run.
struct Runtime<'a> {
    command: &'a [&'a str],
    folder: &'a Path,
    environment: &'a [(&'a str, &'a str)],
}

impl<'a> Runtime<'a> {
    fn new(command: &'a [&'a str], folder: &'a Path) -> Self {
        Self { command, folder, environment: &[] }
    }

    fn run(&self, mut command: std::process::Command) -> Finished {
        run(command.current_dir(self.folder).envs(self.environment.iter().copied()), b"")
    }

    /// Runs it bare and with each list of specs; the reports.
    ///
    /// # Panics
    /// Where it does something else than bare, or the report says that something was lost.
    fn check(&self, lists: &[&[&str]]) -> Vec<Report> {
        let mut bare = program(self.command[0]);
        bare.args(&self.command[1..]);
        let bare = self.run(bare);
        assert_eq!(bare.code, 0, "{:?} bare: {}\n{}", self.command, bare.stdout, bare.stderr);
        let report = self.folder.join("report.json");
        let mut reports = Vec::new();
        for specs in lists.iter().cycle().take(lists.len() * rounds() as usize) {
            let mut probed = trapline();
            probed.args(["stat", "-j", "-o"]).arg(&report).args(*specs).arg("--");
            let probed = self.run({
                probed.args(self.command);
                probed
            });
            let what = format!("{:?} with {specs:?}", self.command);
            assert_eq!(
                (probed.code, &probed.stdout),
                (bare.code, &bare.stdout),
                "{what}: {}",
                probed.stderr
            );
            let report = Report::read(&report).unwrap_or_else(|why| panic!("{what}: {why}"));
            assert_eq!(report.lost(), [], "{what}");
            assert_eq!(report.problems(), [""; 0], "{what}");
            reports.push(report);
        }
        reports
    }
}
