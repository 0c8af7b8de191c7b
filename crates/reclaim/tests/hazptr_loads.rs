//! The bound on garbage, as the text of `Domain` states it, under load: readers that stall,
//! deleters that cost something, more threads than CPUs. Objects are counted; nothing depends on
//! how fast anything runs. With `--nocapture` it prints a table, with haphazard beside it, which
//! promises no bound. A process of its own, because slots, on which the limit depends, are the
//! process's.
#![cfg(not(loom))]
#![allow(
    clippy::multiple_unsafe_ops_per_block,
    reason = "one promise covers the calls of a test body"
)]

use reclaim::hazptr::{self, Domain, HazardPointer, Head, Policy};
use std::ptr;
use std::sync::atomic::{AtomicBool, AtomicPtr, AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

/// What a deleter costs.
#[derive(Clone, Copy, Debug)]
enum Cost {
    Nothing,
    /// Sleeps: other threads run meanwhile, and retire.
    Sleep(u64),
    /// Works: so that threads are preempted inside.
    Work(u64),
}

impl Cost {
    fn pay(self) {
        match self {
            Self::Nothing => {}
            Self::Sleep(us) => thread::sleep(Duration::from_micros(us)),
            Self::Work(us) => {
                let since = Instant::now();
                while since.elapsed() < Duration::from_micros(us) {
                    std::hint::spin_loop();
                }
            }
        }
    }
}

/// Counts the objects of one run that are retired and not reclaimed, and the most there were.
#[derive(Debug, Default)]
struct Tally {
    live: AtomicUsize,
    most: AtomicUsize,
}

struct Node {
    head: Head,
    tally: &'static Tally,
    cost: Cost,
}
reclaim::retirable!(Node, head);

impl Node {
    fn boxed(tally: &'static Tally, cost: Cost) -> Box<Self> {
        Box::new(Self { head: Head::new(), tally, cost })
    }

    /// To be called before it is retired: from then on it counts.
    fn counts(&self) {
        let now = self.tally.live.fetch_add(1, Ordering::Relaxed) + 1;
        self.tally.most.fetch_max(now, Ordering::Relaxed);
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        // It is being reclaimed until its deleter is done.
        self.cost.pay();
        self.tally.live.fetch_sub(1, Ordering::Relaxed);
    }
}

/// One row of the table.
#[derive(Clone, Copy, Debug)]
struct Load {
    threads: usize,
    cost: Cost,
    /// Holders that protect an object each all the while.
    stalled: usize,
    /// Threads that read what the others replace.
    readers: usize,
    policy: Policy,
    /// The least that are retired.
    objects: usize,
}

const PLAIN: Load = Load {
    threads: 1,
    cost: Cost::Nothing,
    stalled: 0,
    readers: 0,
    policy: Policy::Inline,
    objects: 40_000,
};

/// By the number of threads: their slots raise the limit, and stay.
const LOADS: [Load; 12] = [
    PLAIN,
    Load { threads: 8, ..PLAIN },
    Load { threads: 8, cost: Cost::Sleep(100), objects: 20_000, ..PLAIN },
    Load { threads: 32, stalled: 400, ..PLAIN },
    Load { threads: 64, cost: Cost::Sleep(20), ..PLAIN },
    Load { threads: 64, cost: Cost::Sleep(20), stalled: 400, readers: 4, ..PLAIN },
    Load { threads: 64, cost: Cost::Sleep(20), policy: Policy::Helper, ..PLAIN },
    Load { threads: 128, readers: 8, objects: 100_000, ..PLAIN },
    Load { threads: 128, objects: 60_000, cost: Cost::Sleep(20), ..PLAIN },
    Load {
        threads: 128,
        objects: 60_000,
        cost: Cost::Sleep(20),
        stalled: 400,
        readers: 8,
        ..PLAIN
    },
    Load { threads: 128, objects: 60_000, cost: Cost::Work(5), readers: 8, ..PLAIN },
    Load {
        threads: 128,
        objects: 60_000,
        cost: Cost::Work(5),
        policy: Policy::Helper,
        stalled: 400,
        ..PLAIN
    },
];

/// Each of the threads calls `retire` until together they have done so `enough` often; `read` runs
/// beside them. Returns the most objects that were unreclaimed at any time.
fn run(
    load: Load,
    tally: &Tally,
    enough: impl Fn() -> usize + Sync,
    retire: impl Fn() + Sync,
    read: impl Fn() + Sync,
) -> usize {
    let (taken, done) = (AtomicUsize::new(0), AtomicBool::new(false));
    thread::scope(|s| {
        for _ in 0..load.readers {
            s.spawn(|| {
                while !done.load(Ordering::Relaxed) {
                    read();
                }
            });
        }
        let retire_all = || {
            while taken.fetch_add(1, Ordering::Relaxed) < enough() {
                retire();
            }
        };
        let threads: Vec<_> = (0..load.threads).map(|_| s.spawn(retire_all)).collect();
        threads.into_iter().for_each(|t| t.join().unwrap());
        done.store(true, Ordering::Relaxed);
    });
    tally.most.load(Ordering::Relaxed)
}

/// Ours; returns the most there was, and the bound.
fn ours(load: Load) -> (usize, usize) {
    let tally: &'static Tally = Box::leak(Box::default());
    let domain: &'static Domain = Box::leak(Box::new(Domain::with_policy(load.policy)));
    let helper = (load.policy == Policy::Helper).then(|| domain.spawn_helper().unwrap());
    let holders: Vec<_> = (0..load.stalled)
        .map(|_| {
            let node = Node::boxed(tally, Cost::Nothing);
            node.counts();
            let src = AtomicPtr::new(Box::into_raw(node));
            let mut hp = HazardPointer::new();
            // SAFETY: `src` holds a live object.
            assert!(unsafe { hp.protect(&src) }.is_some());
            // SAFETY: unlinked, retired once.
            unsafe { domain.retire(src.into_inner()) };
            hp
        })
        .collect();
    let current = AtomicPtr::new(Box::into_raw(Node::boxed(tally, load.cost)));
    let retire = || {
        let old = current.swap(Box::into_raw(Node::boxed(tally, load.cost)), Ordering::AcqRel);
        // SAFETY: unlinked by this thread, which alone retires it.
        unsafe { &*old }.counts();
        // SAFETY: from a box, unlinked, retired once.
        unsafe { domain.retire(old) };
    };
    // SAFETY: `current` holds live objects, unlinked before they are retired.
    let read =
        || unsafe { hazptr::read(&current, |node| assert!(ptr::eq(node.unwrap().tally, tally))) };
    // By the limit of the last round. At the end that one has seen the slots of all threads at
    // least once; how many those are depends on which threads were there at the same time.
    let bound = || {
        let limit = domain.limit();
        let (base, in_rounds) = match load.policy {
            Policy::Helper => (2 * limit, load.threads + 1),
            _ => (limit, load.threads),
        };
        base + (in_rounds - 1) * limit / 8
    };
    // Fewer than the bound could not show more than it.
    let most = run(load, tally, || load.objects.max(bound() + 1), retire, read);
    let bound = bound();
    drop((holders, helper));
    // SAFETY: from a box; the threads are gone.
    drop(unsafe { Box::from_raw(current.into_inner()) });
    domain.barrier();
    assert_eq!(domain.stats().unreclaimed, 0, "{load:?}");
    (most, bound)
}

/// haphazard under the same load, by the same count.
fn haphazards(load: Load) -> usize {
    let tally: &'static Tally = Box::leak(Box::default());
    let domain = haphazard::Domain::new(&());
    let holders: Vec<_> = (0..load.stalled)
        .map(|_| {
            let node = Node::boxed(tally, Cost::Nothing);
            node.counts();
            let src = AtomicPtr::new(Box::into_raw(node));
            let mut hp = haphazard::HazardPointer::new_in_domain(&domain);
            assert!(hp.protect_ptr(&src).is_some());
            // SAFETY: unlinked, retired once.
            unsafe { domain.retire_ptr::<_, Box<Node>>(src.into_inner()) };
            hp
        })
        .collect();
    let retire = || {
        let node = Node::boxed(tally, load.cost);
        node.counts();
        // SAFETY: from a box, never published, retired once.
        unsafe { domain.retire_ptr::<_, Box<Node>>(Box::into_raw(node)) };
    };
    let most = run(Load { readers: 0, ..load }, tally, || load.objects, retire, || ());
    drop(holders);
    most
}

#[test]
fn the_bound_holds_under_every_load() {
    println!(
        "threads  deleter       stalled  readers  policy  most unreclaimed  bound   haphazard"
    );
    for load in LOADS {
        let (most, bound) = ours(load);
        let peer = haphazards(load);
        let Load { threads, cost, stalled, readers, policy, .. } = load;
        let cost = format!("{cost:?}");
        println!(
            "{threads:7}  {cost:12}  {stalled:7}  {readers:7}  {policy:?}  {most:16}  {bound:6}  \
                {peer:9}"
        );
        assert!(most <= bound, "{most} unreclaimed, bound {bound}: {load:?}");
    }
}
