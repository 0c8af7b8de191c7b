//! The slot policies without the trap, whose 2.4 us hide what they differ by: what the SIGTRAP
//! handler does at a hit.
#![allow(unsafe_code)]

use super::check::Checks;
use super::copies::Copy;
use super::{blocks, ours};
use crate::harness::{Campaign, Case, Entry, Job, Role};
use crate::report::{Bound, Target};
use crate::sink::sink;
use std::sync::atomic::{AtomicU64, Ordering};
use uprobe::{Action, Config, Patching, SiteId, SlotPolicy, testing};
use wire::cell;

const PER_HIT: &str = "slot per hit";
const STICKY: &str = "sticky slot per thread";
const CACHED: &str = "map of slots per thread";
const PERMANENT: &str = "permanent slot";
const EMULATED: &str = "emulated";
/// Where the cells begin in a block: behind those of the rows, before those of the arming.
const CELLS: usize = blocks::BLOCK / 4;
/// Probed functions by index: nop, push, nop5 and ordinary, whose first instructions use no memory
/// but the stack.
const FUNCTIONS: [usize; 4] = [0, 1, 3, 4];
/// As many as a map of slots has room for.
const SITES: usize = 64;

/// Threads that come by one site, or by several in turn.
#[derive(Clone, Copy, Debug)]
pub(super) struct SlotCase {
    sites: usize,
    threads: usize,
}

impl Case for SlotCase {
    fn threads(&self) -> usize {
        self.threads
    }

    fn title(&self) -> String {
        let sites = if self.sites == 1 {
            "one site".to_owned()
        } else {
            format!("{} sites in turn", self.sites)
        };
        format!(
            "slot policies, the handler without the trap: {sites}, {} thread{}",
            self.threads,
            if self.threads == 1 { "" } else { "s" }
        )
    }
}

/// All of them.
pub(super) fn cases(threads: &[usize]) -> Vec<SlotCase> {
    [1, FUNCTIONS.len(), SITES]
        .into_iter()
        .flat_map(|sites| threads.iter().map(move |&threads| SlotCase { sites, threads }))
        .collect()
}

/// A site of a policy.
#[derive(Clone, Copy)]
struct Site {
    id: SiteId,
    address: u64,
}

/// The rows.
pub(super) fn contenders(checks: &Checks) -> Vec<Entry<SlotCase>> {
    let policies = [
        (PER_HIT, Config { policy: SlotPolicy::PerHit, emulate: false }),
        (STICKY, Config { policy: SlotPolicy::StickyPerThread, emulate: false }),
        (CACHED, Config { policy: SlotPolicy::CachePerThread, emulate: false }),
        (PERMANENT, Config { policy: SlotPolicy::Permanent, emulate: false }),
        (EMULATED, Config { policy: SlotPolicy::Permanent, emulate: true }),
    ];
    let rows = policies.into_iter().enumerate().map(|(number, (name, config))| {
        let cell = CELLS + number * cell::COUNT_BYTES;
        match arm(config, cell) {
            Ok(sites) => row(name, sites, cell, checks),
            Err(why) => Entry::absent(name, Role::Ours, &why),
        }
    });
    rows.collect()
}

fn arm(config: Config, cell: usize) -> Result<[Site; SITES], String> {
    let engine = ours::engine()?;
    let mut batch = engine.batch();
    batch.breakpoints(config);
    for _ in 0..SITES / FUNCTIONS.len() {
        let copies = Copy::of_all().map_err(|e| e.to_string())?;
        for copy in FUNCTIONS.map(|index| copies[index]) {
            let action = Action::Count { cell: cell as u32 };
            let target = uprobe::Target::entry(copy.address(), copy.size(), action);
            batch.add(uprobe::Target { after: copy.after(), breakpoint: true, ..target });
        }
    }
    let armed = batch
        .commit(Patching::Quiet)
        .into_iter()
        .collect::<Result<Vec<_>, _>>()
        .map_err(|refusal| refusal.to_string())?;
    let sites: Vec<_> =
        armed.iter().map(|armed| Site { id: armed.id, address: armed.address }).collect();
    sites.try_into().map_err(|_| "not every site was armed".to_owned())
}

fn row(name: &'static str, sites: [Site; SITES], cell: usize, checks: &Checks) -> Entry<SlotCase> {
    let checks = checks.clone();
    Entry::new(name, Role::Ours, move |case: &SlotCase| {
        let mask = case.sites - 1;
        let counted = Counted {
            name,
            cell,
            before: blocks::sum(cell + cell::CALLS),
            made: AtomicU64::new(0),
            checks: checks.clone(),
        };
        let job: Job = Box::new(move |_, meter| {
            let mut stack = [0; 16];
            let mut made = 0;
            meter.run(|n| {
                for hit in 0..n {
                    let site = sites[hit as usize & mask];
                    // SAFETY: no first instruction of these functions uses other memory than the
                    // stack.
                    sink(unsafe { testing::hit(site.id, site.address, &mut stack) });
                }
                made += n;
            });
            // Relaxed: the thread's end orders it before the comparison.
            counted.made.fetch_add(made, Ordering::Relaxed);
        });
        Some(job)
    })
}

const _: () = assert!(
    SITES.is_power_of_two() && FUNCTIONS.len().is_power_of_two(),
    "sites are taken in turn by a mask"
);

/// Compares when the measurement is over.
struct Counted {
    name: &'static str,
    cell: usize,
    before: u64,
    made: AtomicU64,
    checks: Checks,
}

impl Drop for Counted {
    fn drop(&mut self) {
        let (hits, made) =
            (blocks::sum(self.cell + cell::CALLS) - self.before, *self.made.get_mut());
        if hits != made {
            self.checks.say(format!(
                "WRONG COUNT: {}, without the trap: {hits} hits of {made}",
                self.name
            ));
        }
    }
}

/// The direction of the posted table: sticky is faster than per hit, permanent at least as fast as
/// sticky.
pub(super) fn targets(campaign: &Campaign, cases: &[SlotCase]) -> Vec<Target> {
    let mut targets = Vec::new();
    for (index, case) in cases.iter().enumerate() {
        let mut ratio = |above, below| {
            let what = format!(
                "{above} / {below}, without the trap, {} site(s), {} thread(s)",
                case.sites, case.threads
            );
            targets.push(Target::new(
                what,
                Bound::AtMost(1.0),
                campaign.ratio_of(index, above, below),
            ));
        };
        // Going from site to site a sticky slot is written at every hit, as the other is.
        if case.sites == 1 {
            ratio(STICKY, PER_HIT);
        }
        ratio(CACHED, PER_HIT);
        ratio(PERMANENT, CACHED);
        ratio(PERMANENT, STICKY);
    }
    targets
}
