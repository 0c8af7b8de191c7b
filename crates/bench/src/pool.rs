//! `pool`: what a pop and a push cost, and who pays when threads meet.
//!
//! One operation is: get an object of 64 bytes, write the thread's number into it, give it back.
//! `same thread` does both on one thread, one at a time or 16 at a time; `handed over` gets on one
//! thread, passes the pointer through a ring and gives back on another.

mod allocators;
mod case;
mod handover;
mod latency;
mod local_list;
mod ours;
mod pools;
mod queues;
mod source;
mod targets;
mod waiting;
mod workload;

use crate::harness::{Campaign, Entry, Plan, Role};
use crate::options::Options;
use crate::report::Report;
use case::{BULK, Flow, OBJECT_SIZE, PoolCase};
use std::time::Duration;

/// Measures and reports.
pub fn run(options: &Options) -> Report {
    let plan = options.plan(7, 256, Duration::from_millis(60));
    let threads = options.thread_list(if options.quick { &[1, 2] } else { &[1, 2, 32] });
    let entries = contenders();
    let mut cases = Vec::new();
    for flow in [Flow::SameThread, Flow::HandedOver] {
        for bulk in [1, BULK] {
            let fits = |&&t: &&usize| flow == Flow::SameThread || t % 2 == 0;
            cases.extend(threads.iter().filter(fits).map(|&threads| PoolCase {
                flow,
                threads,
                bulk,
            }));
        }
    }
    let campaign = Campaign::run("pool", &entries, &cases, &plan);
    let (latencies, sheet) = latency::run(options);

    let mut report = Report::new("pool");
    report.settings = options.describe(&plan);
    report.settings.push(format!("objects of {OBJECT_SIZE} bytes"));
    report.add("", &campaign);
    report.sheets.push(sheet);
    report.sheets.push(waiting::run(options));
    report.targets = targets::judge(&campaign, &cases, latencies);
    report.notes =
        vec![
        "ns of CPU time per operation (pop + write + push), all threads together; wall: length of \
            the window over the operations of all threads".to_owned(),
        "`best peer` and `floor`: median of the per-repeat ratios to the best peer and to the \
            best floor row of the same table".to_owned(),
        "handed over: CPU time of both threads, waiting at the ring included; the floor row is \
            the ring alone".to_owned(),
        "lockfree-object-pool, opool and sharded-slab hand out guards that borrow the pool: \
            measured on the same thread only".to_owned(),
        "refused: an allocation or pop that found nothing although objects were free; retried, \
            not counted as an operation".to_owned(),
    ];
    report
}

/// These rows alone, on one thread and on two.
pub(crate) fn singly(rows: &[&str], plan: &Plan) -> Campaign {
    let case = |threads| PoolCase { flow: Flow::SameThread, threads, bulk: 1 };
    let mut entries = contenders();
    entries.retain(|entry| rows.contains(&entry.name()));
    Campaign::run("pool", &entries, &[case(1), case(2)], plan)
}

/// All rows, in the order of the tables.
fn contenders() -> Vec<Entry<PoolCase>> {
    let mut entries = vec![
        Entry::new("handover ring alone", Role::Floor, |case: &PoolCase| {
            (case.flow == Flow::HandedOver)
                .then(|| workload::handed_over(handover::Nothing::new(), case))
        }),
        workload::raw("thread-local list", Role::Floor, |case| {
            (case.flow == Flow::SameThread).then(|| local_list::LocalList::new(case.bulk))
        }),
    ];
    entries.extend(ours::contenders());
    entries.extend([
        workload::raw("jemalloc", Role::Peer, |_| Some(allocators::Jemalloc)),
        workload::raw("mimalloc", Role::Peer, |_| Some(allocators::Mimalloc)),
        workload::raw("malloc (C library)", Role::Peer, |_| Some(allocators::Malloc)),
        workload::raw("ArrayQueue", Role::Peer, |case| Some(queues::Array::new(case.capacity()))),
        workload::raw("SegQueue", Role::Peer, |case| Some(queues::Seg::new(case.capacity()))),
        workload::raw("Mutex<Vec> std", Role::Peer, |case| {
            Some(queues::StdStack::new(case.capacity()))
        }),
        workload::raw("Mutex<Vec> parking_lot", Role::Peer, |case| {
            Some(queues::ParkingLotStack::new(case.capacity()))
        }),
        workload::raw("object-pool", Role::Peer, |case| {
            Some(pools::ObjectPool::new(case.capacity()))
        }),
        guarded("lockfree-object-pool", |case| pools::Linear::new(case.capacity())),
        guarded("opool", |case| pools::Opool::new(case.capacity())),
        guarded("sharded-slab", |_| pools::Sharded::default()),
    ]);
    entries
}

/// A contender whose objects borrow it: measured on one thread each.
fn guarded<S: source::Source>(
    name: &str,
    make: impl Fn(&PoolCase) -> S + 'static,
) -> Entry<PoolCase> {
    Entry::new(name, Role::Peer, move |case: &PoolCase| {
        (case.flow == Flow::SameThread).then(|| workload::same_thread(make(case), case))
    })
}
