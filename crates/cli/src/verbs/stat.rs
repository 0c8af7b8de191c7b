//! `trapline stat`: a run from its start to the report.

use super::detach;
use crate::args::StatArgs;
use crate::exit::FAILED;
use crate::human;
use crate::model::diff;
use crate::model::meta::Meta;
use crate::model::origin::Origin;
use crate::model::recording::Weight;
use crate::model::report::{Report, Share};
use crate::out::{Out, colours, say, width};
use crate::processes;
use crate::render;
use crate::report::armed::armed;
use crate::report::collect::{Shown, Wanted, collect, interval};
use crate::run::background;
use crate::run::session::without_events;
use crate::run::session::{Session, Times, Watch};
use crate::run::snapshot;
use crate::run::tables::{Room, Tables};
use crate::target::Target;
use crate::text;
use anyhow::Context;
use std::process::ExitStatus;
use std::time::Instant;

/// Rows of an interval of `-i`.
const INTERVAL_ROWS: usize = 10;

pub(crate) fn run(args: &StatArgs) -> anyhow::Result<u8> {
    let target = |default| args.output.as_deref().map_or(default, Target::of);
    if let Some([before, after]) = args.diff.as_deref() {
        return compare(args, &target(Target::Stdout), diff::read(before)?, diff::read(after)?);
    }
    if let Some(pid) = args.attached {
        return attached(args, target(Target::Stdout), pid);
    }
    let target = target(Target::Stderr);
    let pids = processes::chosen(&args.attach.processes)?;
    let command = processes::command(&pids, &args.command);
    let origin = Origin::now(&command, args.specs.all());
    let room = Room {
        budget: args.max_memory,
        per_thread: args.per_thread || args.per_process,
        returns: args.returns,
        agent: args.agent,
        ..Room::default()
    };
    let mut live = None;
    // Not before the specs are known to mean something: a report that is there already is not
    // emptied for nothing.
    let meta = Meta::now(&command, args.specs.all(), Weight::Calls, String::new());
    let prepare = |tables: &Tables| {
        // For `ps` and `detach`, if this process is killed.
        tables.segment.set_meta(&meta.bytes());
        target.check()?;
        live = args.interval.map(|_| Live::open(args, &target)).transpose()?;
        Ok(())
    };
    let specs = args.specs.all();
    let session = if pids.is_empty() {
        Session::start(&specs, &args.command, &room, prepare)?
    } else {
        Session::attach(&specs, &pids, args.attach.force, &room, prepare)?
    };
    let before = Shown::nothing(session.clock.started());
    let times = Times { duration: args.duration, interval: args.interval };
    let mut stat = Stat { args, target, live, origin, before, hits: 0 };
    session.until_the_end(times, args.require_events, &mut stat)
}

/// Where the lines of `-i` go.
enum Live {
    /// Tables for who looks on, apart from the report where that goes to a file.
    Tables(Out),
    /// A stream for programs, which the report ends.
    Stream(Out),
}

impl Live {
    fn open(args: &StatArgs, target: &Target) -> anyhow::Result<Self> {
        if args.json || args.field_separator.is_some() {
            let mut out = target.open()?;
            if let Some(separator) = &args.field_separator {
                out = out.separated_by(separator);
            }
            args.field_separator
                .iter()
                .for_each(|separator| out.line(&render::fields::head(separator)));
            return Ok(Self::Stream(out));
        }
        let out = if target.is_file() { Out::stderr() } else { target.open() };
        out.map(Self::Tables)
    }

    fn out(&mut self) -> &mut Out {
        match self {
            Self::Tables(out) | Self::Stream(out) => out,
        }
    }
}

/// A report on stderr or in a file.
struct Stat<'a> {
    args: &'a StatArgs,
    target: Target,
    live: Option<Live>,
    origin: Origin,
    before: Shown,
    hits: u64,
}

impl Watch for Stat<'_> {
    fn over(&mut self, session: &Session, end: Option<ExitStatus>) -> anyhow::Result<()> {
        let elapsed = session.clock.started().elapsed();
        let tables = session.tables();
        let counters = snapshot::all(tables);
        tables.segment.stop();
        let state = session.server().state();
        let args = self.args;
        let wanted = Wanted {
            sort: args.sort,
            histogram: args.hist,
            per_thread: args.per_thread,
            per_process: args.per_process,
            min_calls: args.min_calls,
            elapsed,
            ns_per_tick: session.clock.ns_per_tick(),
            end,
        };
        let (mut report, shares) = collect(&state, tables, &counters, wanted);
        report.run = self.origin.clone();
        report.add_attached(session.attached());
        self.hits = report.hits;
        self.report(&report, &shares)?;
        if args.verbose {
            tables.log().lines().for_each(|line| say(&format!("agent: {line}")));
        }
        Ok(())
    }

    fn interval(&mut self, session: &Session) {
        let state = session.server().state();
        let mut report = interval(
            &state,
            session.tables(),
            &mut self.before,
            self.args.sort,
            session.clock.ns_per_tick(),
        );
        report.run = self.origin.clone();
        report.functions.retain(|row| row.calls >= self.args.min_calls);
        let lines = match &self.live {
            // What cannot be rendered here is an error at the end, too.
            Some(Live::Stream(_)) => self.rendered(&report).unwrap_or_default(),
            _ => {
                let since = self.before.when.duration_since(session.clock.started());
                let at = human::time(since.as_nanos() as f64);
                let look = render::Look {
                    limit: self.args.limit.min(INTERVAL_ROWS),
                    all: false,
                    bold: false,
                    width: if self.args.wide { None } else { width(&std::io::stderr()) },
                };
                let mut lines =
                    vec![format!("-- after {at}: {} hits", human::grouped(report.hits))];
                lines.extend(render::table(&report, look));
                lines
            }
        };
        if let Some(out) = self.live.as_mut().map(Live::out) {
            lines.iter().for_each(|line| out.line(line));
            out.flush();
        }
    }

    fn hits(&self) -> u64 {
        self.hits
    }
}

impl Stat<'_> {
    /// Writes a report, with what stands below it.
    fn report(&mut self, report: &Report, shares: &[Share]) -> anyhow::Result<()> {
        let mut lines = self.rendered(report)?;
        if !self.args.json {
            let footer = render::footer(report, shares, self.args.verbose);
            lines.extend(if self.args.field_separator.is_some() {
                render::fields::comments(&footer)
            } else {
                footer
            });
        }
        self.write(&lines)
    }

    /// The report without what stands below it.
    fn rendered(&self, report: &Report) -> anyhow::Result<Vec<String>> {
        let args = self.args;
        if args.json {
            return Ok(vec![text::to_json(report).context("writing JSON")?]);
        }
        if let Some(separator) = &args.field_separator {
            let mut lines = render::fields::fields(report, separator, args.all);
            if self.live.is_none() {
                lines.insert(0, render::fields::head(separator));
            }
            return Ok(lines);
        }
        let on_stderr = self.target == Target::Stderr;
        let bold = on_stderr && colours(&std::io::stderr());
        let width = if on_stderr && !args.wide { width(&std::io::stderr()) } else { None };
        Ok(render::table(report, render::Look { limit: args.limit, all: args.all, bold, width }))
    }

    /// Writes the report: where the stream is, or whole.
    fn write(&mut self, lines: &[String]) -> anyhow::Result<()> {
        match self.live.take() {
            Some(Live::Stream(mut out)) => {
                lines.iter().for_each(|line| out.line(line));
                return out.finish();
            }
            Some(Live::Tables(out)) => out.finish()?,
            None => {}
        }
        self.target.write(text::lines(lines, self.args.field_separator.as_deref()).as_bytes())
    }
}

/// What is counted in a process that was armed to stay so.
fn attached(args: &StatArgs, target: Target, pid: i32) -> anyhow::Result<u8> {
    target.check()?;
    let found = detach::find(pid)?;
    let state = background::state(&found)?;
    let Ok(tables) = &found.tables else { return Ok(FAILED) };
    let wanted = Wanted {
        sort: args.sort,
        histogram: args.hist,
        per_thread: args.per_thread,
        per_process: args.per_process,
        min_calls: args.min_calls,
        ..Wanted::default()
    };
    let (report, shares) = armed(&found, &state, tables, wanted);
    let (origin, before) = (report.run.clone(), Shown::nothing(Instant::now()));
    let mut stat = Stat { args, target, live: None, origin, before, hits: report.hits };
    stat.report(&report, &shares)?;
    Ok(without_events(0, args.require_events, report.hits))
}

fn compare(args: &StatArgs, target: &Target, before: Report, after: Report) -> anyhow::Result<u8> {
    let changes = diff::changes(before, after, args.sort, args.min_calls);
    let lines = if args.json {
        vec![text::to_json(&changes).context("writing JSON")?]
    } else {
        render::diff(
            &changes,
            if args.all { usize::MAX } else { args.limit },
            &args.columns,
            args.sort,
        )
    };
    target.write(text::lines(&lines, None).as_bytes())?;
    Ok(0)
}
