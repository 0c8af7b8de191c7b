//! A run from its start to its end, whatever is done with what it counts.

use super::asked::Images;
use super::attached::{Attached, Keep};
use super::events::{Event, Events};
use super::handout::Handout;
use super::launched::{Go, Until};
use super::loaded::Objects;
use super::server::Server;
use super::subject::{End, Started, Subject};
use super::tables::{Room, Tables};
use super::{agent, attached, child, launched, limits};
use crate::args::Way;
use crate::clock::Clock;
use crate::exit::{FAILED, Failure, USAGE};
use crate::model::outside;
use crate::out::say;
use crate::program::Program;
use crate::resolve::Resolution;
use crate::spec::Spec;
use crate::symbols::libraries::{Environment, closure, takes_no_preload};
use crate::sys;
use anyhow::Context;
use std::ffi::OsString;
use std::fs::File;
use std::process::ExitStatus;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::{Duration, Instant};

/// The code of a run without hits that was asked to have some.
const NO_EVENTS: u8 = 1;

/// Starts a thread that lives as long as the process.
fn start(name: &str, f: impl FnOnce() + Send + 'static) -> anyhow::Result<()> {
    let thread = std::thread::Builder::new().name(name.to_string()).spawn(f);
    thread.map(drop).context(
        "cannot start a thread (ulimit -u says how many there may be, -d and -v their memory)",
    )
}

/// Programs that are traced, and what they count.
#[derive(Debug)]
pub(crate) struct Session {
    shared: Arc<(Server, Tables)>,
    images: Arc<Images>,
    pub(crate) clock: Clock,
    subject: Subject,
    events: Events,
}

/// What is done with the counters.
pub(crate) trait Watch {
    /// The tracing is over. Called once; how the program that was started ended is there if it has.
    ///
    /// # Errors
    /// End the run with trapline's own code.
    fn over(&mut self, session: &Session, end: Option<ExitStatus>) -> anyhow::Result<()>;

    /// An interval has passed.
    fn interval(&mut self, _session: &Session) {}

    /// Hits, once the tracing is over.
    fn hits(&self) -> u64;
}

/// When things happen in a run.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Times {
    /// The tracing ends after so long, whether or not the program has ended.
    pub(crate) duration: Option<Duration>,
    pub(crate) interval: Option<Duration>,
}

impl Session {
    /// Resolves `specs`, makes the segment, starts the program. `prepare` gets the segment before
    /// any agent sees it.
    pub(crate) fn start(
        specs: &[String],
        command: &[OsString],
        room: &Room,
        prepare: impl FnOnce(&Tables) -> anyhow::Result<()>,
    ) -> anyhow::Result<Self> {
        limits::check("the program was not started")?;
        let program = Program::find(&command[0])?;
        let preloads = program.kind.preloads() && !takes_no_preload(&program.object);
        if !preloads && room.agent == Some(Way::Preload) {
            let message = format!(
                "{}: nothing can be preloaded into it; leave --agent out",
                program.file.display()
            );
            return Err(Failure::error(FAILED, message));
        }
        if !preloads || room.agent == Some(Way::Image) {
            return Self::launch(specs, &program, command, room, prepare);
        }
        let specs = specs.iter().map(|text| Spec::parse(text)).collect();
        let file = program.file;
        let libraries = closure(&program.object, &Environment::current());
        agent::check_libraries(&file, &libraries)?;
        let resolution =
            Resolution::new(std::iter::once(program.object).chain(libraries).collect(), specs)?;
        for spec in resolution.unmatched() {
            let why = resolution.waits_for(spec);
            say(&format!("'{}': {why}; waiting for an object that is opened later", spec.text));
        }
        let place = agent::install()?;
        let events = Events::watch();
        let (images, readable) = Self::serve(resolution, room, false, prepare)?;
        let shared = Arc::clone(images.shared());
        let (handout, socket) = Handout::new()?;
        let handing = Arc::clone(&shared);
        let handed_out = Arc::new(AtomicU64::new(0));
        let times = Arc::clone(&handed_out);
        start("handout", move || handout.serve(&readable, handing.1.counters(), &times))?;
        let clock = Clock::start();
        let command = child::command(&file, command, events.before());
        let child = child::spawn(&file, command, &place, &socket)?;
        let subject =
            Subject::Started(Started { child, handed_out, _socket: socket, _agent: place });
        Ok(Self { shared, images, clock, subject, events })
    }

    /// As [`Session::start`] without preloading anything, for any program: the image is put into it
    /// before it runs.
    fn launch(
        specs: &[String],
        program: &Program,
        command: &[OsString],
        room: &Room,
        prepare: impl FnOnce(&Tables) -> anyhow::Result<()>,
    ) -> anyhow::Result<Self> {
        let events = Events::watch();
        let command = child::command(&program.file, command, events.before());
        let until = Until::of(&program.object, program.kind);
        let waiting = launched::begin(&program.file, command, program.kind, until)?;
        let mut objects = Objects::of_started();
        objects.add(waiting.pid())?;
        let resolution = attached::resolve_also_later(objects, specs)?.of_waiting();
        let (images, readable) = Self::serve(resolution, room, false, prepare)?;
        let shared = Arc::clone(images.shared());
        let clock = Clock::start();
        let counters = shared.1.counters().try_clone().context("no descriptor is left")?;
        let traps = shared.1.needs_traps();
        let (child, mapped) = waiting.go(Go { files: [readable, counters], traps })?;
        // One that cannot be looked at any more has ended.
        let inside = attached::probe(child.id().cast_signed(), true).ok();
        let inside = inside.map(|target| Attached::launched(target, mapped));
        let subject = Subject::Launched(child, inside);
        Ok(Self { shared, images, clock, subject, events })
    }

    /// Makes a segment for what was found, and answers agents and images from now on, with `force`
    /// also for processes that filter their system calls. `prepare` gets it before any of them sees
    /// it.
    fn serve(
        resolution: Resolution,
        room: &Room,
        force: bool,
        prepare: impl FnOnce(&Tables) -> anyhow::Result<()>,
    ) -> anyhow::Result<(Arc<Images>, File)> {
        let tables = Tables::create(&resolution, room)?;
        prepare(&tables)?;
        let server = Server::new(resolution, &tables);
        tables.check_budget()?;
        tables.keep()?;
        let shared = Arc::new((server, tables));
        let readable = shared.1.read_only()?;
        let again = |file: &File| file.try_clone().context("no descriptor is left");
        let files = [again(&readable)?, again(shared.1.counters())?];
        let images = Images::new(Arc::clone(&shared), files, force);
        let serving = Arc::clone(&images);
        // Before any program runs: where no thread can be had, there is nothing to undo. Nobody
        // joins it: it ends with the process.
        start("server", move || shared.0.serve(&shared.1, |request| serving.take(request)))?;
        Ok((images, readable))
    }

    /// Resolves `specs` against what running processes have mapped, makes the segment, and puts the
    /// image into the processes; with `force` also into such as may be killed by it. `prepare` gets
    /// the segment before any image sees it.
    pub(crate) fn attach(
        specs: &[String],
        pids: &[i32],
        force: bool,
        room: &Room,
        prepare: impl FnOnce(&Tables) -> anyhow::Result<()>,
    ) -> anyhow::Result<Self> {
        limits::check(limits::NOT_TOUCHED)?;
        let mut objects = Objects::default();
        let candidates = attached::look(pids, force, &mut objects)?;
        let resolution = attached::resolve_also_later(objects, specs)?;
        let events = Events::watch();
        let (images, readable) = Self::serve(resolution, room, force, prepare)?;
        let shared = Arc::clone(images.shared());
        let clock = Clock::start();
        let files = [&readable, shared.1.counters()];
        let entered = candidates.into_iter().map(|candidate| candidate.enter(files, Keep::Nothing));
        let entered = attached::entered(entered)?;
        // One that cannot be waited for has ended.
        let handles: Vec<_> = entered.iter().filter_map(|one| one.handle().ok()).collect();
        start("ends", move || {
            sys::ring_for_children();
            attached::watch(&handles, sys::ring_for_children);
        })?;
        let subject = Subject::Attached(entered, force);
        Ok(Self { shared, images, clock, subject, events })
    }

    /// The processes with the image in them, once the tracing is over.
    pub(crate) fn attached(&self) -> Vec<outside::Attached> {
        self.subject.attached()
    }

    pub(crate) fn server(&self) -> &Server {
        &self.shared.0
    }

    pub(crate) fn tables(&self) -> &Tables {
        &self.shared.1
    }

    /// Waits for the end and whatever comes before it; the exit code.
    pub(crate) fn until_the_end(
        mut self,
        times: Times,
        require_events: bool,
        watch: &mut impl Watch,
    ) -> anyhow::Result<u8> {
        let started = self.clock.started();
        let end = times.duration.map(|duration| started + duration);
        let mut next = times.interval.map(|interval| started + interval);
        let (mut over, mut interrupts) = (false, 0);
        let finish = |session: &mut Self, end, watch: &mut _, over: &mut bool| {
            if std::mem::replace(over, true) {
                return Ok(());
            }
            session.images.end();
            session.subject.leave(&session.shared.1);
            Watch::over(watch, session, end)
        };
        loop {
            let moment = if over { None } else { [end, next].into_iter().flatten().min() };
            match self.events.next(moment) {
                Event::Child => match self.subject.end()? {
                    None => {}
                    Some(End::Child(status)) => {
                        let code = child::code(status);
                        finish(&mut self, Some(status), watch, &mut over)?;
                        return Ok(self.exit_code(code, require_events, watch.hits()));
                    }
                    Some(End::All) => finish(&mut self, None, watch, &mut over)?,
                },
                Event::Interrupt => {
                    interrupts += 1;
                    if interrupts > 1 {
                        return Ok(128 + libc::SIGINT as u8);
                    }
                    // Where ^C comes from a terminal, the program has it too, and may be ending by
                    // it.
                    finish(&mut self, None, watch, &mut over)?;
                }
                Event::Terminate(signal) => {
                    finish(&mut self, None, watch, &mut over)?;
                    return Ok(128 + signal as u8);
                }
                Event::Time if end.is_some_and(|end| Instant::now() >= end) => {
                    finish(&mut self, None, watch, &mut over)?
                }
                Event::Time => {
                    next = next.and_then(|next| times.interval.map(|interval| next + interval));
                    watch.interval(&self);
                }
            }
            // Processes that ran before run on, and nobody waits for them.
            if over && !self.subject.is_waited_for() {
                let code = match self.subject.probed() {
                    0 => 0,
                    probed => {
                        let es = if probed == 1 { "" } else { "es" };
                        say(&format!(
                            "{probed} process{es} could not be left as before, and keep{} probes \
                                that count for nobody: `trapline detach PID` tries it again",
                            if probed == 1 { "s" } else { "" }
                        ));
                        FAILED
                    }
                };
                return Ok(without_events(code, require_events, watch.hits()));
            }
        }
    }

    /// The child's code, unless trapline has something to say.
    fn exit_code(&self, code: u8, require_events: bool, hits: u64) -> u8 {
        let failed = if code == 0 { FAILED } else { code };
        // Where there are hits there was an agent, whatever it said of itself.
        if self.tables().segment.processes_len() == 0 && hits == 0 {
            if self.subject.was_handed_nothing() {
                say("the agent was not loaded into the program: \
                    `trapline doctor` says why that can be");
            } else {
                say("the agent in the program has not said that it counts: \
                    -v shows what it had to say");
            }
            return failed;
        }
        let mut state = self.server().state();
        let unknown = state.unknown(self.tables());
        let unmatched: Vec<&str> =
            state.resolution.unmatched().map(|spec| spec.text.as_str()).collect();
        if !unmatched.is_empty() {
            for spec in unmatched {
                say(&if unknown == 0 {
                    format!(
                        "'{spec}' matched nothing: no object like that was heard of, or it has no \
                            such function"
                    )
                } else {
                    format!(
                        "nothing was found for '{spec}', and {unknown} programs or libraries that \
                            were loaded could not be looked at"
                    )
                });
            }
            return if unknown == 0 { USAGE } else { failed };
        }
        without_events(code, require_events, hits)
    }
}

/// The code of a run that ended with `code`, if hits were asked for.
pub(crate) fn without_events(code: u8, require_events: bool, hits: u64) -> u8 {
    if require_events && hits == 0 && code == 0 {
        say("no hits, and --require-events was given");
        return NO_EVENTS;
    }
    code
}
