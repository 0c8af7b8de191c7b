//! A Rust program: closures, generics, trait objects, panics that are caught, threads.

use super::recorded::Recorded;
use super::{compare, gdb};
use crate::common::Target;
use crate::common::process::program;

#[test]
fn closures_panics_and_threads() {
    if !gdb::available() {
        return;
    }
    for (name, flags) in
        [("stacks-rust", &[][..]), ("stacks-rust-debug", &["-C", "opt-level=0", "-g"])]
    {
        let built = Target::new("stacks.rs").named(name).flags(flags).build();
        let expected = gdb::stacks(&["t_leaf"], &program(&built));
        let all = format!("{name}:*");
        for options in [&["t_leaf"][..], &["--weight", "time", &all]] {
            let recorded =
                Recorded::run(&[&["--stack", "dwarf:254"], options].concat(), &program(&built));
            compare::same(
                &format!("{name} {options:?}"),
                &recorded,
                &["t_leaf"],
                &expected,
                |_| true,
            );
        }
    }
}
