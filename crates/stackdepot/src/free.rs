//! Places of evicted records: a first-in-first-out queue for each size class.
//!
//! ```text
//! class:  | first: tag:37, position:27 | last: the same | - | - |
//! the head of a free record: 0 references, and behind whom it is: END, or position:27 << 5 | LINK
//! ```
//!
//! M. Michael and M. Scott's queue ("Simple, fast, and practical non-blocking and blocking
//! concurrent queue algorithms", PODC 1996), whose nodes are the records themselves. `first` names
//! a record that is only there so that the queue is never without one; taking moves `first` to the
//! next and gives the old one away. So one record for each size class that was ever used stays
//! behind.
//!
//! No lock: a thread that is stopped or killed in here keeps no place from the others but the one
//! in its hands. And no waiting for readers: a lookup that still stands on a record while that is
//! taken and filled again notices (see `record`). What is free is therefore used again before any
//! fresh memory is, oldest first, so that a stale handle keeps naming a dead record for as long as
//! possible.
//!
//! # Who may write what
//! `first`, `last`: anyone, by compare-and-swap; each success has a tag of its own, so an old view
//! never succeeds. `last` may lag; whoever finds a record behind it moves it. `first` never passes
//! `last`. The head of the last record: anyone, from END to a link, by compare-and-swap. That one
//! has no tag and needs none: a head is END only while its record is the last of this very queue,
//! or about to be put there, and either way it is right to queue up behind it. Other heads of free
//! records: nobody.

use crate::layout::{Layout, class_of, class_room};
use crate::memory::Memory;
use crate::stats::{Counter, count};
use percpu::sync::atomic::{AtomicU64, Ordering};

use crate::handle::{LOC_BITS, LOC_MASK};

/// The head of the last record. No live or dead record has it: their heads name a depth.
const END: u64 = 0;
const LINK: u64 = 1;
const LINK_SHIFT: u32 = 5;
/// One step of a tag.
const TAG: u64 = 1 << LOC_BITS;
/// An operation starts again only if others succeeded meanwhile; more often than this only in a
/// region that somebody scribbled in.
const TRIES: usize = 1 << 12;

const _: () = assert!(LOC_BITS + LINK_SHIFT <= 32, "a link leaves the references at 0");

/// One size class's queue in a region.
pub(crate) struct FreeList<'m> {
    /// Not its words: another thread may map a pool and put a place of it here at any time, so they
    /// are loaded after each position was read.
    memory: &'m Memory,
    layout: &'m Layout,
    room: usize,
    first: &'m AtomicU64,
    last: &'m AtomicU64,
}

fn position(word: u64) -> u64 {
    word & u64::from(LOC_MASK)
}

/// `word` with the next tag, naming `to`.
fn moved(word: u64, to: u64) -> u64 {
    #[cfg(loom)]
    if crate::broken::is(crate::broken::Twin::NoTags) {
        return to;
    }
    (word & !u64::from(LOC_MASK)).wrapping_add(TAG) | to
}

fn link(to: u64) -> u64 {
    to << LINK_SHIFT | LINK
}

/// Whom a head that is not END links to.
fn linked(head: u64) -> u64 {
    position(head >> LINK_SHIFT)
}

/// Moves `first` or `last`. AcqRel: who reads the new position sees the record there as it was
/// queued (Release; pairs with the Acquire loads in `push` and `pop`), and this thread has seen it
/// (Acquire).
fn swap(word: &AtomicU64, from: u64, to: u64) -> bool {
    word.compare_exchange(from, moved(from, to), Ordering::AcqRel, Ordering::Relaxed).is_ok()
}

impl<'m> FreeList<'m> {
    /// The queue for records of `depth` frames.
    pub(crate) fn of(memory: &'m Memory, layout: &'m Layout, depth: usize) -> Option<Self> {
        let class = class_of(depth);
        let at = layout.class(class);
        let [first, last] = memory.words().get(at..at + 2)? else { return None };
        Some(Self { memory, layout, room: class_room(class), first, last })
    }

    /// Whether nothing was ever queued here: then the next push gives its place to the queue
    /// itself.
    pub(crate) fn is_new(&self) -> bool {
        // Relaxed: who is told so too late, or by two threads, spends a record more.
        position(self.first.load(Ordering::Relaxed)) == 0
    }

    /// Adds the place of a record that the caller owns: unlinked, without references.
    pub(crate) fn push(&self, loc: usize) {
        let loc = loc as u64;
        let Some(head) = self.head(loc) else { return };
        // Relaxed: published by the compare-and-swap that queues it.
        head.store(END, Ordering::Relaxed);
        for _ in 0..TRIES {
            // Acquire pairs with the Release in `swap`; so below.
            let last = self.last.load(Ordering::Acquire);
            let end = position(last);
            if end == 0 {
                if self.begin(loc, last) {
                    return;
                }
                continue;
            }
            let Some(tail) = self.head(end) else { return self.cut() };
            // Acquire pairs with the Release below, of whoever queued up behind this one.
            match tail.load(Ordering::Acquire) {
                END => {
                    // Release: END above, and all that this thread did to the record.
                    let queued =
                        tail.compare_exchange(END, link(loc), Ordering::AcqRel, Ordering::Relaxed);
                    if queued.is_ok() {
                        // A failure means that somebody else did it.
                        swap(self.last, last, loc);
                        count(self.memory.words(), Counter::FreeRecords, 1);
                        return;
                    }
                }
                // Not a link if the record has left the queue; then `last` has moved and this
                // fails.
                head => _ = swap(self.last, last, linked(head)),
            }
        }
        self.cut();
    }

    /// Takes the oldest place. None: at some moment there was none.
    pub(crate) fn pop(&self) -> Option<usize> {
        for _ in 0..TRIES {
            let first = self.first.load(Ordering::Acquire);
            let loc = position(first);
            if loc == 0 {
                return None;
            }
            let last = self.last.load(Ordering::Acquire);
            let Some(head) = self.head(loc) else {
                self.cut();
                return None;
            };
            // Acquire: as in `push`.
            let head = head.load(Ordering::Acquire);
            // Otherwise the record has left the queue, and its head says something else.
            if self.first.load(Ordering::Acquire) != first {
                continue;
            }
            if head == END {
                return None;
            }
            if loc == position(last) {
                swap(self.last, last, linked(head));
            } else if swap(self.first, first, linked(head)) {
                count(self.memory.words(), Counter::FreeRecords, -1);
                return Some(loc as usize);
            }
        }
        self.cut();
        None
    }

    /// Makes the record at `loc` the one that stays behind, if there is none; else sees to it that
    /// `last` names it, so that the caller can go on. True: the place is taken.
    fn begin(&self, loc: u64, last: u64) -> bool {
        let first = self.first.load(Ordering::Acquire);
        match position(first) {
            0 => {
                let begun = swap(self.first, first, loc);
                if begun {
                    swap(self.last, last, loc);
                }
                begun
            }
            // Nobody can queue up, and so nobody can take, before `last` is there.
            there => {
                swap(self.last, last, there);
                false
            }
        }
    }

    /// Somebody scribbled here: start again with an empty queue. What it held is lost.
    #[cold]
    fn cut(&self) {
        for word in [self.first, self.last] {
            swap(word, word.load(Ordering::Relaxed), 0);
        }
        count(self.memory.words(), Counter::Corrupt, 1);
    }

    /// The head of a free record, if a record of this class fits there. What `loc` was read from
    /// orders the load of the mapped words in here: see `Memory::mapped`.
    fn head(&self, loc: u64) -> Option<&'m AtomicU64> {
        let pools = self.layout.pools..self.layout.total;
        let loc = usize::try_from(loc).ok().filter(|l| pools.contains(l))?;
        let end = loc + 1 + self.room;
        // Another process may have mapped the pool and put the place here.
        self.memory.cover(end).ok()?;
        self.memory.words().get(loc..end)?.first()
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;
    use crate::layout::{Shape, record_words};
    use crate::stats::Stats;

    const DEPTH: usize = 12;
    const RECORD: usize = record_words(DEPTH);

    fn memory() -> (Memory, Layout) {
        let bytes = 1 << 20;
        let memory = Memory::reserve(bytes, false).unwrap();
        let shape =
            Shape { evicts: true, buckets_log2: 1, max_depth: 64, total: bytes / 8, pool: 4096 };
        let layout = Layout::new(shape).unwrap();
        memory.grow(0, layout.pools + 4096).unwrap();
        (memory, layout)
    }

    #[test]
    fn oldest_first_and_one_stays_behind() {
        let (memory, layout) = memory();
        let list = FreeList::of(&memory, &layout, DEPTH).unwrap();
        assert!(list.is_new());
        assert_eq!(list.pop(), None);
        let at = |n: usize| layout.pools + n * RECORD;
        list.push(at(0));
        assert!(!list.is_new());
        assert_eq!(list.pop(), None, "the first place is the queue's");
        for round in 0..3 {
            (1..5).for_each(|n| list.push(at(n + 5 * round)));
            let taken: Vec<_> = core::iter::from_fn(|| list.pop()).collect();
            let stayed = if round == 0 { 0 } else { 5 * round - 1 };
            let expected: Vec<_> =
                core::iter::once(at(stayed)).chain((1..4).map(|n| at(n + 5 * round))).collect();
            assert_eq!(taken, expected);
        }
        assert_eq!(Stats::read(memory.words(), &layout).corrupt, 0);
    }

    /// A list that was looked up before another thread mapped a pool must understand the places of
    /// that pool: taken for corruption, they took the whole list with them.
    #[test]
    fn places_of_a_pool_mapped_meanwhile_are_understood() {
        let (memory, layout) = memory();
        let early = FreeList::of(&memory, &layout, DEPTH).unwrap();
        let loc = layout.pools + 2 * 4096;
        memory.grow(layout.pools + 4096, loc + 4096).unwrap();
        let late = FreeList::of(&memory, &layout, DEPTH).unwrap();
        (0..3).for_each(|n| late.push(loc + n * RECORD));
        assert_eq!(early.pop(), Some(loc));
        assert_eq!(early.pop(), Some(loc + RECORD));
        assert_eq!(early.pop(), None);
        assert_eq!(Stats::read(memory.words(), &layout).corrupt, 0);
    }

    /// Whatever stands in a queue's words and its records' heads, an operation ends.
    #[test]
    fn scribbled_queues_end() {
        let (memory, layout) = memory();
        let list = FreeList::of(&memory, &layout, DEPTH).unwrap();
        let at = |n: usize| layout.pools + n * RECORD;
        for (first, last, head) in [
            (at(1), at(1), link(at(1) as u64)),
            (at(1), at(2), link(at(1) as u64)),
            (at(1), at(2), u64::MAX),
            (0, at(1), link(at(1) as u64)),
            (layout.total - 1, at(1), END),
            (at(1), layout.total - 1, END),
            (3, 3, 3),
        ] {
            list.first.store(first as u64, Ordering::Relaxed);
            list.last.store(last as u64, Ordering::Relaxed);
            for n in 1..3 {
                memory.words()[at(n)].store(head, Ordering::Relaxed);
            }
            list.push(at(5));
            list.pop();
            list.pop();
            list.push(at(6));
        }
    }
}
