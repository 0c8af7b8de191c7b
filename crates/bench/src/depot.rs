//! `depot`: look up a stack trace, insert it if it is new; 99.9 % of the lookups hit.
//!
//! The stacks are generated from their number inside the loop, so that reading them misses no
//! cache; what that costs is a row of its own and is taken off every other row. The floor row does
//! what no store can avoid: hash the frames, fetch one line of a table, compare the frames with the
//! record.

mod case;
mod floor;
mod generate;
mod maps;
mod ours;
mod store;
mod targets;

use crate::harness::{Budget, Campaign, Entry, Plan, Role};
use crate::options::Options;
use crate::report::{Report, Sheet};
use case::{DepotCase, Part, short};
use std::sync::Arc;
use store::{Stores, job};

/// Measures and reports.
pub fn run(options: &Options) -> Report {
    let threads = options.thread_list(if options.quick { &[1, 2] } else { &[1, 2, 32] });
    let distinct: &[u64] = if options.quick { &[1_000] } else { &[1_000, 100_000, 1_000_000] };
    let mut parts = Vec::new();
    for &distinct in distinct {
        parts.push(part::<16>(distinct, &threads, &plan(options, distinct)));
        parts.push(part::<40>(distinct, &threads, &plan(options, distinct)));
    }

    let mut report = Report::new("depot");
    report.settings = options.describe(&plan(options, 1_000));
    parts.iter().for_each(|p| report.add("", &p.campaign));
    report.sheets.push(bytes_sheet(&parts));
    report.targets = targets::judge(&parts, &threads);
    report.notes = vec![
        "ns of CPU time per look-up-or-insert, all threads together, without the cost of \
            generating the stack (`raw med` has it)"
            .to_owned(),
        "the maps hold the frames as boxed slices with a number as value, and are asked with a \
            borrowed slice first; unlike the depot they cannot turn the number back into frames"
            .to_owned(),
        "the depot asks for huge pages when its budget is 32 MiB or more; so does the floor row; \
            malloc's memory has what the system gives"
            .to_owned(),
        "floor: hash with foldhash, one line of a table, compare with the record; knows where the \
            record is, never inserts"
            .to_owned(),
    ];
    report
}

fn plan(options: &Options, distinct: u64) -> Plan {
    let ops = match (options.quick, distinct) {
        (true, _) => 50_000,
        (false, 1_000_000..) => 500_000,
        _ => 1_000_000,
    };
    Plan {
        repeats: options.repeats(7),
        block: 1_000,
        budget: Budget::Ops(ops),
        only: options.only.clone(),
    }
}

fn part<const DEPTH: usize>(distinct: u64, threads: &[usize], plan: &Plan) -> Part {
    let cases: Vec<DepotCase> =
        threads.iter().map(|&threads| DepotCase { depth: DEPTH, distinct, threads }).collect();
    let mut stores =
        Stores { distinct, wanted: plan.only.clone(), entries: Vec::new(), bytes: Vec::new() };
    stores.entries.push(Entry::new(
        "generate the stack alone",
        Role::Floor,
        move |_: &DepotCase| Some(job::<DEPTH, _>(Arc::new(floor::Nothing), distinct)),
    ));
    stores.add::<DEPTH, floor::Floor<DEPTH>>(Role::Floor);
    stores.add::<DEPTH, ours::Default>(Role::Ours);
    stores.add::<DEPTH, ours::KeepAll>(Role::Ours);
    stores.add::<DEPTH, maps::Locked>(Role::Peer);
    stores.add::<DEPTH, maps::Dash>(Role::Peer);
    stores.add::<DEPTH, maps::Index>(Role::Peer);
    let mut campaign = Campaign::run("depot", &stores.entries, &cases, plan);
    campaign.subtract = Some(0);
    Part { depth: DEPTH, distinct, campaign, bytes: stores.bytes }
}

fn bytes_sheet(parts: &[Part]) -> Sheet {
    let mut sheet =
        Sheet::new("bytes per distinct stack, everything included", &["bytes", "x raw frames"]);
    for part in parts {
        let raw = (part.depth * 8) as f64;
        for (name, bytes) in &part.bytes {
            let title = format!("{name}, {} frames, {} stacks", part.depth, short(part.distinct));
            sheet.row(&title, vec![*bytes, bytes.map(|b| b / raw)], "");
        }
    }
    sheet.notes.push(
        "maps: what the C library says is allocated, its own headers included; depot: table, \
            headers and the used part of the pools"
            .to_owned(),
    );
    sheet
}
