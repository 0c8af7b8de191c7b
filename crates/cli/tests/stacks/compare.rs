//! What differs between two multisets of stacks.

use std::fmt::Write as _;

use super::recorded::Recorded;
use super::stack::{Stack, Stacks, sum};

/// So many differences are shown.
const SHOWN: usize = 6;

/// Compares what was recorded with what gdb saw, for stacks for which `comparable` holds on both
/// sides.
///
/// # Panics
///
/// With the stacks that differ. If less than half of the hits could be compared: then nothing is
/// tested.
pub(crate) fn same(
    what: &str,
    recorded: &Recorded,
    functions: &[&str],
    gdb: &Stacks,
    comparable: impl Fn(&Stack) -> bool,
) {
    let only = |all: &Stacks| -> Stacks {
        all.iter().filter(|(stack, _)| comparable(stack)).map(|(s, n)| (s.clone(), *n)).collect()
    };
    let all = recorded.stacks_of(functions);
    let (ours, theirs) = (only(&all), only(gdb));
    assert!(
        sum(&theirs) * 2 > sum(gdb),
        "{what}: only {} of {} hits can be compared",
        sum(&theirs),
        sum(gdb)
    );
    assert_eq!(sum(&all), sum(gdb), "{what}: hits");
    let differing: Vec<&Stack> = ours
        .keys()
        .chain(theirs.keys().filter(|s| !ours.contains_key(*s)))
        .filter(|s| ours.get(*s) != theirs.get(*s))
        .collect();
    let mut text = String::new();
    for stack in differing.iter().take(SHOWN) {
        let count = |side: &Stacks| side.get(*stack).copied().unwrap_or(0);
        let _ = writeln!(text, "recorded {} times, by gdb {}:", count(&ours), count(&theirs));
        stack.iter().for_each(|place| {
            let _ = writeln!(text, "    {place:?} {}", recorded.name(place));
        });
    }
    assert!(
        differing.is_empty(),
        "{what}: {} of {} stacks differ\n{text}",
        differing.len(),
        theirs.len()
    );
}
