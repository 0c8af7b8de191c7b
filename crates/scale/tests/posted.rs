//! The tables that others have posted of real machines, on the model.

use scale::cell::Child;
use scale::tables::table;
use scale::{Comparison, Results};

/// Every ratio of neighbouring columns within a factor of two of the posted one, and the ratio over
/// all within its own.
fn holds(name: &str) {
    let table = table(name).expect("a table of that name");
    let child =
        Child { program: env!("CARGO_BIN_EXE_trapline-scale").into(), arguments: Vec::new() };
    let results = Results::run(table, usize::MAX, 0, &child, 2).expect("all cells run");
    let comparisons = results.comparisons();
    assert!(!comparisons.is_empty());
    let off: Vec<&Comparison> = comparisons.iter().filter(|c| !c.holds()).collect();
    assert!(off.is_empty(), "{off:#?}\n{}", scale::text::render(&results));
}

#[test]
fn free_lists_on_arm64() {
    holds("arm64");
}

#[test]
fn free_lists_on_a_xeon() {
    holds("xeon");
}

#[test]
fn readers() {
    holds("readers");
}
