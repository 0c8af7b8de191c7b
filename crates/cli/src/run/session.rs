//! A run from its start to its end, whatever is done with what it counts.

use super::events::{Event, Events};
use super::server::Server;
use super::tables::{Names, Room, Tables};
use super::{agent, child};
use crate::exit::{FAILED, USAGE};
use crate::out::say;
use crate::program::Program;
use crate::report::Clock;
use crate::resolve::Resolution;
use crate::spec::Spec;
use crate::symbols::libraries::{Environment, closure};
use anyhow::Context;
use std::ffi::OsString;
use std::process::Child;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// The code of a run without hits that was asked to have some.
const NO_EVENTS: u8 = 1;

/// A program that was started with the agent in it.
#[derive(Debug)]
pub(crate) struct Session {
    shared: Arc<(Server, Tables)>,
    pub(crate) names: Names,
    pub(crate) clock: Clock,
    child: Child,
    events: Events,
}

/// What is done with the counters.
pub(crate) trait Watch {
    /// The tracing is over. Called once; the exit code is there if the program has ended.
    ///
    /// # Errors
    /// End the run with trapline's own code.
    fn over(&mut self, session: &Session, exit_code: Option<u8>) -> anyhow::Result<()>;

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
    /// Resolves `specs`, makes the segment, starts the program. `prepare` gets the segment before any agent sees it.
    pub(crate) fn start(
        specs: &[String],
        command: &[OsString],
        room: &Room,
        prepare: impl FnOnce(&Tables) -> anyhow::Result<()>,
    ) -> anyhow::Result<Self> {
        let specs = Spec::parse_all(specs)?;
        let program = Program::find(&command[0])?;
        let file = program.file;
        let libraries = closure(&program.object, &Environment::current());
        let resolution = Resolution::new(std::iter::once(program.object).chain(libraries).collect(), specs)?;
        for spec in resolution.unmatched() {
            say(&format!("'{}': no such object is loaded at start; waiting for it to be opened", spec.text));
        }
        let place = agent::install()?;
        let (tables, names) = Tables::create(&resolution, room)?;
        prepare(&tables)?;
        let server = Server::new(resolution, &tables);
        let shared = Arc::new((server, tables));
        let events = Events::watch();
        let clock = Clock::start();
        let child = child::spawn(&file, command, &place, names.path(), events.before())?;
        let serving = Arc::clone(&shared);
        // Nobody joins it: it ends with the process.
        std::thread::spawn(move || serving.0.serve(&serving.1));
        Ok(Self { shared, names, clock, child, events })
    }

    pub(crate) fn server(&self) -> &Server {
        &self.shared.0
    }

    pub(crate) fn tables(&self) -> &Tables {
        &self.shared.1
    }

    /// Waits for the child and whatever comes before its end; the exit code.
    pub(crate) fn until_the_end(mut self, times: Times, require_events: bool, watch: &mut impl Watch) -> anyhow::Result<u8> {
        let started = self.clock.started();
        let end = times.duration.map(|duration| started + duration);
        let mut next = times.interval.map(|interval| started + interval);
        let (mut over, mut interrupts) = (false, 0);
        let finish = |session: &Self, code, watch: &mut _, over: &mut bool| {
            if std::mem::replace(over, true) { Ok(()) } else { Watch::over(watch, session, code) }
        };
        loop {
            let moment = if over { None } else { [end, next].into_iter().flatten().min() };
            match self.events.next(moment) {
                Event::Child => {
                    if let Some(status) = self.child.try_wait().context("waiting for the program")? {
                        let code = child::code(status);
                        finish(&self, Some(code), watch, &mut over)?;
                        return Ok(self.exit_code(code, require_events, watch.hits()));
                    }
                }
                Event::Interrupt => {
                    interrupts += 1;
                    if interrupts > 1 {
                        return Ok(128 + libc::SIGINT as u8);
                    }
                    // Where ^C comes from a terminal, the program has it too, and may be ending by it.
                    finish(&self, None, watch, &mut over)?;
                }
                Event::Terminate(signal) => {
                    finish(&self, None, watch, &mut over)?;
                    return Ok(128 + signal as u8);
                }
                Event::Time if end.is_some_and(|end| Instant::now() >= end) => finish(&self, None, watch, &mut over)?,
                Event::Time => {
                    next = next.and_then(|next| times.interval.map(|interval| next + interval));
                    watch.interval(&self);
                }
            }
        }
    }

    /// The child's code, unless trapline has something to say.
    fn exit_code(&self, code: u8, require_events: bool, hits: u64) -> u8 {
        let state = self.server().state();
        let unmatched: Vec<&str> = state.resolution.unmatched().map(|spec| spec.text.as_str()).collect();
        if self.tables().segment.processes_len() == 0 {
            say("the agent was not loaded into the program: `trapline doctor` says why that can be");
            return if code == 0 { FAILED } else { code };
        }
        if !unmatched.is_empty() {
            unmatched
                .iter()
                .for_each(|spec| say(&format!("'{spec}' matched nothing: no such object was ever loaded, or it has no such function")));
            return USAGE;
        }
        if require_events && hits == 0 && code == 0 {
            say("no hits, and --require-events was given");
            return NO_EVENTS;
        }
        code
    }
}
