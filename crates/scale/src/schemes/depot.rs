//! The stack depot: stacks that are there, and stacks that are new.

use crate::load::Load;
use coresim::Throughput;
use stackdepot::{Depot, Flags};

/// Frames of a stack.
const DEPTH: usize = 16;
/// Distinct stacks that are looked up.
const DISTINCT: u64 = 1_000;

/// The stack of this number, as the depot's bench makes it.
fn stack(number: u64) -> [u64; DEPTH] {
    const TEXT: u64 = 0x5555_5555_0000;
    let seed = number.wrapping_mul(0x9e37_79b9_7f4a_7c15);
    let mut frames = [0; DEPTH];
    for (k, frame) in frames.iter_mut().enumerate() {
        *frame = TEXT + (seed.rotate_left(k as u32 * 5) & 0xfff_ffff);
    }
    frames[0] = TEXT + (number << 4);
    frames
}

/// Numbers without pattern, of a thread.
struct Picks(u64);

impl Picks {
    fn of(thread: usize) -> Self {
        Self((thread as u64 + 1).wrapping_mul(0xd134_2543_de82_ef95))
    }

    /// Below `limit`.
    fn next(&mut self, limit: u64) -> u64 {
        self.0 =
            self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        ((self.0 >> 32) * limit) >> 32
    }
}

fn depot(stacks: usize) -> Depot {
    let budget = (stacks + 50_000) * (DEPTH * 8 + 64) * 3 / 2 + (8 << 20);
    let builder = Depot::builder().expected_stacks(stacks).max_depth(DEPTH);
    builder.budget_bytes(budget).huge_pages(false).build_mmap().expect("memory for the depot")
}

fn save(depot: &Depot, number: u64) {
    let handle = depot.save(&stack(number), Flags::CAN_GROW);
    assert!(!handle.is_none(), "the budget is large enough");
}

pub(super) fn hits(load: &Load<'_>) -> Throughput {
    let setup = || {
        let depot = depot(DISTINCT as usize);
        (0..DISTINCT).for_each(|number| save(&depot, number));
        depot
    };
    // Every line comes once to each CPU before anything counts.
    let start = |depot: &Depot, thread| {
        (0..DISTINCT).for_each(|number| save(depot, number));
        Picks::of(thread)
    };
    load.each(setup, start, |depot, picks| {
        save(depot, picks.next(DISTINCT));
    })
}

pub(super) fn misses(load: &Load<'_>) -> Throughput {
    let setup = || depot(1_000_000);
    let start = |_: &Depot, thread| (thread as u64) << 20;
    load.each(setup, start, |depot, number| {
        *number += 1;
        save(depot, *number);
    })
}
