//! `trapline detach`: takes the probes back that were left armed.

use crate::args::DetachArgs;
use crate::exit::{FAILED, Failure};
use crate::out::{Out, say};
use crate::render;
use crate::report::armed::armed as report_of;
use crate::report::collect::Wanted;
use crate::run::armed::{self, Armed};
use crate::run::attached::{self, entered};
use crate::run::background;
use crate::run::server::State;
use crate::run::tables::Tables;
use crate::text;
use anyhow::Context as _;

pub(crate) fn run(args: &DetachArgs) -> anyhow::Result<u8> {
    entered(args.pids.iter().map(|pid| detach(*pid, args)))?;
    Ok(0)
}

/// The process, which has probes in it that no command line reads.
///
/// # Errors
/// It is not there, or another user's, or has none.
pub(crate) fn find(pid: i32) -> anyhow::Result<Armed> {
    if let Some(found) = armed::find(pid) {
        return Ok(found);
    }
    // It says what can be said of it without looking into it.
    attached::probe(pid, true)?;
    Err(Failure::error(FAILED, format!("process {pid} has no probes in it: `trapline ps`")))
}

fn detach(pid: i32, args: &DetachArgs) -> anyhow::Result<()> {
    let found = find(pid)?;
    if let Some(owner) = found.owner() {
        let message = format!("process {owner} (trapline) counts in process {pid}: end that first");
        return Err(Failure::error(FAILED, message));
    }
    // Before it may end: its files are found by what it has mapped.
    let state = background::state(&found);
    attached::detach(pid, args.force).map_err(|why| {
        Failure::error(FAILED, format!("process {pid} ({}): {why:#}", found.name))
    })?;
    if let Ok(tables) = &found.tables {
        attached::leave_children(tables.counters(), [pid].into(), args.force, |_| ());
    }
    say(&format!("detached from {pid} ({})", text::visible(&found.name)));
    let why = match (&found.tables, &state) {
        (Ok(tables), Ok(state)) => return print(&found, state, tables, args),
        (Err(why), _) | (_, Err(why)) => why,
    };
    say(&format!("process {pid}: there is no report: {why:#}"));
    Ok(())
}

fn print(found: &Armed, state: &State, tables: &Tables, args: &DetachArgs) -> anyhow::Result<()> {
    let (report, shares) = report_of(found, state, tables, Wanted::default());
    let mut out = Out::stdout()?;
    if args.json {
        out.line(&text::to_json(&report).context("writing JSON")?);
        return out.finish();
    }
    let look = render::Look { limit: 40, all: false, bold: false, width: None };
    render::table(&report, look).iter().for_each(|line| out.line(line));
    render::footer(&report, &shares, args.verbose).iter().for_each(|line| out.line(line));
    out.finish()
}
