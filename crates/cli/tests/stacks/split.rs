//! Stacks in pieces: `-fsplit-stack`, where `__morestack` calls a function on a new piece.

use super::recorded::Recorded;
use super::{compare, gdb};
use crate::common::Target;
use crate::common::process::program;

const LEAF: [&str; 1] = ["t_leaf"];

#[test]
fn stacks_in_pieces() {
    if !gdb::available() {
        return;
    }
    let built = Target::new("split_stack.c").flags(&["-fsplit-stack"]).build();
    let expected = gdb::stacks(&LEAF, &program(&built));
    for probes in [&["split_stack:t_leaf"][..], &["--weight", "time", "split_stack:t_*"]] {
        let recorded =
            Recorded::run(&[&["--stack", "dwarf:254"], probes].concat(), &program(&built));
        compare::same(&format!("{probes:?}"), &recorded, &LEAF, &expected, |_| true);
    }
}
