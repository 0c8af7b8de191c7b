//! `refscale`: the ways to keep an object alive while others read it.
//!
//! After the kernel's `kernel/rcu/refscale.c`: each reader thread enters and leaves a section
//! around one read of a shared object, 10,000 times between two looks at the clock. Unlike there,
//! the threads start together and nothing is measured before the last one runs or after the first
//! one stops. Two more parts follow: what a writer pays per replaced object, and how much is left
//! unreclaimed while one reader stalls.

mod case;
mod flavours;
mod peers;
mod readers;
mod rows;
mod schemes;
mod stalled;
mod targets;
mod urcu;
mod writers;

use crate::harness::{Campaign, Plan};
use crate::options::Options;
use crate::report::Report;
use case::{Readers, Writers};
use std::time::Duration;

/// Measures and reports.
pub fn run(options: &Options) -> Report {
    let plan = options.plan(30, 10_000, Duration::from_millis(15));
    let readers: Vec<Readers> = options
        .thread_list(if options.quick { &[1, 2] } else { &[1, 2, 8, 32] })
        .into_iter()
        .map(Readers)
        .collect();
    let reading = Campaign::run("refscale readers", &readers::contenders(), &readers, &plan);

    let mut writer_plan = options.plan(11, 1_000, Duration::from_millis(40));
    writer_plan.only = options.only.clone();
    let writers = [Writers(1), Writers(2)];
    let writing = Campaign::run("refscale writers", &writers::contenders(), &writers, &writer_plan);
    let stalled = stalled::run(options);

    let mut report = Report::new("refscale");
    report.settings = options.describe(&plan);
    report.add("", &reading);
    report.add("", &writing);
    report.targets = targets::judge(&reading, &readers, &writing, &stalled);
    report.sheets.push(stalled::sheet(&stalled));
    report.notes =
        vec![
        "ns of CPU time per section (or per replaced object), all threads together".to_owned(),
        "`none` reads without any protection: the cost of the loop and the read, part of every \
            other row".to_owned(),
        "liburcu qsbr announces a quiescent state after each section; the other flavours only \
            enter and leave".to_owned(),
        "papaya runs with blocking resize, and its row includes a hash lookup".to_owned(),
        "writers: each has a pointer of its own, so that only the schemes meet; rows of schemes \
            that batch include the batches' reclaiming"
            .to_owned(),
    ];
    report
}

/// These rows of the readers alone, with one and with two.
pub(crate) fn reading(rows: &[&str], plan: &Plan) -> Campaign {
    let mut entries = readers::contenders();
    entries.retain(|entry| rows.contains(&entry.name()));
    Campaign::run("refscale readers", &entries, &[Readers(1), Readers(2)], plan)
}
