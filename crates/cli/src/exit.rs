//! Exit codes, as `env` and `timeout` have them: the program's own, or one of these.

use std::fmt;

/// Wrong usage, or a spec that matched nothing.
pub(crate) const USAGE: u8 = 2;
/// Trapline itself failed, or cannot trace this program.
pub(crate) const FAILED: u8 = 125;
/// The program is there and cannot be executed.
pub(crate) const CANNOT_EXECUTE: u8 = 126;
/// The program is not there.
pub(crate) const NOT_FOUND: u8 = 127;

/// An error that has an exit code of its own; every other error is [`FAILED`].
#[derive(Debug)]
pub(crate) struct Failure {
    code: u8,
    /// One line each.
    messages: Vec<String>,
}

impl Failure {
    pub(crate) fn error(code: u8, message: impl Into<String>) -> anyhow::Error {
        Self::errors(code, vec![message.into()])
    }

    /// Several things that are wrong at once.
    pub(crate) fn errors(code: u8, messages: Vec<String>) -> anyhow::Error {
        anyhow::Error::new(Self { code, messages })
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.messages.join("; "))
    }
}

impl std::error::Error for Failure {}

/// The lines that say what is wrong.
pub(crate) fn messages(error: &anyhow::Error) -> Vec<String> {
    match error.downcast_ref::<Failure>() {
        Some(failure) if failure.messages.len() > 1 => failure.messages.clone(),
        _ => vec![format!("{error:#}")],
    }
}

/// The exit code of an error.
pub(crate) fn code_of(error: &anyhow::Error) -> u8 {
    error.downcast_ref::<Failure>().map_or(FAILED, |failure| failure.code)
}
