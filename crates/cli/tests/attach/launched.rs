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
        // Static programs have no breakpoints: their C library's functions are not told apart.
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

/// Programs whose C library is a library have breakpoints where no jump has room, and do not see
/// what that takes of their signals.
#[test]
fn breakpoints_where_no_jump_has_room() {
    for kind in [Kind::Dynamic, Kind::Musl] {
        let modes = [Mode::Timed, Mode::Counted, Mode::Everything, Mode::Recorded];
        let check = |source: &str, arguments: &[&str], code: i32| {
            let Some(target) = kind.linked(Target::new(source)) else { return Vec::new() };
            let case = target.case().code(code).env("TRAPLINE_AGENT", "image").modes(&modes);
            arguments.iter().fold(case, |case, argument| case.arg(argument)).check()
        };
        for report in check("short_functions.c", &[], 0).iter().take(3) {
            let breakpoints = report.0["armed"]["breakpoint"].as_u64();
            assert!(breakpoints >= Some(8), "{kind:?}: {}", report.0["armed"]);
        }
        check("signal_state.c", &[], 0);
        if kind == Kind::Dynamic {
            check("vfork_signals.c", &[], 0);
        }
        check("sigaltstack.c", &[], 0);
        for (how, code) in [("raise", 133), ("int3", 133), ("ud2", 132), ("blocked", 133)] {
            check("default_trap.c", &[how], code);
        }
    }
}

/// The shared runtime of a sanitizer refuses to run behind anything that was preloaded.
#[test]
fn programs_with_a_sanitizer() {
    for flag in ["-fsanitize=address", "-fsanitize=thread", "-fsanitize=undefined"] {
        let case = Target::new("sanitized.c").flags(&[flag]).case();
        case.modes(&[Mode::Counted]).check();
    }
}

/// Its functions are never called by us, and none before it is ready.
#[test]
fn a_program_that_answers_for_the_c_library() {
    Target::new("interposes.c").case().modes(&[Mode::Counted]).check();
}
