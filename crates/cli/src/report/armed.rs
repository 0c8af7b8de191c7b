//! The report of a process that counts without a command line.

use super::collect::{Wanted, collect};
use crate::clock::Clock;
use crate::model::report::{Report, Share};
use crate::run::armed::Armed;
use crate::run::server::State;
use crate::run::snapshot;
use crate::run::tables::Tables;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// What was counted until now, from what `wanted` says beside when that was.
pub(crate) fn armed(
    armed: &Armed,
    state: &State,
    tables: &Tables,
    wanted: Wanted,
) -> (Report, Vec<Share>) {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let started = armed.meta.as_ref().map_or(0, |meta| meta.started);
    let elapsed = now.saturating_sub(Duration::from_secs(started));
    let ns_per_tick = Clock::start().ns_per_tick();
    let counters = snapshot::all(tables);
    let (mut report, shares) =
        collect(state, tables, &counters, Wanted { elapsed, ns_per_tick, ..wanted });
    report.run = armed.meta.as_ref().map(|meta| meta.origin()).unwrap_or_default();
    (report, shares)
}
