//! What happened outside of what is counted.

use crate::model::outside::{NotFollowed, StillRunning};
use crate::run::loaded::shares;
use crate::run::tables::Tables;
use crate::sys;
use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::MetadataExt;
use wire::NOT_FOLLOWED;

/// What the agents' log says of programs that were executed without them.
pub(crate) fn not_followed(tables: &Tables) -> Vec<NotFollowed> {
    let log = tables.log();
    let said = log.lines().filter_map(|line| line.split_once(": ")?.1.strip_prefix(NOT_FOLLOWED));
    let parts = said.filter_map(|text| text.strip_suffix(')')?.rsplit_once(" ("));
    let all = parts.map(|(program, reason)| NotFollowed {
        program: program.to_string(),
        reason: reason.to_string(),
    });
    // Two processes that say it at once are heard twice.
    all.collect::<BTreeSet<_>>().into_iter().collect()
}

/// The processes that can still count, by number: those that have the counters mapped, of all that
/// were heard of.
pub(crate) fn still_running(tables: &Tables) -> Vec<StillRunning> {
    let segment = &tables.segment;
    let Ok(counters) = tables.counters().metadata().map(|file| file.ino()) else {
        return Vec::new();
    };
    let said = (0..segment.processes_len()).filter_map(|index| segment.process(index));
    // The table of processes has its limit, and those that count are in it or have a block.
    let counting = (0..segment.blocks_len()).filter_map(|index| segment.thread(index));
    let counting = counting.filter(|thread| thread.running).map(|thread| thread.pid);
    let all: BTreeSet<u32> = said.map(|process| process.pid).chain(counting).collect();
    let of = |process: u32| {
        // Numbers are given again, programs are executed that have no agent, and one that has ended
        // has no mappings.
        shares(process.cast_signed(), counters).then_some(())?;
        let name = fs::read_to_string(format!("/proc/{process}/comm")).ok()?;
        Some(StillRunning { process, name: name.trim_end().to_string() })
    };
    let mut found: Vec<StillRunning> = all.into_iter().filter_map(of).collect();
    // Those that were left before are as they were, and have no counters mapped.
    let known: BTreeSet<u32> = found.iter().map(|one| one.process).collect();
    let left = tables.left().into_iter().filter(|one| !known.contains(&one.process));
    found.extend(left.filter(|one| !sys::is_dead(one.process)));
    found.sort_by_key(|one| one.process);
    found
}
