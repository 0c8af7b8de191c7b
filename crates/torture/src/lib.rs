//! Readers against a writer that reclaims, for every way to reclaim.
//!
//! ```text
//! cargo run --release -p trapline-torture -- --all --secs 5
//! ```
//!
//! After the kernel's `kernel/rcu/rcutorture.c`. A writer replaces the current object again and
//! again. What it replaced goes through a pipe: stage 1 when it is unlinked, stage 2 after the
//! grace period (or the scan, or the last reference) that would have freed it, and one stage
//! further with each one after that, up to 10, when it is used again. A reader that sees an object
//! beyond stage 1 was looking at freed memory: the run fails. Nothing is really freed, so that a
//! broken flavour is caught and not merely undefined.
//!
//! Around that: more threads than CPUs, random delays inside the sections, sleeping readers,
//! sections that end on another thread, sections inside signal handlers, and a stall detector that
//! ends the run when nothing moves any more.

#![deny(unsafe_code)]

mod cached;
mod chance;
mod counts;
mod flavour;
mod grace;
mod hazptr;
mod outcome;
mod percpu_ref;
mod run;
mod setting;
mod signals;
mod stage;

use clap::{Args, ValueEnum};
use flavour::Flavour;
use grace::{Broken, Grace, Rcu, RcuPoll, Srcu};
use outcome::Outcome;
use setting::Setting;
use std::process::ExitCode;
use std::time::Duration;

/// What to torture, and how.
#[derive(Args, Debug)]
pub struct Options {
    /// What to torture; several are tortured one after the other
    #[arg(
        long,
        value_name = "F",
        value_delimiter = ',',
        required_unless_present_any = ["all", "broken"],
    )]
    flavour: Vec<Kind>,
    /// Every flavour
    #[arg(long)]
    all: bool,
    /// A flavour without grace periods, to see that a failure is found: the run has to fail
    #[arg(long)]
    broken: bool,
    /// Seconds per flavour
    #[arg(
        long,
        value_name = "N",
        default_value_t = 5,
        value_parser = clap::value_parser!(u64).range(1..=86_400),
    )]
    secs: u64,
    /// Reader threads [default: three per CPU, at least 6]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=512))]
    threads: Option<u16>,
    /// Seconds without progress that count as a stall
    #[arg(
        long,
        value_name = "N",
        default_value_t = 10,
        value_parser = clap::value_parser!(u64).range(1..=3_600),
    )]
    stall_secs: u64,
    /// Begin of every thread's random choices, as an earlier run printed it [default: a new one]
    #[arg(long, value_name = "N")]
    seed: Option<u64>,
    /// Print JSON instead of a table
    #[arg(long)]
    json: bool,
}

/// The flavours.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Kind {
    /// RCU: synchronize and callbacks
    Rcu,
    /// RCU: polled grace periods
    RcuPoll,
    /// SRCU with reader fences
    Srcu,
    /// SRCU without
    SrcuFast,
    /// Hazard pointers: kept, scoped and handed-off protections
    Hazptr,
    /// Hazard pointers: wait-free acquisition through a wildcard
    HazptrWildcard,
    /// Per-CPU reference counts: kill, confirm, release, re-initialise
    #[value(name = "percpu_ref", alias = "percpu-ref")]
    PercpuRef,
    /// Cached references, with flushes
    Cached,
}

/// Runs what the options name. Fails if a reader saw a freed object, objects were lost, or nothing
/// moved for too long.
pub fn main(options: &Options) -> ExitCode {
    percpu::init();
    let cpus = std::thread::available_parallelism().map_or(1, usize::from);
    let seed = options.seed.unwrap_or_else(chance::seed);
    let setting = Setting {
        readers: options.threads.map_or((3 * cpus).max(6), usize::from),
        time: Duration::from_secs(options.secs),
        stall: Duration::from_secs(options.stall_secs),
        seed,
    };
    let mut kinds: Vec<Kind> =
        if options.all { Kind::value_variants().to_vec() } else { options.flavour.clone() };
    kinds.dedup();
    let mut outcomes: Vec<Outcome> = Vec::new();
    if !options.json {
        println!(
            "torture: {} readers and 1 writer on {cpus} CPUs, {} s per flavour, seed {seed}",
            setting.readers, options.secs
        );
        println!("{}", Outcome::header());
    }
    let jobs = kinds.into_iter().map(Some).chain(options.broken.then_some(None));
    for kind in jobs {
        let outcome = one(kind, &setting);
        if !options.json {
            println!("{}", outcome.line());
        }
        let stuck = outcome.is_stalled();
        outcomes.push(outcome);
        if stuck {
            // Its threads may never come back: what follows would not be measured alone.
            break;
        }
    }
    if options.json {
        match serde_json::to_string_pretty(&outcomes) {
            Ok(json) => println!("{json}"),
            Err(e) => eprintln!("trapline-torture: cannot make JSON: {e}"),
        }
    }
    // The last line, however much was printed before: whoever keeps no more of it has everything.
    for outcome in outcomes.iter().filter(|o| o.failure.is_some()) {
        eprintln!("trapline-torture: {}", outcome.last_words());
    }
    let failed = outcomes.iter().any(|o| o.failure.is_some());
    if outcomes.iter().any(Outcome::is_stalled) {
        // Threads that hang cannot be joined.
        std::process::exit(1);
    }
    if failed { ExitCode::FAILURE } else { ExitCode::SUCCESS }
}

fn one(kind: Option<Kind>, setting: &Setting) -> Outcome {
    match kind {
        Some(Kind::Rcu) => torture(Grace::new(Rcu::default()), setting),
        Some(Kind::RcuPoll) => torture(Grace::new(RcuPoll), setting),
        Some(Kind::Srcu) => torture(Grace::new(Srcu::<reclaim::srcu::Normal>::new()), setting),
        Some(Kind::SrcuFast) => torture(Grace::new(Srcu::<reclaim::srcu::Fast>::new()), setting),
        Some(Kind::Hazptr) => torture(hazptr::Hazptr::new(false), setting),
        Some(Kind::HazptrWildcard) => torture(hazptr::Hazptr::new(true), setting),
        Some(Kind::PercpuRef) => torture(percpu_ref::Counted::new(), setting),
        Some(Kind::Cached) => torture(cached::Cached::new(), setting),
        None => torture(Grace::new(Broken), setting),
    }
}

/// The flavour lives as long as the process: threads that hang may still use it.
fn torture<F: Flavour>(flavour: F, setting: &Setting) -> Outcome {
    run::run(Box::leak(Box::new(flavour)), setting)
}
