//! `trapline stat`: a run from its start to the report.

use crate::args::StatArgs;
use crate::exit::{FAILED, Failure, USAGE};
use crate::out::{Out, say};
use crate::program::Program;
use crate::render;
use crate::report::collect::{Wanted, collect, interval};
use crate::report::counters::Counters;
use crate::report::{Clock, Report, diff};
use crate::resolve::Resolution;
use crate::run::events::{Event, Events};
use crate::run::server::Server;
use crate::run::tables::{Names, Tables};
use crate::run::{agent, child, snapshot};
use crate::spec::Spec;
use crate::symbols::libraries::{Environment, closure};
use anyhow::Context;
use std::fs::File;
use std::io::IsTerminal;
use std::process::Child;
use std::sync::Arc;
use std::time::Instant;

/// Rows of an interval of `-i`.
const INTERVAL_ROWS: usize = 10;
/// The code of a run without hits that was asked to have some.
const NO_EVENTS: u8 = 1;

pub(crate) fn run(args: &StatArgs) -> anyhow::Result<u8> {
    if let Some([before, after]) = args.diff.as_deref() {
        return compare(args, diff::read(before)?, diff::read(after)?);
    }
    if args.interval.is_some() && args.output.is_none() && (args.json || args.field_separator.is_some()) {
        return Err(Failure::error(USAGE, "-i and -j (or -x) would be mixed on stderr; write the report to a file with -o"));
    }
    let specs = Spec::parse_all(&args.specs.all())?;
    let program = Program::find(&args.command[0])?;
    let file = program.file;
    let libraries = closure(&program.object, &Environment::current());
    let resolution = Resolution::new(std::iter::once(program.object).chain(libraries).collect(), specs)?;
    for spec in resolution.unmatched() {
        say(&format!("'{}': no such object is loaded at start; waiting for it to be opened", spec.text));
    }
    let mut out = output(args)?;
    let place = agent::install()?;
    let (tables, names) = Tables::create(&resolution, args.max_memory, args.per_thread)?;
    let server = Server::new(resolution, &tables);
    let shared = Arc::new((server, tables));
    let events = Events::watch();
    let clock = Clock::start();
    let mut child = child::spawn(&file, &args.command, &place, &names.segment, events.before())?;
    let serving = Arc::clone(&shared);
    // Nobody joins it: it ends with the process.
    std::thread::spawn(move || serving.0.serve(&serving.1));
    let (server, tables) = &*shared;
    Run { args, tables, server, names: &names, clock, ended: None, interrupts: 0 }.until_the_end(&mut child, &events, &mut out)
}

/// A run that goes on.
struct Run<'a> {
    args: &'a StatArgs,
    tables: &'a Tables,
    server: &'a Server,
    names: &'a Names,
    clock: Clock,
    /// When the tracing ended, with the report written.
    ended: Option<Report>,
    interrupts: u32,
}

impl Run<'_> {
    /// Waits for the child and whatever comes before its end; the exit code.
    fn until_the_end(&mut self, child: &mut Child, events: &Events, out: &mut Out) -> anyhow::Result<u8> {
        let started = self.clock.started();
        let end = self.args.duration.map(|duration| started + duration);
        let mut next = self.args.interval.map(|interval| started + interval);
        let mut before: (Instant, Vec<Counters>) = (started, Vec::new());
        loop {
            let tracing = self.ended.is_none();
            let moment = if tracing { [end, next].into_iter().flatten().min() } else { None };
            match events.next(moment) {
                Event::Child => {
                    if let Some(status) = child.try_wait().context("waiting for the program")? {
                        let code = child::code(status);
                        if self.ended.is_none() {
                            self.report(Some(code), out);
                        }
                        return Ok(self.exit_code(code));
                    }
                }
                Event::Interrupt => {
                    self.interrupts += 1;
                    if self.interrupts > 1 {
                        return Ok(128 + libc::SIGINT as u8);
                    }
                    // Where ^C comes from a terminal, the program has it too, and may be ending by it.
                    self.report(None, out);
                }
                Event::Terminate(signal) => {
                    self.report(None, out);
                    return Ok(128 + signal as u8);
                }
                Event::Time if end.is_some_and(|end| Instant::now() >= end) => self.report(None, out),
                Event::Time => {
                    next = next.and_then(|next| self.args.interval.map(|interval| next + interval));
                    self.show_interval(&mut before, out);
                }
            }
        }
    }

    /// Ends the tracing and writes the report, once.
    fn report(&mut self, exit_code: Option<u8>, out: &mut Out) {
        if self.ended.is_some() {
            return;
        }
        let elapsed = self.clock.started().elapsed();
        let counters = snapshot::all(self.tables);
        self.tables.segment.stop();
        let state = self.server.state();
        let args = self.args;
        let wanted = Wanted {
            sort: args.sort,
            histogram: args.hist,
            per_thread: args.per_thread,
            elapsed,
            ns_per_tick: self.clock.ns_per_tick(),
            exit_code,
        };
        let (report, shares) = collect(&state, self.tables, &counters, wanted);
        for line in rendered(args, &report, &shares) {
            out.line(&line);
        }
        out.flush();
        if args.verbose {
            self.names.log().lines().for_each(|line| say(&format!("agent: {line}")));
        }
        self.ended = Some(report);
    }

    fn show_interval(&self, before: &mut (Instant, Vec<Counters>), out: &mut Out) {
        let now = Instant::now();
        let counters = snapshot::all(self.tables);
        let state = self.server.state();
        let report = interval(&state, &counters, &before.1, self.args.sort, now - before.0, self.clock.ns_per_tick());
        let at = crate::human::time(now.duration_since(self.clock.started()).as_nanos() as f64);
        let look = render::Look { limit: self.args.limit.min(INTERVAL_ROWS), all: false, bold: false };
        let mut lines = vec![format!("-- after {at}: {} hits", crate::human::grouped(report.hits))];
        lines.extend(render::table(&report, look));
        // The report may go elsewhere; live lines are for who looks on.
        let mut live = (self.args.output.is_some()).then(|| Out::to(Box::new(std::io::stderr())));
        let to = live.as_mut().unwrap_or(out);
        lines.iter().for_each(|line| to.line(line));
        to.flush();
        *before = (now, counters);
    }

    /// The child's code, unless trapline has something to say.
    fn exit_code(&self, code: u8) -> u8 {
        let state = self.server.state();
        let hits = self.ended.as_ref().map_or(0, |report| report.hits);
        let unmatched: Vec<&str> = state.resolution.unmatched().map(|spec| spec.text.as_str()).collect();
        if self.tables.segment.processes_len() == 0 {
            say("the agent was not loaded into the program: `trapline doctor` says why that can be");
            return if code == 0 { FAILED } else { code };
        }
        if !unmatched.is_empty() {
            unmatched
                .iter()
                .for_each(|spec| say(&format!("'{spec}' matched nothing: no such object was ever loaded, or it has no such function")));
            return USAGE;
        }
        if self.args.require_events && hits == 0 && code == 0 {
            say("no hits, and --require-events was given");
            return NO_EVENTS;
        }
        code
    }
}

fn rendered(args: &StatArgs, report: &Report, shares: &[render::Share]) -> Vec<String> {
    if args.json {
        return vec![serde_json::to_string(report).unwrap_or_else(|error| format!("{{\"error\":\"{error}\"}}"))];
    }
    if let Some(separator) = &args.field_separator {
        return render::fields(report, separator, args.all);
    }
    let bold =
        args.output.is_none() && std::io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty());
    let mut lines = render::table(report, render::Look { limit: args.limit, all: args.all, bold });
    lines.extend(render::footer(report, shares, args.verbose));
    lines
}

fn output(args: &StatArgs) -> anyhow::Result<Out> {
    Ok(match &args.output {
        None => Out::to(Box::new(std::io::stderr())),
        Some(path) => Out::to(Box::new(File::create(path).with_context(|| format!("cannot write the report to {}", path.display()))?)),
    })
}

fn compare(args: &StatArgs, before: Report, after: Report) -> anyhow::Result<u8> {
    let changes = diff::changes(before, after);
    let mut out = match &args.output {
        None => Out::stdout(),
        Some(_) => output(args)?,
    };
    if args.json {
        out.line(&serde_json::to_string(&changes).context("writing JSON")?);
        return Ok(0);
    }
    let limit = if args.all { usize::MAX } else { args.limit };
    render::diff(&changes, limit).iter().for_each(|line| out.line(line));
    Ok(0)
}
