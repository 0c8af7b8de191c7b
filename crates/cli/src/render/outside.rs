//! What a footer says of what is not in the figures.

use crate::human::grouped;
use crate::model::outside::{Inlined, NotFollowed, StillRunning};
use crate::text::visible;

/// Most that are named of each, unless all are asked for.
const MOST_NAMED: usize = 8;

/// What a report or a recording has of all that.
#[derive(Debug, Clone)]
pub(super) struct Outside<'a> {
    pub(super) not_followed: &'a [NotFollowed],
    pub(super) still_running: &'a [StillRunning],
    /// Names of functions.
    pub(super) overwritten: Vec<&'a str>,
    pub(super) also_inlined: &'a [Inlined],
    /// Whether there was more debug information than was searched for those.
    pub(super) inlined_partly: bool,
}

/// A line for each program of which nothing is counted and each function that is inlined, too, and
/// one for the processes that go on.
pub(super) fn outside(all: Outside<'_>, verbose: bool) -> Vec<String> {
    let Outside { not_followed, still_running, overwritten, also_inlined, inlined_partly } = all;
    let most = if verbose { usize::MAX } else { MOST_NAMED };
    let line = |one: &NotFollowed| {
        format!("not followed: {} ({})", visible(&one.program), visible(&one.reason))
    };
    let mut lines: Vec<String> = not_followed.iter().take(most).map(line).collect();
    let more = not_followed.len().saturating_sub(most);
    if more > 0 {
        let more = grouped(more as u64);
        lines.push(format!("not followed: {more} more programs (-v names them)"));
    }
    let named = |what: &str, all: Vec<String>| {
        let count = grouped(all.len() as u64);
        let more = all.len().saturating_sub(most);
        let more = (more > 0).then(|| format!("{} more, which -v names", grouped(more as u64)));
        let names: Vec<String> = all.into_iter().take(most).chain(more).collect();
        (!names.is_empty()).then(|| format!("{what}: {count} ({})", names.join(", ")))
    };
    let process = |one: &StillRunning| format!("{} {}", one.process, visible(&one.name));
    lines.extend(named("still running", still_running.iter().map(process).collect()));
    let names = overwritten.iter().map(|name| visible(name).into_owned()).collect();
    let line = named("probes that were overwritten", names);
    lines.extend(line.map(|line| format!("{line}: later calls are not counted")));
    let line = |one: &Inlined| format!("{}: those are not counted", visible(&one.sentence()));
    lines.extend(also_inlined.iter().take(most).map(line));
    let more = also_inlined.len().saturating_sub(most);
    if more > 0 {
        lines.push(format!("{} more are inlined, too (-v names them)", grouped(more as u64)));
    }
    if inlined_partly {
        lines.push("looked for inlined functions in a part of the debug information only".into());
    }
    lines
}
