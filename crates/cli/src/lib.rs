//! The library behind the command line `trapline`.
//!
//! It resolves names to addresses out of process ([`main`] is its whole interface), puts the agent into the program, and reads what the agent counts from the segment that
//! both map. It never links the probe engine.
//!
//! | step | where |
//! |---|---|
//! | what was asked for | `args`, `spec`, `pattern`, `glob`, `names` |
//! | what there is | `program`, `symbols` |
//! | what that means | `select`, `resolve` |
//! | the run | `run` |
//! | the report | `report`, `render` |
//! | recordings | `recording`, `outputs` |
#![deny(unsafe_code)]

mod args;
mod exit;
mod glob;
mod human;
mod names;
mod out;
mod outputs;
mod pattern;
mod program;
mod recording;
mod render;
mod report;
mod resolve;
mod run;
mod select;
mod spec;
mod symbols;
mod sys;
mod verbs;

use args::{Cli, Verb};
use clap::Parser;
use std::process::ExitCode;

/// Runs the command line of this process and says with which code it ends.
pub fn main() -> ExitCode {
    let result = match Cli::parse().verb {
        Verb::Stat(args) => verbs::stat::run(&args),
        Verb::Record(args) => verbs::record::run(&args),
        Verb::Report(args) => verbs::report::run(&args),
        Verb::List(args) => verbs::list::run(&args),
        Verb::Doctor(args) => verbs::doctor::run(&args),
        Verb::Completions { shell } => Ok(verbs::completions::run(shell)),
        Verb::Man { directory } => verbs::man::run(directory.as_deref()),
    };
    ExitCode::from(result.unwrap_or_else(|error| {
        for line in format!("{error:#}").lines() {
            out::say(line);
        }
        exit::code_of(&error)
    }))
}
