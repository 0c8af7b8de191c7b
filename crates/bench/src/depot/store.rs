//! One trait over all stores, and the loop that is measured.

use super::case::{DepotCase, FRESH_UP_TO};
use super::generate::{Picks, stack};
use crate::harness::{Entry, Job, Meter, Role, Seat};
use std::hint::black_box;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// One lookup in so many is of a stack that was never seen.
const FRESH_EVERY: u64 = 1_000;

/// Numbers of stacks that nobody has looked up before, in this process: above all that the tables
/// begin with.
static FRESH: AtomicU64 = AtomicU64::new(1 << 24);

/// A store of stacks.
pub(super) trait Store: Send + Sync + Sized + 'static {
    /// Name of the row.
    const NAME: &'static str;

    /// An empty store that will hold `distinct` stacks of `depth` frames and a few more.
    fn new(depth: usize, distinct: u64) -> Self;

    /// The number under which the stack is stored. `number` is the generator's, which a real store
    /// cannot know.
    fn save(&self, frames: &[u64], number: u64) -> u32;

    /// Stores one of the first `distinct` stacks, before anybody looks up.
    fn fill(&mut self, frames: &[u64], number: u64) {
        self.save(frames, number);
    }

    /// Bytes in use, if the store knows; otherwise the heap is asked.
    fn bytes(&self) -> Option<u64> {
        None
    }

    /// Whether the bytes are worth a row.
    const COUNTED: bool = true;
}

/// A store that holds the first `distinct` stacks, and its bytes per stack.
pub(super) fn filled<const DEPTH: usize, S: Store>(distinct: u64) -> (S, Option<f64>) {
    let before = crate::memory::heap_bytes();
    let mut store = S::new(DEPTH, distinct);
    for number in 0..distinct {
        store.fill(&stack::<DEPTH>(number), number);
    }
    let heap =
        crate::memory::heap_bytes().zip(before).map(|(after, before)| after.saturating_sub(before));
    let bytes = store.bytes().or(heap).map(|b| b as f64 / distinct as f64);
    (store, bytes)
}

/// One thread's lookups.
#[inline(always)]
pub(super) fn drive<const DEPTH: usize, S: Store>(
    store: &S,
    distinct: u64,
    seat: Seat,
    meter: &mut Meter<'_>,
) {
    let mut picks = Picks::new(seat.index as u64, distinct);
    meter.run(|ops| {
        let mut sum = 0;
        for i in 0..ops {
            let number = if i % FRESH_EVERY == FRESH_EVERY - 1 {
                FRESH.fetch_add(1, Ordering::Relaxed)
            } else {
                picks.next()
            };
            let frames = stack::<DEPTH>(number);
            sum ^= store.save(black_box(&frames), number);
        }
        black_box(sum);
    });
}

/// Rows under construction.
pub(super) struct Stores {
    pub(super) distinct: u64,
    pub(super) wanted: Vec<String>,
    pub(super) entries: Vec<Entry<DepotCase>>,
    pub(super) bytes: Vec<(&'static str, Option<f64>)>,
}

impl Stores {
    /// Builds a store and makes a row of it.
    pub(super) fn add<const DEPTH: usize, S: Store>(&mut self, role: Role) {
        let distinct = self.distinct;
        if role != Role::Floor
            && !self.wanted.is_empty()
            && !self.wanted.iter().any(|w| S::NAME.contains(w.as_str()))
        {
            return;
        }
        let (store, bytes) = filled::<DEPTH, S>(distinct);
        if S::COUNTED {
            self.bytes.push((S::NAME, bytes));
        }
        let shared = (distinct > FRESH_UP_TO).then(|| Arc::new(store));
        self.entries.push(Entry::new(S::NAME, role, move |_: &DepotCase| {
            let store = shared
                .as_ref()
                .map_or_else(|| Arc::new(filled::<DEPTH, S>(distinct).0), Arc::clone);
            Some(job::<DEPTH, S>(store, distinct))
        }));
    }
}

/// What each thread does with a store.
pub(super) fn job<const DEPTH: usize, S: Store>(store: Arc<S>, distinct: u64) -> Job {
    Box::new(move |seat, meter| drive::<DEPTH, S>(&store, distinct, seat, meter))
}
