//! The program, started with the agent in it.
#![allow(unsafe_code)]

use super::agent::Place;
use crate::exit::{CANNOT_EXECUTE, Failure, NOT_FOUND};
use std::ffi::OsString;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::Path;
use std::process::{Child, Command, ExitStatus};

/// `command`, to be started. Streams, directory, environment and blocked signals are those that
/// trapline was started with.
pub(super) fn command(program: &Path, command: &[OsString], blocked: libc::sigset_t) -> Command {
    let mut child = Command::new(program);
    child.arg0(&command[0]).args(&command[1..]);
    let unblock = move || {
        // SAFETY: the set lives through the call, and no old set is asked for.
        unsafe {
            libc::pthread_sigmask(libc::SIG_SETMASK, &raw const blocked, std::ptr::null_mut())
        };
        Ok(())
    };
    // SAFETY: the closure makes one call, which is safe after fork.
    unsafe { child.pre_exec(unblock) };
    child
}

/// Starts a command, with the two variables that bring in the agent, which takes them out again.
pub(crate) fn spawn(
    program: &Path,
    mut child: Command,
    agent: &Place,
    segment: &Path,
) -> anyhow::Result<Child> {
    let mut preload = agent.path().as_os_str().to_owned();
    if let Some(own) = std::env::var_os("LD_PRELOAD").filter(|own| !own.is_empty()) {
        preload.push(":");
        preload.push(own);
    }
    child.env("LD_PRELOAD", preload).env("TRAPLINE_SEGMENT", segment);
    child.spawn().map_err(|error| not_started(program, &error))
}

/// The program could not be executed.
pub(super) fn not_started(program: &Path, error: &std::io::Error) -> anyhow::Error {
    let code =
        if error.kind() == std::io::ErrorKind::NotFound { NOT_FOUND } else { CANNOT_EXECUTE };
    Failure::error(code, format!("{}: {error}", program.display()))
}

/// The exit code that a shell would give: its own, or 128 + signal.
pub(crate) fn code(status: ExitStatus) -> u8 {
    let code = status.code().unwrap_or_else(|| 128 + status.signal().unwrap_or(0));
    u8::try_from(code & 0xff).unwrap_or(u8::MAX)
}
