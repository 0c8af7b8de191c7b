//! What a footer says of what is not in the figures.

use crate::human::grouped;
use crate::model::outside::{After, Attached, Inlined, NotFollowed, StillRunning};
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
    /// Processes that ran already.
    pub(super) attached: &'a [Attached],
}

/// A line for each program of which nothing is counted and each function that is inlined, too, and
/// one for the processes that go on.
pub(super) fn outside(all: Outside<'_>, verbose: bool) -> Vec<String> {
    let Outside {
        not_followed,
        still_running,
        overwritten,
        also_inlined,
        inlined_partly,
        attached: ran_already,
    } = all;
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
    lines.extend(attached(ran_already, verbose));
    let process = |one: &StillRunning| format!("{} {}", one.process, visible(&one.name));
    lines.extend(named("still running", still_running.iter().map(process).collect(), most));
    let names = overwritten.iter().map(|name| visible(name).into_owned()).collect();
    let line = named("probes that were overwritten", names, most);
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

/// A line for the processes with the image in them, and one for each whose probes stay.
pub(crate) fn attached(all: &[Attached], verbose: bool) -> Vec<String> {
    let most = if verbose { usize::MAX } else { MOST_NAMED };
    let process = |one: &Attached| format!("{} {}", one.process, visible(&one.name));
    let line = |what, started| {
        let these = all.iter().filter(|one| one.started == started).map(process).collect();
        named(what, these, most)
    };
    let ran = line("attached", false);
    let ran = ran.map(|line| format!("{line}: calls that had begun by then have no times"));
    let started = line("entered", true);
    let probed = all.iter().filter(|one| one.after == After::Probed).map(|one| {
        let why = one.why.as_deref().unwrap_or_default();
        format!("not detached: {}: its probes stay, and count for nobody ({why})", process(one))
    });
    ran.into_iter().chain(started).chain(probed).collect()
}

/// How many there are of something, and the first names; none if there are none.
fn named(what: &str, all: Vec<String>, most: usize) -> Option<String> {
    let count = grouped(all.len() as u64);
    let more = all.len().saturating_sub(most);
    let more = (more > 0).then(|| format!("{} more, which -v names", grouped(more as u64)));
    let names: Vec<String> = all.into_iter().take(most).chain(more).collect();
    (!names.is_empty()).then(|| format!("{what}: {count} ({})", names.join(", ")))
}

#[cfg(test)]
mod tests {
    use super::attached;
    use crate::model::outside::{After, Attached};

    #[test]
    fn processes_that_ran_already() {
        assert_eq!(attached(&[], false), [""; 0]);
        let one = |process, after| Attached {
            process,
            name: "redis".to_string(),
            started: process == 9,
            after,
            why: Some("no memory".to_string()),
        };
        let lines = attached(&[one(7, After::Running), one(8, After::Probed)], false);
        assert_eq!(lines.len(), 2);
        assert!(
            lines[0].starts_with("attached: 2 (7 redis, 8 redis): calls that had"),
            "{lines:?}"
        );
        assert!(lines[1].starts_with("not detached: 8 redis"), "{lines:?}");
        let lines = attached(&[one(9, After::Ended)], false);
        assert_eq!(lines[0], "entered: 1 (9 redis)");
        let many: Vec<_> = (20..40).map(|process| one(process, After::Ended)).collect();
        assert!(attached(&many, false)[0].contains("12 more, which -v names"));
        assert!(!attached(&many, true)[0].contains("more"));
    }
}
