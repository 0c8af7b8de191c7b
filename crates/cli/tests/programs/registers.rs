//! What a probe must not touch: registers, flags, vectors, arguments, the red zone.

use crate::common::Target;

#[test]
fn general_registers_and_flags() {
    Target::new("registers.c").check();
}

#[test]
fn vector_registers_and_control_words() {
    Target::new("vector_registers.c").check();
}

#[test]
fn arguments_and_results_of_every_class() {
    Target::new("arguments.c").check();
    Target::new("arguments.c").flags(&["-O0"]).check();
}

#[test]
fn callers_that_know_their_callees_registers() {
    Target::new("ipa_ra.c").check();
    Target::new("ipa_ra.c").flags(&["-O3", "-fno-inline"]).check();
}

#[test]
fn live_red_zone() {
    Target::new("red_zone.c").check();
}

/// Probes in the middle of a leaf, where the red zone is alive.
#[test]
fn live_red_zone_at_an_offset() {
    for spec in ["t_leaf+25", "t_short_leaf+25", "t_leaf+5", "t_leaf+29", "t_looping_leaf+4"] {
        let reports = Target::new("red_zone.c").case().specs(&[spec]).check_output_only();
        let counted: u64 = reports.sum(|_| true);
        let rounds = if spec.starts_with("t_looping") { 5 } else { 1 };
        assert_eq!(counted, 1000 * rounds, "{spec}");
    }
}
