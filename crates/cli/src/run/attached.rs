//! Processes that run already: the image is put into each, and taken out of use again.

use super::armed;
use super::c_library::{self, CLibrary};
use super::image::{self, Ended, Hold, Inside, line};
use super::loaded::{Loaded, Objects, shares};
use super::traced::patiently;
use crate::exit::{FAILED, Failure, USAGE};
use crate::model::outside::{After, Attached as Row};
use crate::out::say;
use crate::processes;
use crate::resolve::Resolution;
use crate::spec::Spec;
use crate::sys;
use crate::text::visible;
use anyhow::anyhow;
use inject::{Force, Found, Mapped, Refusal, Refused, Remote, Stopped, Target, Tracer};
use std::collections::BTreeSet;
use std::fs::{self, File};
use std::os::fd::OwnedFd;
use std::os::unix::fs::MetadataExt as _;

/// What a process keeps of the files of its segment, beside their mappings.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Keep {
    Nothing,
    /// Descriptors, for command lines that come later.
    Files,
}

/// A process that is to be entered, looked at and not touched.
#[derive(Debug)]
pub(super) struct Candidate {
    target: Target,
    loaded: Loaded,
}

/// A process in which the image counts.
#[derive(Debug)]
pub(super) struct Attached {
    pid: i32,
    name: String,
    /// Whether it was started with the image in it.
    started: bool,
    target: Target,
    mapped: Mapped,
    /// What became of it when the tracing was over; none as long as it goes on.
    after: Option<After>,
    /// Why its probes stay.
    why: Option<String>,
}

/// Looks whether the process may be entered.
///
/// # Errors
/// Why not, in one line that says what to do.
pub(crate) fn probe(pid: i32, force: bool) -> anyhow::Result<Target> {
    Target::probe(pid, Force { seccomp: force }).map_err(|refused| refusal(&refused))
}

/// Looks at processes that are to be entered, and nothing is done to them. Those that may not be
/// are refused one by one: an error only if none may.
///
/// # Errors
/// All refusals.
pub(super) fn look(
    pids: &[i32],
    force: bool,
    objects: &mut Objects,
) -> anyhow::Result<Vec<Candidate>> {
    let candidate = |pid: &i32| {
        let target = probe(*pid, force)?;
        let loaded = objects.add(target.pid())?;
        Ok::<_, anyhow::Error>(Candidate { target, loaded })
    };
    entered(pids.iter().map(candidate))
}

/// What was done for some of several processes; what was not is said.
///
/// # Errors
/// Nothing was.
pub(crate) fn entered<T>(all: impl Iterator<Item = anyhow::Result<T>>) -> anyhow::Result<Vec<T>> {
    let (mut done, mut refused) = (Vec::new(), Vec::new());
    for one in all {
        match one {
            Ok(one) => done.push(one),
            Err(why) => refused.push(format!("{why:#}")),
        }
    }
    if done.is_empty() {
        return Err(Failure::errors(FAILED, refused));
    }
    refused.iter().for_each(|why| say(why));
    Ok(done)
}

/// What the specs mean in what running processes have mapped. What is mapped later is not looked
/// at: so all must mean something.
///
/// # Errors
/// One that means nothing.
pub(crate) fn resolve(objects: Objects, specs: &[String]) -> anyhow::Result<Resolution> {
    let (resolution, unread) = resolve_some(objects, specs)?;
    let nothing = |spec: &Spec| {
        let why = resolution.waits_for(spec).replace(" at start", "");
        format!("'{}': {why}{unread}", visible(&spec.text))
    };
    let unmatched: Vec<String> = resolution.unmatched().map(nothing).collect();
    if unmatched.is_empty() { Ok(resolution) } else { Err(Failure::errors(USAGE, unmatched)) }
}

/// As [`resolve`], but what names an object that is not there waits for it; that is said.
///
/// # Errors
/// One that means nothing in what is there.
pub(super) fn resolve_also_later(objects: Objects, specs: &[String]) -> anyhow::Result<Resolution> {
    let (resolution, unread) = resolve_some(objects, specs)?;
    for spec in resolution.unmatched() {
        let why = resolution.waits_for(spec).replace(" at start", "");
        let text = visible(&spec.text);
        say(&format!("'{text}': {why}{unread}; waiting for an object that is opened later"));
    }
    Ok(resolution)
}

/// What the specs mean, and the files that were not looked at, as a text.
fn resolve_some(objects: Objects, specs: &[String]) -> anyhow::Result<(Resolution, String)> {
    let listed = objects.first().map(|pid| format!("-p {pid}"));
    let (unread, objects, mains) = objects.in_order();
    let unread = match &unread[..] {
        [] => String::new(),
        paths => format!(" (not looked at, as they cannot be read: {})", paths.join(", ")),
    };
    anyhow::ensure!(mains > 0, "the program cannot be read{unread}");
    let specs = specs.iter().map(|text| Spec::parse(text)).collect();
    let resolution = Resolution::of_programs(objects, mains, listed, specs)?.of_running();
    Ok((resolution, unread))
}

/// A refusal as this command line words it.
pub(crate) fn refusal(refused: &Refused) -> anyhow::Error {
    let message = match refused.why {
        Refusal::Seccomp => format!(
            "process {} filters its system calls and may be killed for those that are made in it: \
                --force if you know that its filters only refuse",
            refused.pid
        ),
        _ => refused.to_string(),
    };
    Failure::error(FAILED, message)
}

impl Candidate {
    /// Puts the image into the process, which opens these files of a segment, and arms everything.
    ///
    /// # Errors
    /// Why that is not done, with the process in front. The process is as it was.
    pub(super) fn enter(self, files: [&File; 2], keep: Keep) -> anyhow::Result<Attached> {
        let Self { target, loaded: Loaded { name, c_library, .. } } = self;
        let pid = target.pid();
        let work = |tracer: &mut Tracer| Ok(enter(tracer, c_library, files, keep));
        let mapped = target.trace(work).map_err(line).and_then(|done| done);
        match mapped {
            Ok(mapped) => {
                let (started, after, why) = (false, None, None);
                Ok(Attached { pid, name, started, target, mapped, after, why })
            }
            Err(why) => Err(match why.downcast_ref::<Refused>() {
                Some(refused) => refusal(refused),
                None => anyhow!("process {pid} ({name}): {why:#}"),
            }),
        }
    }
}

/// Brings the image, unless it is there, and arms.
fn enter(
    tracer: &mut Tracer,
    said: Option<CLibrary>,
    files: [&File; 2],
    keep: Keep,
) -> anyhow::Result<Mapped> {
    let image = image::get()?;
    let found = match tracer.find(image).map_err(line)? {
        Found::None => None,
        Found::Same(mapped) => Some(mapped),
        Found::Other(address) => anyhow::bail!(
            "another version of trapline has been in it (at {address:#x}): use that one, or start \
                the process anew"
        ),
    };
    anyhow::ensure!(
        found.is_some() || !has_agent(tracer.target().pid()),
        "it was started under trapline, whose agent is in it still: start it without"
    );
    // Looked at first, by a stop of its own: what comes then needs only one thread.
    let library = c_library::check(&tracer.stop_all().map_err(line)?, said, found.is_some())?;
    let is_new = found.is_none();
    let mapped = match found {
        Some(mapped) => {
            take_over(&mut Inside { hold: Hold::Running(tracer), mapped: &mapped })?;
            mapped
        }
        None => {
            let mut stopped = tracer.stop_one().map_err(line)?;
            // A file of the process's that this process writes: here its own limit counts.
            let mapped = sys::with_file_size(|_| stopped.remote()?.map(image));
            mapped.map_err(line)?
        }
    };
    let lent = if sees_proc(tracer.target().pid()) { None } else { lend_maps(tracer, &mapped)? };
    let mut started = start(tracer, &mapped, files, library, keep);
    let is_new = is_new && started.is_err();
    if started.is_ok() {
        let mut inside = Inside { hold: Hold::Running(tracer), mapped: &mapped };
        started = inside.arm().map(drop);
        if started.is_err() {
            // Out of use again. If that fails, too, nothing was written, and so nothing counts.
            let _ = inside.disarm();
        }
    } else if is_new {
        // Nothing leads there. An error is that the process has ended.
        let stopped = tracer.stop_all();
        let _ = stopped.and_then(|mut stopped| stopped.remote()?.unmap(&mapped));
    }
    if let Some(descriptor) = lent {
        if !is_new {
            Inside { hold: Hold::Running(tracer), mapped: &mapped }.lend_maps(None)?;
        }
        tracer.stop_one().map_err(line)?.remote().map_err(line)?.close(descriptor).map_err(line)?;
    }
    started.map(|()| mapped)
}

/// Whether a process can look at itself.
fn sees_proc(pid: i32) -> bool {
    fs::symlink_metadata(processes::folder(pid).join("root/proc/self")).is_ok()
}

/// Gives a process without /proc its list of mappings, and the image the descriptor.
fn lend_maps(tracer: &mut Tracer, mapped: &Mapped) -> anyhow::Result<Option<u64>> {
    let maps = File::open(processes::folder(tracer.target().pid()).join("maps"))?;
    let sent = {
        let mut stopped = tracer.stop_one().map_err(line)?;
        let mut remote = stopped.remote().map_err(line)?;
        remote.send(&maps).map_err(line)?
    };
    Inside { hold: Hold::Running(tracer), mapped }.lend_maps(Some(sent))?;
    Ok(Some(sent))
}

/// Whether the agent that is preloaded is in a process. Two engines would patch each other's
/// patches.
fn has_agent(pid: i32) -> bool {
    let maps = processes::maps(pid).unwrap_or_default();
    let maps = String::from_utf8_lossy(&maps);
    // In its directory, or in memory (`run/agent`).
    let is_agent = |line: &str| {
        line.contains("/memfd:trapline-agent")
            || line.contains("/trapline-") && line.contains("/agent-") && line.contains(".so")
    };
    maps.lines().any(is_agent)
}

/// Sees to it that nobody uses an image that is there already: what a command line has left that is
/// gone is taken back first.
fn take_over(inside: &mut Inside<'_, '_, '_>) -> anyhow::Result<()> {
    let Some(owner) = inside.owner()? else { return Ok(()) };
    if processes::is_trapline(owner) {
        anyhow::bail!("process {owner} (trapline) counts in it: end that first");
    }
    let pid = match &inside.hold {
        Hold::Running(tracer) => tracer.target().pid(),
        Hold::Standing(remote) => remote.pid(),
    };
    if armed::is_in_background(pid) {
        anyhow::bail!(
            "it is attached to in the background: `trapline stat --attached {pid}` shows what is \
                counted, `trapline detach {pid}` ends that"
        );
    }
    inside.disarm().map(drop)
}

/// Descriptors that the process has of a command line that was killed before it could close them.
fn left_descriptors(pid: i32) -> Vec<u64> {
    let same_file = |a: &str, b: &str| {
        let number = |path: &str| fs::metadata(path).map(|file| (file.dev(), file.ino())).ok();
        number(a).is_some_and(|a| Some(a) == number(b))
    };
    // A trapline that is looked at has such files itself.
    if same_file("/proc/self/exe", &format!("/proc/{pid}/exe")) {
        return Vec::new();
    }
    armed::descriptors(pid)
}

/// Gives the process the files for as long as the image needs to map them.
fn start(
    tracer: &mut Tracer,
    mapped: &Mapped,
    files: [&File; 2],
    library: CLibrary,
    keep: Keep,
) -> anyhow::Result<()> {
    let descriptors = {
        let left = left_descriptors(tracer.target().pid());
        let mut stopped = tracer.stop_one().map_err(line)?;
        close(&mut stopped, &left)?;
        send(&mut stopped, files)?
    };
    let started =
        Inside { hold: Hold::Running(tracer), mapped }.start(descriptors, library.distance(), 0);
    let mut stopped = tracer.stop_one().map_err(line)?;
    if started.is_ok() && keep == Keep::Files {
        put_aside(&mut stopped, descriptors)?;
    }
    started.and(close(&mut stopped, &descriptors))
}

/// Gives the process other descriptors of the files, out of the way of those that it opens: the
/// lowest that is free is what a program gets.
fn put_aside(stopped: &mut Stopped<'_>, descriptors: [u64; 2]) -> anyhow::Result<()> {
    /// Tables of descriptors are as long as the largest number needs.
    const HIGHEST: u64 = 1024;
    let tid = stopped.threads().next().ok_or(Ended)?;
    let limits = fs::read_to_string(format!("/proc/{tid}/limits")).unwrap_or_default();
    let most = limits.lines().find_map(|line| line.strip_prefix("Max open files"));
    let most = most.and_then(|line| line.split_whitespace().next()?.parse().ok());
    let from = most.unwrap_or(HIGHEST).min(HIGHEST).saturating_sub(32);
    let mut remote = stopped.remote().map_err(line)?;
    for descriptor in descriptors {
        let duplicate = |from| [descriptor, libc::F_DUPFD_CLOEXEC as u64, from, 0, 0, 0];
        let mut done = remote.call(libc::SYS_fcntl, duplicate(from)).map_err(line)?;
        if done.is_err() {
            done = remote.call(libc::SYS_fcntl, duplicate(0)).map_err(line)?;
        }
        done.map_err(|why| anyhow!("it has no descriptor left (error {why})"))?;
    }
    Ok(())
}

/// Gives the process descriptors of the files.
fn send(stopped: &mut Stopped<'_>, files: [&File; 2]) -> anyhow::Result<[u64; 2]> {
    send_by(&mut stopped.remote().map_err(line)?, files)
}

/// [`send`], by calls that are made anyway.
pub(super) fn send_by(remote: &mut Remote<'_, '_>, files: [&File; 2]) -> anyhow::Result<[u64; 2]> {
    let tables = remote.send(files[0]).map_err(line)?;
    match remote.send(files[1]) {
        Ok(counters) => Ok([tables, counters]),
        Err(why) => {
            let _ = remote.close(tables);
            Err(line(why))
        }
    }
}

/// Takes descriptors away.
fn close(stopped: &mut Stopped<'_>, descriptors: &[u64]) -> anyhow::Result<()> {
    if descriptors.is_empty() {
        return Ok(());
    }
    close_by(&mut stopped.remote().map_err(line)?, descriptors)
}

/// [`close`], by calls that are made anyway.
pub(super) fn close_by(remote: &mut Remote<'_, '_>, descriptors: &[u64]) -> anyhow::Result<()> {
    let closed: Vec<_> = descriptors.iter().map(|number| remote.close(*number)).collect();
    closed.into_iter().try_for_each(|closed| closed.map_err(line))
}

impl Attached {
    /// A program that was started with the image in it.
    pub(super) fn launched(target: Target, mapped: Mapped) -> Self {
        let pid = target.pid();
        let name = processes::name(pid);
        Self { pid, name, started: true, target, mapped, after: None, why: None }
    }

    pub(super) fn pid(&self) -> i32 {
        self.pid
    }

    /// Its probes stay when this is dropped.
    pub(super) fn stay(mut self) {
        self.after = Some(After::Probed);
    }

    /// The process itself, which can be waited for.
    pub(super) fn handle(&self) -> std::io::Result<OwnedFd> {
        sys::process_handle(self.pid)
    }

    /// Whether nothing can be counted there any more.
    pub(super) fn has_ended(&self) -> bool {
        self.after.is_some() || sys::is_dead(self.pid.cast_unsigned())
    }

    /// Puts the original code back. Once.
    pub(super) fn leave(&mut self) {
        if self.after.is_some() {
            return;
        }
        let left = leave(&self.target, Some(&self.mapped));
        self.after = Some(match left {
            Ok(()) => After::Running,
            Err(why) if why.is::<Ended>() => After::Ended,
            Err(_) if sys::is_dead(self.pid.cast_unsigned()) => After::Ended,
            Err(why) => {
                self.why = Some(format!("{why:#}"));
                After::Probed
            }
        });
    }

    /// What there is to be said of it, once it was left.
    pub(super) fn row(&self) -> Row {
        Row {
            process: self.pid.cast_unsigned(),
            name: self.name.clone(),
            started: self.started,
            after: self.after.unwrap_or(After::Probed),
            why: self.why.clone(),
        }
    }
}

impl Drop for Attached {
    fn drop(&mut self) {
        // Something has failed: the process is not left with what nobody reads.
        self.leave();
    }
}

/// Puts the original code back in a process that has an image: the one that it was given, if it is
/// known which.
fn leave(target: &Target, given: Option<&Mapped>) -> anyhow::Result<()> {
    let work = |tracer: &mut Tracer| {
        // A program that it has executed since may have what another command line has put there.
        let image = image::get()?;
        let mapped = match tracer.find(image).map_err(line)? {
            Found::Same(found) => found,
            Found::Other(_) if given.is_none() => {
                anyhow::bail!("it was entered by another version of trapline: use that one")
            }
            _ => return Err(Ended.into()),
        };
        let mut inside = Inside { hold: Hold::Running(tracer), mapped: &mapped };
        if given.is_some_and(|given| given.base() != mapped.base()) {
            let own = std::process::id().cast_signed();
            anyhow::ensure!(inside.owner()? == Some(own), Ended);
        }
        inside.disarm().map(drop)
    };
    patiently(|| target.trace(|tracer| Ok(work(tracer))).map_err(line).and_then(|done| done))
}

/// Has the image in a process arm what was loaded since, and forget what is gone.
///
/// # Errors
/// Why that was not done.
pub(super) fn arm_new(pid: i32, force: bool) -> anyhow::Result<()> {
    let target = Target::probe(pid, Force { seccomp: force })?;
    let work = |tracer: &mut Tracer| {
        let Found::Same(mapped) = tracer.find(image::get()?).map_err(line)? else {
            return Err(Ended.into());
        };
        let lent = if sees_proc(pid) { None } else { lend_maps(tracer, &mapped)? };
        let armed = Inside { hold: Hold::Running(tracer), mapped: &mapped }.arm().map(drop);
        if let Some(descriptor) = lent {
            Inside { hold: Hold::Running(tracer), mapped: &mapped }.lend_maps(None)?;
            let mut stopped = tracer.stop_one().map_err(line)?;
            stopped.remote().and_then(|mut remote| remote.close(descriptor)).map_err(line)?;
        }
        armed
    };
    target.trace(|tracer| Ok(work(tracer))).map_err(line).and_then(|done| done)
}

/// Puts the original code back in a process that a command line has left armed, and closes what it
/// has of the segment's files.
///
/// # Errors
/// Why that cannot be done.
pub(crate) fn detach(pid: i32, force: bool) -> anyhow::Result<()> {
    let target = probe(pid, force)?;
    leave(&target, None)?;
    let left = left_descriptors(pid);
    if left.is_empty() {
        return Ok(());
    }
    let close = |tracer: &mut Tracer| {
        let mut stopped = tracer.stop_one()?;
        let mut remote = stopped.remote()?;
        left.iter().try_for_each(|descriptor| remote.close(*descriptor))
    };
    target.trace(close).map_err(line)
}

/// Puts the original code back in fork children of processes that were entered: whatever has the
/// counters mapped, and is none of `known`. `left` hears of each; what cannot be done is said.
pub(crate) fn leave_children(
    counters: &File,
    mut known: BTreeSet<i32>,
    force: bool,
    left: impl Fn(i32),
) {
    /// Children have children until they are left.
    const ROUNDS: usize = 10;
    let Ok(inode) = counters.metadata().map(|file| file.ino()) else { return };
    known.insert(std::process::id().cast_signed());
    for _ in 0..ROUNDS {
        let mut new = processes::all_numbers();
        new.retain(|pid| !known.contains(pid) && shares(*pid, inode));
        if new.is_empty() {
            return;
        }
        for pid in new {
            known.insert(pid);
            match probe(pid, force).and_then(|target| leave(&target, None)) {
                Ok(()) => left(pid),
                Err(why) if !why.is::<Ended>() && !sys::is_dead(pid.cast_unsigned()) => {
                    let name = processes::name(pid);
                    say(&format!("process {pid} ({name}) keeps its probes: {why:#}"));
                }
                _ => {}
            }
        }
    }
}

/// Calls `ended` as often as some of the processes end, until all have.
pub(super) fn watch(handles: &[OwnedFd], ended: impl Fn()) {
    let mut left: Vec<&OwnedFd> = handles.iter().collect();
    while !left.is_empty() {
        left = sys::wait_for_end(&left);
        ended();
    }
}
