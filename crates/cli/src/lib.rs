//! The library behind the command line `trapline`.
//!
//! It resolves names to addresses out of process ([`main`] is its whole interface), puts the agent
//! into the program, and reads what the agent counts from the segment that both map. It never links
//! the probe engine.
//!
//! | step | where |
//! |---|---|
//! | what was asked for | `args`, `spec`, `pattern`, `names` |
//! | what there is | `program`, `processes`, `symbols` |
//! | what that means | `literal`, `select`, `resolve`; `suggest`, `unknown` |
//! | what of it may be shown | `text` |
//! | the run | `run` |
//! | what is known of it, as data | `model` |
//! | from the run to that | `report`, `recording` |
//! | from that to text, pages and profiles | `render`, `outputs` |
//! | the commands | `verbs` |
//!
//! No two files use each other, not even by way of others (`scripts/circles`): `model` is at the
//! bottom, `verbs` at the top, and `outputs` and `render` know nothing of a run.
#![deny(unsafe_code)]

mod args;
mod clock;
mod exit;
mod human;
mod inlined;
mod literal;
#[cfg(test)]
#[path = "../tests/common/missing.rs"]
mod missing;
mod model;
mod names;
mod out;
mod outputs;
mod pattern;
mod planning;
mod processes;
mod program;
mod recording;
mod render;
mod report;
mod resolve;
mod run;
mod select;
mod spec;
mod streams;
mod suggest;
mod symbols;
mod sys;
mod target;
mod text;
mod unknown;
mod usage;
mod verbs;

use args::Verb;
use std::ffi::OsStr;
use std::process::ExitCode;

/// Runs the command line of this process and says with which code it ends.
pub fn main() -> ExitCode {
    let cli = match args::parse(std::env::args_os()) {
        Ok(cli) => cli,
        Err(said) => return explain(&said),
    };
    let result = match cli.verb {
        Verb::Stat(args) => verbs::stat::run(&args),
        Verb::Record(args) => verbs::record::run(&args),
        Verb::Report(args) => verbs::report::run(&args),
        Verb::Attach(args) => verbs::attach::run(&args),
        Verb::Detach(args) => verbs::detach::run(&args),
        Verb::Ps { json } => verbs::ps::run(json),
        Verb::List(args) => verbs::list::run(&args),
        Verb::Doctor(args) => verbs::doctor::run(&args),
        Verb::Completions { shell } => verbs::completions::run(shell),
        Verb::Man { directory } => verbs::man::run(directory.as_deref()),
    };
    ExitCode::from(result.unwrap_or_else(|error| failed(&error)))
}

/// Says what went wrong; the exit code.
fn failed(error: &anyhow::Error) -> u8 {
    exit::messages(error).iter().for_each(|message| out::say(message));
    exit::code_of(error)
}

/// What is wrong with the arguments, in which the user's words are as they may be shown.
fn print_plainly(said: &clap::Error, words: &[&OsStr]) {
    let hidden = |text: &str| text.contains(|c| text::is_unseen(c) && c != '\n');
    let shown: Vec<String> =
        words.iter().map(|word| text::visible(&word.to_string_lossy()).into_owned()).collect();
    if shown.iter().zip(words).any(|(shown, word)| OsStr::new(shown) != *word) {
        let arguments = std::iter::once("trapline".into()).chain(shown.into_iter().map(Into::into));
        if let Err(said) = args::parse(arguments) {
            eprint!("{}", said.render());
            return;
        }
    }
    // A variable may have such words, too.
    let plain = said.render().to_string();
    if hidden(&plain) {
        plain.lines().for_each(|line| eprintln!("{}", text::visible(line)))
    } else {
        _ = said.print()
    }
}

/// Help, the version, or what is wrong with the arguments.
fn explain(said: &clap::Error) -> ExitCode {
    let code = u8::try_from(said.exit_code()).unwrap_or(exit::USAGE);
    if said.use_stderr() {
        let words: Vec<std::ffi::OsString> = std::env::args_os().skip(1).collect();
        let words: Vec<&OsStr> = words.iter().map(std::ffi::OsString::as_os_str).collect();
        match usage::advice(said, &words, |word| program::Program::find(word).is_ok()) {
            Some(advice) => out::say(&advice),
            None => print_plainly(said, &words),
        }
        return ExitCode::from(code);
    }
    let text = said.render();
    let text =
        if out::colours(&std::io::stdout()) { text.ansi().to_string() } else { text.to_string() };
    ExitCode::from(
        target::Target::Stdout
            .write(text.as_bytes())
            .map_or_else(|error| failed(&error), |()| code),
    )
}
