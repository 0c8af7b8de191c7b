//! A C++ program that calls one function in all ways there are, compiled in several ways.

use std::path::PathBuf;

use super::recorded::Recorded;
use super::stack::{Stack, Stacks};
use super::{compare, gdb};
use crate::common::Target;
use crate::common::process::program;

const LEAF: [&str; 1] = ["t_leaf"];

fn build(name: &str, flags: &[&str]) -> PathBuf {
    // The usual flags keep tail calls from being made; here they are wanted.
    Target::new("stacks.cpp").named(name).flags(flags).flags(&["-foptimize-sibling-calls"]).build()
}

/// Compares stacks by unwind tables, with nothing but the leaf probed, and with return probes in
/// all frames.
fn by_tables(name: &str, flags: &[&str]) {
    if !gdb::available() {
        return;
    }
    let built = build(name, flags);
    let expected = gdb::stacks(&LEAF, &program(&built));
    for options in [
        vec![format!("{name}:t_leaf")],
        vec!["--weight".to_owned(), "time".to_owned(), format!("{name}:*")],
    ] {
        let options: Vec<&str> = options.iter().map(String::as_str).collect();
        let recorded =
            Recorded::run(&[&["--stack", "dwarf:254"], &options[..]].concat(), &program(&built));
        compare::same(
            &format!("{name} {flags:?} {options:?}"),
            &recorded,
            &LEAF,
            &expected,
            |_| true,
        );
    }
}

#[test]
fn not_optimised() {
    by_tables("stacks-O0", &["-O0"]);
}

#[test]
fn optimised() {
    by_tables("stacks-O2", &[]);
}

#[test]
fn with_frame_pointers() {
    by_tables("stacks-fp", &["-fno-omit-frame-pointer"]);
}

#[test]
fn at_a_fixed_address() {
    by_tables("stacks-fixed", &["-fomit-frame-pointer", "-fno-pie", "-no-pie"]);
}

/// Whether the chain of frame pointers leads through all frames, up to where it breaks off and the
/// tables are asked.
///
/// The program's own frames have pointers. So they may come from `main` or from a thread's
/// function, whose callers in libc have none: there the register holds nothing that leads anywhere.
/// Or they are a signal handler's: from its trampoline on, the tables are asked anyway.
///
/// Not comparable are stacks through callbacks of libc and libstdc++, which are built without frame
/// pointers: there the register still is what the caller left in it, and frames are left out.
fn has_frame_pointers(stack: &Stack, program: &str) -> bool {
    let rest: Vec<_> = stack.iter().skip_while(|place| place.file == program).collect();
    match rest.as_slice() {
        // Called by __libc_start_call_main, __libc_start_main, _start.
        [_, _, start] if start.file == program => true,
        // start_thread, clone3.
        [_, _] => true,
        [_trampoline, interrupted, ..] => interrupted.exact,
        _ => false,
    }
}

#[test]
fn by_frame_pointers() {
    if !gdb::available() {
        return;
    }
    let built = build("stacks-fp", &["-fno-omit-frame-pointer"]);
    let expected: Stacks = gdb::stacks(&LEAF, &program(&built));
    for options in [&["stacks-fp:t_leaf"][..], &["--weight", "time", "stacks-fp:*"]] {
        let recorded = Recorded::run(&[&["--stack", "fp:254"], options].concat(), &program(&built));
        compare::same(
            &format!("by frame pointers {options:?}"),
            &recorded,
            &LEAF,
            &expected,
            |stack| has_frame_pointers(stack, "stacks-fp"),
        );
    }
}
