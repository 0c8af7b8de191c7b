//! Programs that are started with the image in them, instead of the preloaded agent: those that
//! load nothing, or not by glibc's loader. glibc's has mapped the program's libraries by then, and
//! relocated none; musl's has called nothing of them. A sanitizer's runtime has begun.

use super::attached::{close_by, send_by};
use super::c_library::{self, CLibrary, Kind};
use super::child;
use super::image::{self, Hold, Inside, line, write_standing};
use crate::symbols::libraries::divides_up_addresses;
use crate::symbols::object::Object;
use crate::sys;
use anyhow::{Context as _, anyhow};
use inject::{Error, Force, Launch, Mapped, Remote, Stopped};
use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Child, Command};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread::JoinHandle;
use wire::image::fresh;

/// A control block for the thread of a program that has none yet.
const EARLY: &str = "trapline_early";
/// `MEMBARRIER_CMD_REGISTER_PRIVATE_EXPEDITED` (linux/membarrier.h).
const REGISTER_PRIVATE_EXPEDITED: u64 = 1 << 4;

/// A program that was executed and has yet to run: not even its dynamic linker has, or else all of
/// that has that comes before the program.
#[derive(Debug)]
pub(super) struct Waiting {
    program: PathBuf,
    pid: i32,
    go: Sender<Go>,
    thread: JoinHandle<anyhow::Result<(Child, Mapped)>>,
}

/// What a program is to be entered with.
#[derive(Debug)]
pub(super) struct Go {
    /// The files of a segment: tables and counters.
    pub(super) files: [File; 2],
    /// Whether some function of the segment's needs a breakpoint.
    pub(super) traps: bool,
}

/// How far a program runs before it is entered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Until {
    /// Not at all: it has no dynamic linker.
    Nothing,
    /// Its dynamic linker has mapped all libraries, and relocated none.
    ThreadPointer,
    /// Its dynamic linker is done.
    Entry,
}

impl Until {
    pub(super) fn of(program: &Object, kind: Kind) -> Self {
        match kind {
            Kind { linked: false, .. } => Self::Nothing,
            Kind { go: false, library: CLibrary::Glibc, .. } if !divides_up_addresses(program) => {
                Self::ThreadPointer
            }
            Kind { .. } => Self::Entry,
        }
    }
}

/// Starts a program and keeps it from running.
///
/// # Errors
/// It cannot be executed, or not be traced.
pub(super) fn begin(
    program: &Path,
    command: Command,
    kind: Kind,
    until: Until,
) -> anyhow::Result<Waiting> {
    let (ready, is_ready) = channel();
    let (go, may_go) = channel();
    let shown = program.to_path_buf();
    // Its tracer is a thread that waits for us.
    let launched = move || launch(&shown, command, (kind, until), &ready, may_go);
    let thread = std::thread::Builder::new().name("launch".to_string()).spawn(launched);
    let thread = thread.context(
        "cannot start a thread (ulimit -u says how many there may be, -d and -v their memory)",
    )?;
    match is_ready.recv() {
        Ok(pid) => Ok(Waiting { program: program.to_path_buf(), pid, go, thread }),
        // It has ended, and says why.
        Err(_) => Err(ended(program, thread).err().unwrap_or_else(|| anyhow!("not started"))),
    }
}

fn ended(
    program: &Path,
    thread: JoinHandle<anyhow::Result<(Child, Mapped)>>,
) -> anyhow::Result<(Child, Mapped)> {
    let result = thread.join().map_err(|_| anyhow!("{}: starting it failed", program.display()));
    result.and_then(|result| result)
}

impl Waiting {
    pub(super) fn pid(&self) -> i32 {
        self.pid
    }

    /// Puts the image into the program, which opens the files, arms everything, and lets it run.
    /// Dropping this instead kills the program.
    ///
    /// # Errors
    /// Why that is not done: the program has not run.
    pub(super) fn go(self, with: Go) -> anyhow::Result<(Child, Mapped)> {
        let Self { program, go, thread, .. } = self;
        // An error is that it has been killed meanwhile.
        let _ = go.send(with);
        ended(&program, thread)
    }
}

fn launch(
    program: &Path,
    command: Command,
    (kind, until): (Kind, Until),
    ready: &Sender<i32>,
    may_go: Receiver<Go>,
) -> anyhow::Result<(Child, Mapped)> {
    let mut why = None;
    let why_not = &mut why;
    let work = move |stopped: &mut Stopped<'_>| {
        match until {
            Until::Nothing => {}
            Until::ThreadPointer => stopped.run_to_thread_pointer()?,
            Until::Entry => stopped.run_to_entry()?,
        }
        let _ = ready.send(stopped.threads().next().ok_or(Error::Gone)?);
        let Go { files, traps } = may_go.recv().map_err(|_| Error::Gone)?;
        enter(stopped, kind, [&files[0], &files[1]], traps).map_err(|error| {
            *why_not = Some(error);
            Error::Gone
        })
    };
    // Filters that it has inherited are this process's own.
    let launched = inject::launch(command, Force { seccomp: true }, work);
    match (launched, why) {
        (Ok(launched), _) => Ok(launched),
        (Err(Launch::Spawn(error)), _) => Err(child::not_started(program, &error)),
        (Err(_), Some(why)) => Err(why.context(program.display().to_string())),
        (Err(Launch::Work(error)), None) => {
            Err(line(error).context(format!("{}: it cannot be traced", program.display())))
        }
        (Err(other), None) => Err(anyhow!("{}: {other}", program.display())),
    }
}

/// Brings the image into a program that has yet to run, and arms; `traps`: some function needs a
/// breakpoint.
///
/// # Errors
/// Why that was not done: nothing is armed.
pub(super) fn enter(
    stopped: &mut Stopped<'_>,
    kind: Kind,
    files: [&File; 2],
    traps: bool,
) -> anyhow::Result<Mapped> {
    let image = image::get()?;
    // Go's runtime has yet to make what would be looked at.
    if kind.linked && kind.library != CLibrary::Go {
        c_library::check(stopped, Some(kind.library), false)?;
    }
    let fresh = fresh(stopped, kind, traps)?;
    let mut remote = stopped.remote().map_err(line)?;
    register(&mut remote)?;
    let mapped = sys::with_file_size(|_| remote.map(image)).map_err(line)?;
    let descriptors = send_by(&mut remote, files)?;
    let mut inside = Inside { hold: Hold::Standing(&mut remote), mapped: &mapped };
    inside.start(descriptors, kind.library.distance(), fresh)?;
    let changes = inside.changes();
    drop(remote);
    // What is no list is not written either, and the image is told so.
    let written = changes.and_then(|changes| write_standing(stopped, &changes));
    let mut remote = stopped.remote().map_err(line)?;
    let mut inside = Inside { hold: Hold::Standing(&mut remote), mapped: &mapped };
    let told = inside.written(written.is_ok());
    close_by(&mut remote, &descriptors)?;
    drop(remote);
    written.and(told)?;
    lend_control_block(stopped, &mapped, kind)?;
    Ok(mapped)
}

/// Has the kernel note that the process will ask it for barriers in its other threads. Of a process
/// with one thread that is done at once; the image's functions run on a second one, and would wait
/// for the whole machine (10 ms).
fn register(remote: &mut Remote<'_, '_>) -> anyhow::Result<()> {
    // Where it is refused, the image finds out.
    let done = remote.call(libc::SYS_membarrier, [REGISTER_PRIVATE_EXPEDITED, 0, 0, 0, 0, 0]);
    done.map(drop).map_err(line)
}

/// What the image is to know of a program that has yet to run. One whose C library is a library may
/// have breakpoints: the image sees what it does about signals, and which functions are the C
/// library's own, which run with all of them blocked.
fn fresh(stopped: &mut Stopped<'_>, kind: Kind, traps: bool) -> anyhow::Result<u64> {
    if !traps || !kind.linked || kind.go {
        return Ok(fresh::IS);
    }
    let tid = stopped.threads().next().context("it has ended")?;
    let blocked = stopped.unblock(tid, libc::SIGTRAP).map_err(line)?;
    Ok(fresh::IS | fresh::TRAPS | if blocked { fresh::BLOCKED } else { 0 })
}

/// Probed functions run before the C library has made a control block for the thread: it gets one
/// of the image's until then. Go's runtime has no use for that of a dynamic linker.
fn lend_control_block(
    stopped: &mut Stopped<'_>,
    mapped: &Mapped,
    kind: Kind,
) -> anyhow::Result<()> {
    let tid = stopped.threads().next().context("it has ended")?;
    let mut registers = stopped.registers(tid).context("it has ended")?;
    if registers.fs_base != 0 && kind.library != CLibrary::Go {
        return Ok(());
    }
    let block = mapped.address(EARLY).with_context(|| format!("the image has no {EARLY}"))?;
    stopped.write(block, &block.to_le_bytes()).map_err(line)?;
    registers.fs_base = block;
    stopped.set_registers(tid, registers).map_err(line)
}
