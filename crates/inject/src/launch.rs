//! Starting a program with work done on it before its first instruction.

use crate::error::Error;
use crate::exec::Executed;
use crate::ptrace::{self, Stop, Tid, Waited, options};
use crate::stopped::Stopped;
use crate::target::Force;
use crate::tracer::pass_on;
use std::fs::File;
use std::io::{self, Read as _, Write as _};
use std::os::fd::{AsRawFd as _, OwnedFd};
use std::os::unix::process::CommandExt as _;
use std::process::{Child, Command};

/// Starts `command` and runs `work` on it where it has been loaded and has executed nothing, not
/// even its dynamic linker. Then it goes on, traced by nobody.
///
/// Everything else is as with [`Command::spawn`]. If this process or `work` ends before, the
/// program is killed without having run.
///
/// # Errors
/// [`Launch::Spawn`] if the program could not be started; [`Launch::Work`] if `work` failed, or the
/// program may not be worked on: then it has been killed and waited for.
///
/// # Panics
/// If `work` does; the program has been killed.
pub fn launch<R: Send>(
    mut command: Command,
    force: Force,
    work: impl FnOnce(&mut Stopped<'_>) -> Result<R, Error> + Send,
) -> Result<(Child, R), Launch> {
    let (mut announced, announce) = pipe().map_err(Launch::Spawn)?;
    let (wait, mut go) = pipe().map_err(Launch::Spawn)?;
    prepare(&mut command, announce, wait);
    // Two threads: the one that starts the program waits until it has been executed, and that takes
    // the one that traces.
    let result = std::thread::scope(|scope| {
        let tracer = scope.spawn(move || {
            let mut pid = [0; 4];
            // Nothing comes if there was no child, or not even that.
            announced.read_exact(&mut pid).map_err(|_| Error::Gone)?;
            trace(Tid::from_ne_bytes(pid), &mut go, force, work)
        });
        let child = command.spawn();
        // Closes the ends that the child was to have.
        drop(command);
        (child, tracer.join())
    });
    match result {
        (Err(error), _) => Err(Launch::Spawn(error)),
        (Ok(child), Ok(Ok(result))) => Ok((child, result)),
        (Ok(child), Ok(Err(error))) => {
            end(child);
            Err(Launch::Work(error))
        }
        (Ok(child), Err(panic)) => {
            end(child);
            std::panic::resume_unwind(panic)
        }
    }
}

/// Why [`launch`] has started nothing.
#[derive(Debug)]
#[non_exhaustive]
pub enum Launch {
    /// The program could not be executed.
    Spawn(io::Error),
    /// It could, and was killed before it did anything.
    Work(Error),
}

impl Launch {
    /// The exit code with which a shell reports it: 127 for a program that is not there, 126 for
    /// one that cannot be executed.
    #[must_use]
    pub fn exit_code(&self) -> u8 {
        match self {
            Self::Spawn(error) if error.kind() == io::ErrorKind::NotFound => 127,
            Self::Spawn(_) | Self::Work(_) => 126,
        }
    }
}

impl std::fmt::Display for Launch {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Spawn(error) => error.fmt(f),
            Self::Work(error) => error.fmt(f),
        }
    }
}

impl std::error::Error for Launch {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Spawn(error) => Some(error),
            Self::Work(error) => Some(error),
        }
    }
}

fn pipe() -> io::Result<(File, File)> {
    let (reader, writer) = io::pipe()?;
    Ok((File::from(OwnedFd::from(reader)), File::from(OwnedFd::from(writer))))
}

/// Has the child say its number and wait to be traced, right before it executes the program.
#[allow(unsafe_code, reason = "what runs between fork and exec")]
fn prepare(command: &mut Command, announce: File, wait: File) {
    let ready = move || {
        let pid = (std::process::id() as Tid).to_ne_bytes();
        // SAFETY: four bytes of ours.
        let said = unsafe { libc::write(announce.as_raw_fd(), pid.as_ptr().cast(), pid.len()) };
        let mut byte = 0_u8;
        // SAFETY: one byte of ours.
        let heard = unsafe { libc::read(wait.as_raw_fd(), (&raw mut byte).cast(), 1) };
        if said == 4 && heard == 1 { Ok(()) } else { Err(io::Error::last_os_error()) }
    };
    // SAFETY: the closure makes three system calls, and allocates nothing.
    unsafe { command.pre_exec(ready) };
}

/// The tracer's part.
fn trace<R>(
    pid: Tid,
    go: &mut File,
    force: Force,
    work: impl FnOnce(&mut Stopped<'_>) -> Result<R, Error>,
) -> Result<R, Error> {
    let wanted = options::PLAIN | options::EXEC | options::KILL;
    let seized = ptrace::seize(pid, wanted).map_err(Error::own("tracing the program"));
    // It waits for this, also if it is to go on untraced.
    go.write_all(&[1]).map_err(Error::own("letting the program start"))?;
    seized?;
    loop {
        match ptrace::wait_for(pid) {
            Waited::Ended | Waited::Running => return Err(Error::Gone),
            Waited::Stopped(Stop::Event(libc::PTRACE_EVENT_EXEC)) => break,
            Waited::Stopped(other) => pass_on(pid, other),
        }
    }
    let mut executed = Executed::new(pid, force, wanted)?;
    let mut stopped = executed.stopped();
    let result = work(&mut stopped);
    if result.is_err() {
        // Before it is let go.
        ptrace::kill(pid, libc::SIGKILL);
    }
    result
}

fn end(mut child: Child) {
    // It may have been killed before; either way its exit status is taken.
    let _ = child.kill();
    let _ = child.wait();
}
