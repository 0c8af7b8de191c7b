//! `trapline stat`: a run from its start to the report.

use crate::args::StatArgs;
use crate::exit::{Failure, USAGE};
use crate::out::{Out, say};
use crate::render;
use crate::report::collect::{Wanted, collect, interval};
use crate::report::counters::Counters;
use crate::report::{Report, diff};
use crate::run::session::{Session, Times, Watch};
use crate::run::snapshot;
use crate::run::tables::Room;
use anyhow::Context;
use std::fs::File;
use std::io::IsTerminal;
use std::time::Instant;

/// Rows of an interval of `-i`.
const INTERVAL_ROWS: usize = 10;

pub(crate) fn run(args: &StatArgs) -> anyhow::Result<u8> {
    if let Some([before, after]) = args.diff.as_deref() {
        return compare(args, diff::read(before)?, diff::read(after)?);
    }
    if args.interval.is_some() && args.output.is_none() && (args.json || args.field_separator.is_some()) {
        return Err(Failure::error(USAGE, "-i and -j (or -x) would be mixed on stderr; write the report to a file with -o"));
    }
    let room = Room { budget: args.max_memory, per_thread: args.per_thread, ..Room::default() };
    let mut out = None;
    // Not before the specs are known to mean something: a report that is there already is not emptied for nothing.
    let session = Session::start(&args.specs.all(), &args.command, &room, |_| {
        out = Some(output(args)?);
        Ok(())
    })?;
    let out = out.map_or_else(|| output(args), Ok)?;
    let before = (session.clock.started(), Vec::new());
    let times = Times { duration: args.duration, interval: args.interval };
    session.until_the_end(times, args.require_events, &mut Stat { args, out, before, hits: 0 })
}

/// Tables on stderr or in a file.
struct Stat<'a> {
    args: &'a StatArgs,
    out: Out,
    /// The last interval's counters.
    before: (Instant, Vec<Counters>),
    hits: u64,
}

impl Watch for Stat<'_> {
    fn over(&mut self, session: &Session, exit_code: Option<u8>) -> anyhow::Result<()> {
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
            elapsed,
            ns_per_tick: session.clock.ns_per_tick(),
            exit_code,
        };
        let (report, shares) = collect(&state, tables, &counters, wanted);
        for line in rendered(args, &report, &shares) {
            self.out.line(&line);
        }
        self.out.flush();
        if args.verbose {
            session.names.log().lines().for_each(|line| say(&format!("agent: {line}")));
        }
        self.hits = report.hits;
        Ok(())
    }

    fn interval(&mut self, session: &Session) {
        let now = Instant::now();
        let counters = snapshot::all(session.tables());
        let state = session.server().state();
        let report = interval(&state, &counters, &self.before.1, self.args.sort, now - self.before.0, session.clock.ns_per_tick());
        let at = crate::human::time(now.duration_since(session.clock.started()).as_nanos() as f64);
        let look = render::Look { limit: self.args.limit.min(INTERVAL_ROWS), all: false, bold: false };
        let mut lines = vec![format!("-- after {at}: {} hits", crate::human::grouped(report.hits))];
        lines.extend(render::table(&report, look));
        // The report may go elsewhere; live lines are for who looks on.
        let mut live = (self.args.output.is_some()).then(|| Out::to(Box::new(std::io::stderr())));
        let to = live.as_mut().unwrap_or(&mut self.out);
        lines.iter().for_each(|line| to.line(line));
        to.flush();
        self.before = (now, counters);
    }

    fn hits(&self) -> u64 {
        self.hits
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
