//! What happens next.

use crate::machine::Picoseconds;
use std::cmp::Reverse;
use std::collections::BinaryHeap;

/// Something that happens at a time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Event {
    /// The thread that is on this CPU goes on.
    Run(usize),
    /// The line of this number is free for the first who waits for it.
    Grant(u32),
    /// This thread's sleep of this number is over, if it still sleeps that sleep.
    Timeout(usize, u64),
}

/// Events in the order of their times; those of one time in the order in which they were added.
#[derive(Debug, Default)]
pub(crate) struct Events {
    heap: BinaryHeap<Reverse<(Picoseconds, u64, Event)>>,
    added: u64,
}

impl Events {
    pub(crate) fn add(&mut self, at: Picoseconds, event: Event) {
        self.heap.push(Reverse((at, self.added, event)));
        self.added += 1;
    }

    pub(crate) fn next(&mut self) -> Option<(Picoseconds, Event)> {
        self.heap.pop().map(|Reverse((at, _, event))| (at, event))
    }

    /// How long before `time` the next thing happens; 0 if it does not.
    #[inline]
    pub(crate) fn due(&self, time: Picoseconds) -> Picoseconds {
        self.heap.peek().map_or(0, |Reverse((at, _, _))| time.saturating_sub(*at))
    }
}
