//! What it costs to arm and disarm thousands of functions at once.

use super::blocks::{self, BLOCK};
use super::check::Checks;
use super::ours;
use super::village::Village;
use crate::report::{Bound, Sheet, Target};
use crate::stats::Summary;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Instant;
use uprobe::{Action, Engine, Method, Patching};
use wire::cell;

/// Functions in a batch: a large program's.
const SITES: usize = 5_000;
/// Where their cells begin in a block; those of the rows are before.
const CELLS: usize = BLOCK / 2;

const _: () = assert!(CELLS + SITES * cell::COUNT_BYTES <= BLOCK, "the cells fit into a block");

/// Milliseconds of one batch.
struct Times {
    arm: f64,
    disarm: f64,
    detours: usize,
}

/// The table and its target.
pub(super) fn measure(quick: bool, checks: &Checks) -> (Sheet, Vec<Target>) {
    let columns = ["arm min", "median", "max", "us per site", "disarm", "detours"];
    let mut sheet = Sheet::new(&format!("arming {SITES} functions in one batch, ms"), &columns);
    let mut targets = Vec::new();
    let repeats = if quick { 1 } else { 5 };
    let Ok(engine) = ours::engine() else { return (sheet, targets) };
    for (name, patching, busy) in [
        ("quiet: one thread", Patching::Quiet, 0),
        ("live: nobody else runs", Patching::Live, 0),
        ("live: two threads run elsewhere", Patching::Live, 2),
    ] {
        let times: Vec<Times> = (0..repeats).filter_map(|_| beside(busy, || batch(engine, patching, checks))).collect();
        let of = |value: fn(&Times) -> f64| Summary::of(times.iter().map(value));
        let arm = of(|t| t.arm);
        let values = vec![
            arm.map(|s| s.min),
            arm.map(|s| s.median),
            arm.map(|s| s.max),
            arm.map(|s| s.median * 1e3 / SITES as f64),
            of(|t| t.disarm).map(|s| s.median),
            of(|t| t.detours as f64).map(|s| s.median),
        ];
        sheet.row(name, values, "");
        targets.push(Target::new(format!("arming {SITES} sites, {name}, ms"), Bound::AtMost(1_000.0), arm));
    }
    sheet.notes.push("each batch is on functions of its own; afterwards every function is called once and its count compared".to_owned());
    (sheet, targets)
}

/// Arms a new village, calls all of it, compares, disarms.
fn batch(engine: &'static Engine, patching: Patching, checks: &Checks) -> Option<Times> {
    let village = Village::build(SITES).ok()?;
    // A function behind another one of the batch may not take its padding: all know their own size only.
    let mut batch = engine.batch();
    for (number, (start, size)) in village.functions().enumerate() {
        let action = Action::Count { cell: (CELLS + number * cell::COUNT_BYTES) as u32 };
        batch.add(uprobe::Target::entry(start, size as u32, action));
    }
    let start = Instant::now();
    let results = batch.commit(patching);
    let arm = start.elapsed().as_secs_f64() * 1e3;
    let before = counts();
    let right = village.call_all();
    let counted = counts().iter().zip(&before).filter(|(after, before)| **after == **before + 1).count();
    let armed: Vec<_> = results.iter().flatten().collect();
    if let Some(refusal) = results.iter().find_map(|r| r.as_ref().err()) {
        checks.say(format!("arming: {} of {SITES} refused, the first one: {refusal}", SITES - armed.len()));
    }
    if right != SITES || counted != armed.len() {
        checks.say(format!(
            "WRONG: arming, {patching:?}: {right} of {SITES} functions answered right, {counted} of {} counted one call",
            armed.len()
        ));
    }
    let ids: Vec<_> = armed.iter().map(|a| a.id).collect();
    let start = Instant::now();
    if let Err(refusal) = engine.remove(&ids, patching) {
        checks.say(format!("disarming: {refusal}"));
    }
    let disarm = start.elapsed().as_secs_f64() * 1e3;
    if village.call_all() != SITES {
        checks.say(format!("WRONG: after disarming, {patching:?}, functions do not answer as before"));
    }
    let detours = armed.iter().filter(|a| a.method == Method::Detour).count();
    Some(Times { arm, disarm, detours })
}

fn counts() -> Vec<u64> {
    (0..SITES).map(|number| blocks::sum(CELLS + number * cell::COUNT_BYTES + cell::CALLS)).collect()
}

/// Does `work` while that many other threads compute.
fn beside<T>(threads: usize, work: impl FnOnce() -> T) -> T {
    let stop = AtomicBool::new(false);
    thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                // Relaxed: nothing but the flag is communicated.
                while !stop.load(Ordering::Relaxed) {
                    std::hint::spin_loop();
                }
            });
        }
        let result = work();
        stop.store(true, Ordering::Relaxed);
        result
    })
}
