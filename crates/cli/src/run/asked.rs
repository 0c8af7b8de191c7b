//! What images ask, by whose hooks threads wait: libraries that were opened are armed, and programs
//! that are executed get the image before they run. Each question has a thread of its own here: who
//! traces a thread until it executes a program does nothing else meanwhile.

use super::attached;
use super::c_library::Kind;
use super::executed::{self, Program};
use super::image::line;
use super::launched;
use super::numbers;
use super::server::Server;
use super::tables::Tables;
use super::traced::{patiently, refused_or};
use crate::processes;
use anyhow::{Context as _, anyhow};
use inject::{Force, Stopped};
use std::collections::{BTreeSet, HashMap};
use std::fs::{self, File};
use std::os::unix::fs::MetadataExt as _;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use wire::{NOT_FOLLOWED, Request, What};

/// How long the end of a run waits for what has begun.
const PATIENCE: Duration = Duration::from_secs(10);

/// Who answers.
#[derive(Debug)]
pub(super) struct Images {
    shared: Arc<(Server, Tables)>,
    /// What processes open: the tables, the counters.
    files: [File; 2],
    /// Whether processes are entered in spite of filters.
    force: bool,
    work: Mutex<Work>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct Work {
    /// Nothing is begun any more.
    over: bool,
    /// Processes that are being changed.
    busy: BTreeSet<i32>,
    /// What programs are linked with, by what tells one file from another.
    kinds: HashMap<(u64, u64, u64), Result<Kind, &'static str>>,
}

/// A process that nobody else changes meanwhile.
struct Alone<'i> {
    images: &'i Images,
    pid: i32,
}

impl Drop for Alone<'_> {
    fn drop(&mut self) {
        self.images.work().busy.remove(&self.pid);
        self.images.changed.notify_all();
    }
}

impl Images {
    pub(super) fn new(shared: Arc<(Server, Tables)>, files: [File; 2], force: bool) -> Arc<Self> {
        // Filters that a process has inherited from this one allow what this one may do.
        let force = force || is_filtered();
        let (work, changed) = Default::default();
        Arc::new(Self { shared, files, force, work, changed })
    }

    pub(super) fn shared(&self) -> &Arc<(Server, Tables)> {
        &self.shared
    }

    fn work(&self) -> MutexGuard<'_, Work> {
        self.work.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn tables(&self) -> &Tables {
        &self.shared.1
    }

    /// Begins nothing any more, and waits for what has begun. Whoever asks is told so.
    pub(super) fn end(&self) {
        let mut work = self.work();
        work.over = true;
        let waits = |work: &mut Work| !work.busy.is_empty();
        // What takes longer than that is left to itself: processes are looked for that it may have
        // entered.
        let waited = self.changed.wait_timeout_while(work, PATIENCE, waits);
        drop(waited.unwrap_or_else(PoisonError::into_inner));
    }

    fn alone(&self, pid: i32) -> Option<Alone<'_>> {
        let waits = |work: &mut Work| !work.over && work.busy.contains(&pid);
        let work = self.changed.wait_while(self.work(), waits);
        let mut work = work.unwrap_or_else(PoisonError::into_inner);
        (!work.over).then(|| {
            work.busy.insert(pid);
            Alone { images: self, pid }
        })
    }

    /// Answers a question, sooner or later.
    pub(super) fn take(self: &Arc<Self>, request: Request) {
        let this = Arc::clone(self);
        // For the case that there is no thread.
        let refused = request.clone();
        let answer = move || match request.what {
            What::Execute { thread, directory } => this.execute(&request, thread, directory),
            What::Loaded | What::Object => this.loaded(&request),
        };
        if std::thread::Builder::new().name("image".to_string()).spawn(answer).is_err() {
            self.refuse(&refused);
        }
    }

    /// A process, and a thread of it, by the numbers that a question says. Anybody who counts can
    /// write questions: nothing is done to a process that does not.
    fn here(&self, pid: i32, tid: Option<i32>) -> Option<(i32, Option<i32>)> {
        let counters = self.files[1].metadata().ok()?.ino();
        numbers::here(pid, tid, counters)
    }

    /// Nothing is done.
    fn refuse(&self, request: &Request) {
        self.shared.0.state().note_unseen();
        self.tables().segment.answer(request, None);
    }

    /// Has an image arm what its process has opened.
    fn loaded(&self, request: &Request) {
        let Some((pid, _)) = self.here(request.pid.cast_signed(), None) else {
            return self.refuse(request);
        };
        let done = self.alone(pid).map(|_alone| {
            self.shared.0.learn(pid, self.tables())?;
            patiently(|| attached::arm_new(pid, self.force))
        });
        if let Some(Err(why)) = &done {
            self.shared.0.state().note_unseen();
            let name = processes::name(pid);
            let line = format!("{pid}: libraries that {name} has opened are not probed: {why:#}");
            self.tables().segment.log(line.replace('\n', " ").as_bytes());
        }
        let done = done.is_some_and(|done| done.is_ok());
        self.tables().segment.answer(request, done.then_some(0));
    }

    /// Traces a thread that is about to execute a program, and enters that.
    fn execute(self: &Arc<Self>, request: &Request, thread: u32, directory: i32) {
        let found = self.here(request.pid.cast_signed(), Some(thread.cast_signed()));
        let Some((pid, Some(tid))) = found else { return self.refuse(request) };
        let program = Program::of(pid, directory, request.address);
        let followed = match (self.work().over, executed::obstacle(&program, pid)) {
            (true, _) => None,
            (false, Some(why)) => Some(Err(anyhow!("{why}"))),
            (false, None) => {
                let images = Arc::clone(self);
                let work = move |stopped: &mut Stopped<'_>| Ok(images.enter(stopped));
                let force = Force { seccomp: self.force };
                let follow = || inject::follow_exec(pid, tid, force, work.clone());
                Some(patiently(|| follow().map_err(|error| refused_or(tid, line(error)))))
            }
        };
        let is_followed = matches!(followed, Some(Ok(_)));
        self.tables().segment.answer(request, is_followed.then_some(0));
        let entered = match followed {
            None => return,
            Some(Err(why)) => Err(why),
            // None: the kernel has refused to execute it, or the run was over.
            Some(Ok(follower)) => {
                follower.join().map_err(line).and_then(|entered| entered.unwrap_or(Ok(())))
            }
        };
        if let Err(why) = entered
            && !why.is::<super::image::Ended>()
        {
            self.not_followed(&program, &why);
        }
    }

    /// Puts the image into a program that was executed and has yet to run. Nothing is done where
    /// the run is over.
    fn enter(&self, stopped: &mut Stopped<'_>) -> Entered {
        let pid = stopped.threads().next().context("it has ended")?;
        let Some(_alone) = self.alone(pid) else { return Ok(()) };
        let kind = self.kind(pid)?;
        if kind.linked {
            stopped.run_to_thread_pointer().map_err(line)?;
        }
        self.shared.0.learn(pid, self.tables())?;
        let traps = self.tables().needs_traps();
        launched::enter(stopped, kind, [&self.files[0], &self.files[1]], traps).map(drop)
    }

    /// What the program is linked with that a process has executed.
    fn kind(&self, pid: i32) -> anyhow::Result<Kind> {
        let exe = processes::folder(pid).join("exe");
        let key = executed::identity(&fs::metadata(&exe)?);
        let known = self.work().kinds.get(&key).copied();
        let kind = match known {
            Some(kind) => kind,
            None => {
                let kind = executed::kind(&exe)?;
                self.work().kinds.insert(key, kind);
                kind
            }
        };
        kind.map_err(|why| anyhow!("{why}"))
    }

    /// Says so in the log, as agents do: once for a program.
    fn not_followed(&self, program: &Program, why: &anyhow::Error) {
        let why = format!("{why:#}").replace(" (", ", ").replace([')', '\n'], " ");
        let line = format!("{NOT_FOLLOWED}{} ({})", program.name(), why.trim_end());
        if !self.tables().log().lines().any(|old| old.ends_with(&line)) {
            self.tables().segment.log(format!("{}: {line}", std::process::id()).as_bytes());
        }
    }
}

/// What [`Images::enter`] gives.
type Entered = anyhow::Result<()>;

/// Whether this process's system calls are filtered.
fn is_filtered() -> bool {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let filters = status.lines().find_map(|line| line.strip_prefix("Seccomp:"));
    filters.is_some_and(|filters| filters.trim() != "0")
}
