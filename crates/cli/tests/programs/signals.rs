//! Signals: handlers on other stacks, at any instruction, and the program's own SIGTRAP and SIGILL.

use crate::common::{Mode, Target};

#[test]
fn handlers_on_alternate_stacks() {
    Target::new("sigaltstack.c").check();
    Target::new("sigaltstack.c").flags(&["-O0"]).check();
}

#[test]
fn a_timer_every_200_us() {
    Target::new("timer_signals.c").case().output_varies().check();
}

#[test]
fn a_timer_every_200_us_with_libc() {
    Target::new("timer_signals.c").case().output_varies().modes(&[Mode::WithLibc]).check();
}

#[test]
fn dispositions_and_masks_are_the_programs_own() {
    Target::new("signal_state.c").check();
    Target::new("signal_state.c").case().modes(&[Mode::WithLibc]).check();
}

#[test]
fn unhandled_traps_kill() {
    let target = Target::new("default_trap.c");
    for (how, code) in [("raise", 133), ("int3", 133), ("ud2", 132), ("blocked", 133)] {
        target.case().arg(how).code(code).check();
    }
}

#[test]
fn faults_have_their_original_address() {
    Target::new("fault_address.c").check();
}

/// A profiler in the program unwinds from any instruction of a probe.
#[test]
fn samples_unwind_from_everywhere() {
    Target::new("profile.c").check();
}
