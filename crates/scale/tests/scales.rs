//! What scales, and what does not: on machines of 128 CPUs, the same in each run.

use scale::STOPPED;
use scale::cell::{Cell, Child, Outcome};

fn child() -> Child {
    Child { program: env!("CARGO_BIN_EXE_trapline-scale").into(), arguments: Vec::new() }
}

fn on_epycs(scheme: &str, threads: usize) -> Outcome {
    with_work(scheme, threads, 0)
}

fn with_work(scheme: &str, threads: usize, work: u64) -> Outcome {
    let cell = Cell { machine: "epyc".into(), scheme: scheme.into(), threads, work, seed: 1 };
    cell.run_apart(&child()).expect("the cell runs")
}

/// How many times what it costs one CPU an operation costs each of 128.
fn growth(scheme: &str) -> f64 {
    on_epycs(scheme, 128).nanoseconds / on_epycs(scheme, 1).nanoseconds
}

fn scales(scheme: &str) {
    let growth = growth(scheme);
    assert!(growth < STOPPED, "{scheme}: {growth:.2} times at 128 CPUs: {}", on_epycs(scheme, 128));
    assert!(growth > 0.9, "{scheme}: {growth:.2} times: no machine does that");
}

#[test]
fn the_default_pool_scales() {
    scales("default pool");
}

#[test]
fn hazard_pointers_scale() {
    scales("hazptr");
}

#[test]
fn rcu_sections_scale() {
    scales("rcu");
}

#[test]
fn srcu_sections_scale() {
    scales("srcu");
    scales("srcu-fast");
}

#[test]
fn percpu_references_scale() {
    scales("percpu_ref");
}

#[test]
fn cached_references_scale() {
    scales("cached");
}

#[test]
fn depot_hits_scale() {
    scales("depot, hits");
}

/// What the kernel began with, and ours of that kind: together less than one CPU alone, for the
/// head of the list.
#[test]
fn a_list_with_one_head_collapses() {
    for (scheme, place) in [("list, as posted", "posted.rs"), ("CAS LIFO", "cas_lifo.rs")] {
        let [alone, together] = [1, 128].map(|threads| on_epycs(scheme, threads));
        assert!(together.millions < alone.millions / 4.0, "{scheme}: {alone} and {together}");
        assert!(together.lost > 0.3, "{scheme}: {together}");
        assert!(together.stopper.contains(place), "{scheme}: {together}");
    }
}

#[test]
fn one_count_collapses() {
    let [alone, together] = [1, 128].map(|threads| on_epycs("one count (Arc)", threads));
    assert!(together.millions < alone.millions / 2.0, "{alone} and {together}");
    assert!(together.stopper.starts_with("fetch_"), "{together}");
}

/// The broken variant: counts of CPUs side by side. What percpu_ref has of its own lines for.
#[test]
fn counts_on_one_line_are_caught() {
    let growth = growth("counts, packed");
    assert!(growth > 4.0 * STOPPED, "{growth:.2} times");
    let stopper = on_epycs("counts, packed", 128).stopper;
    assert!(stopper.contains("readers.rs"), "{stopper}");
}

/// The handler of a server: what requests of 64 workers take and give back of one object costs each
/// what it costs one, but for an `Arc` in a lock.
#[test]
fn references_in_a_server() {
    const WORK: u64 = 15_000_000;
    let cost = |scheme: &str, threads| with_work(scheme, threads, WORK).nanoseconds;
    for scheme in ["hazptr, 16", "rcu, 16", "srcu, 16", "percpu_ref, 16", "cached, 16"] {
        let [alone, together] = [1, 64].map(|threads| cost(scheme, threads));
        assert!(together < 1.05 * alone, "{scheme}: {alone} ns, {together} with 64 workers");
    }
    let [alone, together] = [1, 64].map(|threads| cost("Arc in a lock, 16", threads));
    assert!(together > 2.0 * alone, "an Arc in a lock: {alone} ns, {together} with 64 workers");
}

/// A slot that is taken for each hit is taken of all threads' own; what a thread keeps is its own.
#[test]
fn slots_of_breakpoints() {
    const TRAP: u64 = 2_400_000;
    let growth = |scheme: &str| {
        let [alone, together] = [1, 64].map(|threads| with_work(scheme, threads, TRAP).nanoseconds);
        together / alone
    };
    for scheme in ["sticky slot", "cache in a thread", "permanent slot"] {
        assert!(growth(scheme) < 1.1, "{scheme}: {}", growth(scheme));
    }
    assert!(growth("slot per hit") > 1.5, "{}", growth("slot per hit"));
}

#[test]
fn a_run_is_the_same_each_time() {
    for scheme in ["default pool", "CAS LIFO", "hazptr, replace", "depot, misses"] {
        assert_eq!(on_epycs(scheme, 16), on_epycs(scheme, 16), "{scheme}");
    }
}

#[test]
fn another_seed_is_another_run() {
    let of = |seed| {
        let cell =
            Cell { machine: "epyc".into(), scheme: "CAS LIFO".into(), threads: 16, work: 0, seed };
        cell.run_apart(&child()).expect("the cell runs")
    };
    assert_ne!(of(1), of(2));
}

#[test]
fn what_there_is_not_is_said() {
    let cell =
        Cell { machine: "epyc".into(), scheme: "nothing".into(), threads: 1, work: 0, seed: 0 };
    let error = cell.run_apart(&child()).expect_err("there is no such scheme").to_string();
    assert!(error.contains("a scheme of that name"), "{error}");
}
