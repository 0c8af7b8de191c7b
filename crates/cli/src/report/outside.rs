//! What happened outside of what is counted.

use crate::model::outside::{NotFollowed, StillRunning};
use crate::run::tables::Tables;
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
    let Ok(counters) = tables.counters().metadata().map(|file| file.ino().to_string()) else {
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
        let maps = fs::read_to_string(format!("/proc/{process}/maps")).ok()?;
        maps.lines().any(|line| maps_shared(line, &counters)).then_some(())?;
        let name = fs::read_to_string(format!("/proc/{process}/comm")).ok()?;
        Some(StillRunning { process, name: name.trim_end().to_string() })
    };
    all.into_iter().filter_map(of).collect()
}

/// Whether a line of a process's mappings is of a file with this inode that it shares. Its device
/// is not compared: some file systems have two numbers for it.
fn maps_shared(line: &str, inode: &str) -> bool {
    let mut fields = line.split_ascii_whitespace().skip(1);
    let shared = fields.next().is_some_and(|rights| rights.ends_with('s'));
    shared && fields.nth(2) == Some(inode)
}

#[cfg(test)]
mod tests {
    use super::maps_shared;

    #[test]
    fn lines_of_mappings() {
        let line = "7f2c4e000000-7f2c4e021000 rw-s 00000000 00:01 1034  /memfd:trapline (deleted)";
        assert!(maps_shared(line, "1034"));
        assert!(!maps_shared(line, "103") && !maps_shared(line, "00:01"));
        assert!(!maps_shared(&line.replace("rw-s", "rw-p"), "1034"));
        assert!(!maps_shared("7f2c4e000000-7f2c4e021000", "1034") && !maps_shared("", "0"));
    }
}
