//! Stacks that a program copies away and back.

use super::common::process::{run, trapline};
use super::common::{Mode, Target};

/// At exits nothing of ours is copied: the program does what it does bare, calls are exact, and the
/// report says that times are not to be believed.
#[test]
fn copied_stacks_are_said() {
    let target = Target::new("runtimes/copied.c");
    let case = target.case().env("TRAPLINE_RETURNS", "exits");
    for report in case.modes(&[Mode::Timed]).check() {
        assert!(report.0["overlaps"].as_u64() > Some(0), "{}", report.0);
        assert_eq!(report.lost(), []);
    }
    let said =
        run(trapline().args(["stat", "--returns", "exits", "t_*", "--"]).arg(target.build()), b"");
    assert!(said.stderr.contains("overlapping stacks: "), "{}", said.stderr);
}
