//! The tables that others have posted of real machines, on the model.

use scale::cell::Child;
use scale::tables::table;
use scale::{Comparison, Results};

fn run(name: &str) -> Results {
    let table = table(name).expect("a table of that name");
    let child =
        Child { program: env!("CARGO_BIN_EXE_trapline-scale").into(), arguments: Vec::new() };
    Results::run(table, usize::MAX, 0, &child, 2).expect("all cells run")
}

/// Every ratio of neighbouring columns within a factor of two of the posted one, and the ratio over
/// all within its own; but for those that the model is known to get wrong.
fn holds_but(name: &str, wrong: &[&str]) {
    let results = run(name);
    let comparisons = results.comparisons();
    assert!(!comparisons.is_empty());
    let off: Vec<&Comparison> = comparisons.iter().filter(|c| !c.holds()).collect();
    let known = off.iter().map(|c| &*c.what).eq(wrong.iter().copied());
    assert!(known, "{off:#?}\n{}", scale::text::render(&results));
}

#[test]
fn free_lists_on_arm64() {
    holds_but("arm64", &[]);
}

#[test]
fn free_lists_on_a_xeon() {
    holds_but("xeon", &[]);
}

/// Of a machine whose calibration was fitted to none of its figures.
#[test]
fn the_free_list_on_two_xeons() {
    assert!(run("xeon48").comparisons().iter().all(|comparison| !comparison.fitted));
    holds_but("xeon48", &[]);
}

/// What falls at once there, falls later here; and that the ring lost two thirds of all it did when
/// the second socket came in is nothing that the model knows a cause of.
#[test]
fn the_queues_alone_on_two_xeons() {
    holds_but("ring", &["list, as posted, 2 to 4 threads", "ring, as posted, 24 to 32 threads"]);
}

#[test]
fn readers() {
    holds_but("readers", &[]);
}

/// What two CPUs pay, from what one was measured to pay and what the model adds: of rows that no
/// calibration was fitted to.
#[test]
fn two_cpus_are_predicted() {
    let results = run("two");
    let predictions = results.predicted();
    let unfitted = predictions.iter().filter(|prediction| !prediction.fitted);
    let off: Vec<_> = unfitted.clone().filter(|prediction| !prediction.holds()).collect();
    assert!(unfitted.count() >= 12 && off.is_empty(), "{off:#?}");
    // The one that has something to say: thirty times what one pays.
    let list = predictions.iter().find(|p| p.scheme == "CAS LIFO").expect("a row");
    assert!(list.together[0] > 10.0 * list.alone[0] && list.holds(), "{list:?}");
}
