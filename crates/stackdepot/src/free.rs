//! Places of evicted records, waiting for their grace period: a FIFO for each size class.
//!
//! ```text
//! class:  | incoming | lock | first | last |        free record:  | head, 0 references | next | stamp | ...
//!
//! A free record whose head is all 0 (no depth either) was never read by anybody, or not since its readers vanished: it needs no grace period.
//! ```
//!
//! # Who may write what
//! `first`, `last` and the links between them belong to the holder of `lock` (a writer slot's number, taken by one compare-and-swap and never waited for).
//! `incoming` is a stack: anyone pushes, only the lock's holder pops, so a pop cannot meet its record again (no ABA).
//!
//! Records are pushed to the FIFO's end when the lock is free, else to `incoming`, and reused from the FIFO's front: oldest first, so a stamp has had the most time to
//! elapse and a stale handle keeps naming a dead record for as long as possible. A front that has not elapsed does not hide the ones behind it: a few are looked at.
//!
//! # Left behind
//! A thread that vanishes in here leaves `lock` set. Its successor walks the list once to find the end again; at most the one record in the dead thread's hands is lost.

use crate::layout::{Layout, class_of, class_room};
use crate::memory::Memory;
use crate::stats::{Counter, count};
use crate::writer::Writer;
use percpu::sync::atomic::{AtomicU64, Ordering};

/// The head of a free record that can be reused at once.
const BLANK: u64 = 0;
/// How many of the oldest records one allocation looks at.
const LOOK: usize = 4;
/// How many incoming records one allocation moves: bounds its time.
const DRAIN: usize = 8;

/// All lists of a region.
pub(crate) fn lists<'m>(memory: &'m Memory, layout: &'m Layout) -> impl Iterator<Item = FreeList<'m>> {
    (0..layout.classes()).filter_map(|class| FreeList::of(memory, layout, class_room(class)))
}

/// One size class's list in a region.
pub(crate) struct FreeList<'m> {
    /// Not its words: another thread may map a pool and put a place of it here at any time, so they are loaded after each position was read.
    memory: &'m Memory,
    layout: &'m Layout,
    room: usize,
    incoming: &'m AtomicU64,
    lock: &'m AtomicU64,
    first: &'m AtomicU64,
    last: &'m AtomicU64,
}

impl<'m> FreeList<'m> {
    /// The list for records of `depth` frames.
    pub(crate) fn of(memory: &'m Memory, layout: &'m Layout, depth: usize) -> Option<Self> {
        let class = class_of(depth);
        let at = layout.class(class);
        let [incoming, lock, first, last] = memory.words().get(at..at + 4)? else { return None };
        Some(Self { memory, layout, room: class_room(class), incoming, lock, first, last })
    }

    /// Adds an unlinked record. Without a stamp it can be reused at once: nobody has read it.
    pub(crate) fn push(&self, loc: usize, stamp: Option<u64>, writer: &Writer, me: u64) {
        let Some(place) = self.place(loc as u64) else { return };
        // Relaxed here and for the links: the lock, or the push below, orders them.
        match stamp {
            Some(stamp) => place.stamp.store(stamp, Ordering::Relaxed),
            None => place.head.store(BLANK, Ordering::Relaxed),
        }
        match self.try_lock(writer, me) {
            Some(held) => {
                self.append(loc as u64);
                drop(held);
            }
            None => self.push_incoming(loc as u64),
        }
        count(self.memory.words(), Counter::FreeRecords, 1);
    }

    /// Takes the oldest record whose stamp has elapsed.
    pub(crate) fn pop(&self, elapsed: impl Fn(u64) -> bool, writer: &Writer, me: u64) -> Option<usize> {
        // Relaxed: a list that looks empty costs a fresh record, nothing else.
        if self.first.load(Ordering::Relaxed) == 0 && self.incoming.load(Ordering::Relaxed) == 0 {
            return None;
        }
        let held = self.try_lock(writer, me)?;
        self.drain();
        let found = self.take(elapsed);
        drop(held);
        if found.is_some() {
            count(self.memory.words(), Counter::FreeRecords, -1);
        }
        found
    }

    /// Marks every record as elapsed: their stamps are another process's, which is gone, and its readers with it.
    pub(crate) fn forget_stamps(&self) {
        for start in [self.first, self.incoming] {
            let mut loc = start.load(Ordering::Relaxed);
            for _ in 0..self.layout.total {
                let Some(place) = self.place(loc) else { break };
                place.head.store(BLANK, Ordering::Relaxed);
                loc = place.next.load(Ordering::Relaxed);
            }
        }
    }

    /// Unlocks the list if its owner answers to `left_behind`.
    pub(crate) fn release(&self, left_behind: impl Fn(u64) -> bool) {
        let owner = self.lock.load(Ordering::Acquire);
        if owner != 0 && left_behind(owner) {
            self.find_end();
            self.lock.store(0, Ordering::Release);
        }
    }

    fn take(&self, elapsed: impl Fn(u64) -> bool) -> Option<usize> {
        let mut before: Option<(u64, &AtomicU64)> = None;
        let mut loc = self.first.load(Ordering::Relaxed);
        for _ in 0..LOOK {
            if loc == 0 {
                return None;
            }
            let Some(place) = self.place(loc) else {
                self.cut();
                return None;
            };
            if place.head.load(Ordering::Relaxed) == BLANK || elapsed(place.stamp.load(Ordering::Relaxed)) {
                let after = place.next.load(Ordering::Relaxed);
                if after == 0 {
                    // The end moves first: killed between the two stores, the list still ends in a listed record.
                    self.last.store(before.map_or(0, |(loc, _)| loc), Ordering::Relaxed);
                }
                before.map_or(self.first, |(_, link)| link).store(after, Ordering::Relaxed);
                return Some(loc as usize);
            }
            before = Some((loc, place.next));
            loc = place.next.load(Ordering::Relaxed);
        }
        None
    }

    fn append(&self, loc: u64) {
        let Some(place) = self.place(loc) else { return };
        place.next.store(0, Ordering::Relaxed);
        let last = self.last.load(Ordering::Relaxed);
        match self.place(last) {
            Some(end) if self.first.load(Ordering::Relaxed) != 0 => end.next.store(loc, Ordering::Relaxed),
            _ => self.first.store(loc, Ordering::Relaxed),
        }
        self.last.store(loc, Ordering::Relaxed);
    }

    fn push_incoming(&self, loc: u64) {
        let Some(place) = self.place(loc) else { return };
        let mut top = self.incoming.load(Ordering::Relaxed);
        loop {
            place.next.store(top, Ordering::Relaxed);
            // Release pairs with the Acquire in `drain`: link and stamp are there.
            match self.incoming.compare_exchange_weak(top, loc, Ordering::Release, Ordering::Relaxed) {
                Ok(_) => return,
                Err(seen) => top = seen,
            }
        }
    }

    fn drain(&self) {
        for _ in 0..DRAIN {
            // Acquire pairs with the Release in `push_incoming`.
            let top = self.incoming.load(Ordering::Acquire);
            if top == 0 {
                return;
            }
            let Some(place) = self.place(top) else {
                self.incoming.store(0, Ordering::Relaxed);
                count(self.memory.words(), Counter::Corrupt, 1);
                return;
            };
            let below = place.next.load(Ordering::Relaxed);
            // A push may come between; then the next round sees it. Acquire: as above, for what that push left below.
            if self.incoming.compare_exchange(top, below, Ordering::Acquire, Ordering::Relaxed).is_ok() {
                self.append(top);
            }
        }
    }

    /// Takes the lock if it is free, or was left behind.
    fn try_lock(&self, writer: &Writer, me: u64) -> Option<Held<'m>> {
        // Acquire pairs with the Release in Held::drop.
        match self.lock.compare_exchange(0, me, Ordering::Acquire, Ordering::Relaxed) {
            Ok(_) => Some(Held(self.lock)),
            Err(owner) if writer.is_dead(self.memory.words(), owner) => {
                // Acquire: the dead owner's stores are as visible as they will ever be.
                self.lock.compare_exchange(owner, me, Ordering::Acquire, Ordering::Relaxed).ok()?;
                self.find_end();
                Some(Held(self.lock))
            }
            Err(_) => None,
        }
    }

    #[cold]
    fn find_end(&self) {
        let mut end = 0;
        let mut loc = self.first.load(Ordering::Relaxed);
        for _ in 0..self.layout.total {
            let Some(place) = self.place(loc) else { break };
            end = loc;
            loc = place.next.load(Ordering::Relaxed);
        }
        self.last.store(end, Ordering::Relaxed);
    }

    #[cold]
    fn cut(&self) {
        self.first.store(0, Ordering::Relaxed);
        self.last.store(0, Ordering::Relaxed);
        count(self.memory.words(), Counter::Corrupt, 1);
    }

    /// The words of a free record, if a record of this class fits there. What `loc` was read from orders the load of the mapped words in here: see `Memory::mapped`.
    fn place(&self, loc: u64) -> Option<Place<'m>> {
        let loc = usize::try_from(loc).ok().filter(|l| (self.layout.pools..self.layout.total).contains(l))?;
        match self.memory.words().get(loc..loc + 1 + self.room)? {
            [head, next, stamp, ..] => Some(Place { head, next, stamp }),
            _ => None,
        }
    }
}

/// A free record.
#[derive(Clone, Copy)]
struct Place<'m> {
    head: &'m AtomicU64,
    next: &'m AtomicU64,
    stamp: &'m AtomicU64,
}

/// The lock, until dropped.
struct Held<'m>(&'m AtomicU64);

impl Drop for Held<'_> {
    fn drop(&mut self) {
        // Release pairs with the Acquire in `try_lock`.
        self.0.store(0, Ordering::Release);
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;
    use crate::layout::{Shape, record_words};
    use crate::stats::Stats;

    /// A list that was looked up before another thread mapped a pool must understand the places of that pool: taken for corruption, they took the whole list with them.
    #[test]
    fn places_of_a_pool_mapped_meanwhile_are_understood() {
        const DEPTH: usize = 12;
        let bytes = 1 << 20;
        let memory = Memory::reserve(bytes, false).unwrap();
        let layout = Layout::new(Shape { evicts: true, buckets_log2: 1, max_depth: 64, total: bytes / 8, pool: 4096 }).unwrap();
        memory.grow(0, layout.pools + 4096).unwrap();
        let writer = Writer::claim(&memory, &layout, crate::Sharing::Private, false, false, false).unwrap();

        let early = FreeList::of(&memory, &layout, DEPTH).unwrap();
        let loc = layout.pools + 2 * 4096;
        memory.grow(layout.pools + 4096, loc + 4096).unwrap();
        let late = FreeList::of(&memory, &layout, DEPTH).unwrap();
        late.push(loc, None, &writer, 1);
        late.push_incoming((loc + record_words(DEPTH)) as u64);

        assert_eq!(early.pop(|_| true, &writer, 1), Some(loc));
        assert_eq!(early.pop(|_| true, &writer, 1), Some(loc + record_words(DEPTH)));
        assert_eq!(Stats::read(memory.words(), &layout).corrupt, 0);
    }
}
