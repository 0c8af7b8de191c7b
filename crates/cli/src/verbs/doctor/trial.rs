//! A run of a program that does nothing: what stops it stops others, whatever the reason.

use super::found::Found::{self, Good, Less, Stops};
use crate::model::counters::sum;
use crate::run::session::{Session, Times, Watch};
use crate::run::snapshot;
use crate::run::tables::Room;
use std::ffi::OsString;
use std::path::Path;
use std::process::ExitStatus;

/// A program that every Linux has, and a function that every program calls.
const PROGRAMS: [&str; 2] = ["/usr/bin/true", "/bin/true"];
const SPEC: &str = "entry:libc:exit";
const BUDGET: u64 = 64 << 20;

struct Trial {
    processes: usize,
    hits: u64,
}

impl Watch for Trial {
    fn over(&mut self, session: &Session, _end: Option<ExitStatus>) -> anyhow::Result<()> {
        let tables = session.tables();
        self.processes = tables.segment.processes_len();
        self.hits = sum(snapshot::all(tables).iter().map(|counters| counters.calls));
        Ok(())
    }

    fn hits(&self) -> u64 {
        self.hits
    }
}

pub(super) fn trial() -> Found {
    let Some(program) = PROGRAMS.into_iter().find(|path| Path::new(path).exists()) else {
        return Less("there is no /bin/true to try it with".to_string(), None);
    };
    let mut trial = Trial { processes: 0, hits: 0 };
    let room = Room { budget: BUDGET, ..Room::default() };
    let run = Session::start(&[SPEC.to_string()], &[OsString::from(program)], &room, |_| Ok(()))
        .and_then(|session| session.until_the_end(Times::default(), false, &mut trial));
    match (run, trial.processes, trial.hits) {
        (Err(error), ..) => Stops(
            format!("{program} cannot be run: {error:#}"),
            format!("trapline stat -v {SPEC} -- {program}"),
        ),
        (Ok(_), 0, _) => Stops(
            format!("{program} ran without the agent"),
            format!(
                "LD_DEBUG=libs trapline stat {SPEC} -- {program} shows why the loader does not \
                    take it"
            ),
        ),
        (Ok(_), _, 0) => {
            Less(format!("{program} was entered, and nothing was counted in it"), None)
        }
        (Ok(_), ..) => Good(format!("{program} was run, entered and counted")),
    }
}
