//! Programs that nothing can be preloaded into: the image is put into them before they run, and
//! what they do is counted from their first instruction on.

use super::common::{Mode, Target};
use super::running::Kind;

/// The kinds that are started this way.
fn kinds() -> impl Iterator<Item = Kind> {
    Kind::ALL.into_iter().filter(|kind| *kind != Kind::Dynamic)
}

/// Bare against probed, with exact counts.
fn check(source: &str, more: &[&str], arguments: &[&str], code: i32) {
    for kind in kinds() {
        let Some(target) = kind.linked(Target::new(source).flags(more)) else { continue };
        let case = target.case().code(code).modes(&[Mode::Counted, Mode::Everything]);
        // Breakpoints are not put in from outside.
        let mut case = case.may_skip("too short for a jump");
        for argument in arguments {
            case = case.arg(argument);
        }
        case.check();
    }
}

#[test]
fn calls_before_main_are_counted() {
    check("early.c", &[], &[], 5);
    // musl knows no indirect functions.
    for kind in [Kind::Static, Kind::StaticPie] {
        let target = kind.linked(Target::new("early.c").flags(&["-DINDIRECT"]));
        let Some(target) = target else { continue };
        target.case().code(5).modes(&[Mode::Counted]).check();
    }
}

#[test]
fn recursion_and_tail_calls() {
    check("mutual_recursion.c", &[], &[], 0);
    check("recursion.c", &[], &["10000"], 0);
    check("tail_calls.c", &["-foptimize-sibling-calls"], &[], 0);
}

#[test]
fn threads_that_come_and_go() {
    check("threads.c", &[], &[], 0);
    check("short_threads.c", &[], &[], 0);
}

#[test]
fn fork_children() {
    check("fork.c", &[], &[], 0);
}

#[test]
fn frames_that_are_left() {
    check("longjmp.c", &[], &[], 0);
}

#[test]
fn registers() {
    check("registers.c", &[], &[], 0);
    check("vector_registers.c", &["-mavx2"], &[], 0);
}
