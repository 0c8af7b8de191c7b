//! What it costs to arm and disarm thousands of functions at once.

use super::blocks::{self, BLOCK};
use super::check::Checks;
use super::ours;
use super::village::Village;
use crate::group::Group;
use crate::report::{Bound, Sheet, Target};
use crate::stats::Summary;
use clap::Args;
use serde::{Deserialize, Serialize};
use std::io::Read;
use std::process::{Command, ExitCode, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};
use uprobe::{Action, Engine, Method, Patching};
use wire::cell;

/// Functions in a batch: a large program's.
const SITES: usize = 5_000;
/// Where their cells begin in a block; those of the rows are before.
const CELLS: usize = BLOCK / 2;

const _: () = assert!(CELLS + SITES * cell::COUNT_BYTES <= BLOCK, "the cells fit into a block");

/// What one process does for the table, which is why the program starts itself anew: the engine
/// keeps the stubs of all that was ever armed, and a program arms its functions once.
#[derive(Args, Clone, Copy, Debug)]
pub struct ArmOnce {
    /// Threads run
    #[arg(long)]
    live: bool,
    /// That many of them, beside the one that arms
    #[arg(long, default_value_t = 0)]
    busy: usize,
    /// Batches, one after the other, each on functions of its own
    #[arg(long, default_value_t = 1)]
    batches: usize,
}

/// Milliseconds of the last batch, and what was wrong with any.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
struct Times {
    arm: f64,
    disarm: f64,
    detours: usize,
    wrong: Vec<String>,
}

/// Does it, and prints the times as JSON.
pub fn arm_once(options: &ArmOnce) -> ExitCode {
    let checks = Checks::default();
    let patching = if options.live { Patching::Live } else { Patching::Quiet };
    let times = match ours::engine() {
        Ok(engine) => beside(options.busy, || {
            (0..options.batches).map(|_| batch(engine, patching, &checks)).last().flatten()
        }),
        Err(why) => {
            checks.say(why);
            None
        }
    };
    let times = Times { wrong: checks.lines(), ..times.unwrap_or_default() };
    match serde_json::to_string(&times) {
        Ok(json) => {
            println!("{json}");
            ExitCode::SUCCESS
        }
        Err(_) => ExitCode::FAILURE,
    }
}

/// What a process of ours says.
fn in_process(options: ArmOnce) -> Result<Times, String> {
    const LIMIT: Duration = Duration::from_secs(120);
    let mut command = Command::new(std::env::current_exe().map_err(|e| e.to_string())?);
    command.args([
        "arm-once",
        "--busy",
        &options.busy.to_string(),
        "--batches",
        &options.batches.to_string(),
    ]);
    if options.live {
        command.arg("--live");
    }
    command.stdin(Stdio::null()).stdout(Stdio::piped());
    let mut group = Group::spawn(&mut command).map_err(|e| e.to_string())?;
    match group.wait(LIMIT) {
        Some(status) if status.success() => {}
        Some(status) => return Err(status.to_string()),
        None => return Err("did not end".to_owned()),
    }
    let mut text = String::new();
    let mut out = group.child().stdout.take().ok_or("no output")?;
    out.read_to_string(&mut text).map_err(|e| e.to_string())?;
    serde_json::from_str(&text).map_err(|e| e.to_string())
}

/// The table and its targets.
pub(super) fn measure(quick: bool, checks: &Checks) -> (Sheet, Vec<Target>) {
    let columns = ["arm min", "median", "max", "us per site", "disarm", "detours"];
    let mut sheet = Sheet::new(&format!("arming {SITES} functions in one batch, ms"), &columns);
    let mut targets = Vec::new();
    let repeats = if quick { 1 } else { 9 };
    for (name, options) in [
        ("quiet: one thread", ArmOnce { live: false, busy: 0, batches: 1 }),
        ("live: nobody else runs", ArmOnce { live: true, busy: 0, batches: 1 }),
        ("live: two threads run elsewhere", ArmOnce { live: true, busy: 2, batches: 1 }),
        ("live: third batch of the process", ArmOnce { live: true, busy: 0, batches: 3 }),
    ] {
        let mut times = Vec::new();
        for _ in 0..repeats {
            match in_process(options) {
                Ok(done) => {
                    done.wrong.iter().for_each(|line| checks.say(line.clone()));
                    times.push(done);
                }
                Err(why) => checks.say(format!("arming, {name}: {why}")),
            }
        }
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
        targets.push(Target::new(
            format!("arming {SITES} sites, {name}, ms"),
            Bound::AtMost(1_000.0),
            arm,
        ));
    }
    sheet.notes.push(
        "each repeat in a process of its own; afterwards every function is called \
        once and its count compared"
            .to_owned(),
    );
    (sheet, targets)
}

/// Arms a new village, calls all of it, compares, disarms.
fn batch(engine: &'static Engine, patching: Patching, checks: &Checks) -> Option<Times> {
    let village = Village::build(SITES).ok()?;
    // A function behind another one of the batch may not take its padding: all know their own size
    // only.
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
    let counted =
        counts().iter().zip(&before).filter(|(after, before)| **after == **before + 1).count();
    let armed: Vec<_> = results.iter().flatten().collect();
    if let Some(refusal) = results.iter().find_map(|r| r.as_ref().err()) {
        checks.say(format!(
            "arming: {} of {SITES} refused, the first one: {refusal}",
            SITES - armed.len()
        ));
    }
    if right != SITES || counted != armed.len() {
        checks.say(format!(
            "WRONG: arming, {patching:?}: {right} of {SITES} functions answered right, {counted} \
                of {} counted one call",
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
        checks.say(format!(
            "WRONG: after disarming, {patching:?}, functions do not answer as before"
        ));
    }
    let detours = armed.iter().filter(|a| a.method == Method::Detour).count();
    Some(Times { arm, disarm, detours, wrong: Vec::new() })
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
