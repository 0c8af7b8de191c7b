//! What the models in `tests/` need: one record, one slot, and one free list, without the rest of
//! the depot.

use crate::free::FreeList;
use crate::layout::{Layout, Shape, record_words};
use crate::memory::{Memory, Region};
use crate::record::{self, Change, Record, Taken};
use crate::table::{self, Key};
use crate::writer::Writer;
use percpu::sync::atomic::AtomicU64;
use std::vec::Vec;

/// One place for a record of two frames, which one stack after the other uses.
#[derive(Debug)]
pub struct Place {
    words: Vec<AtomicU64>,
}

/// Under loom all stacks of one depth have the same.
fn identity() -> u32 {
    record::identity(0, 2)
}

impl Place {
    /// A live record with one reference.
    pub fn new(frames: &[u64]) -> Self {
        let place = Self { words: (0..3).map(|_| AtomicU64::new(0)).collect() };
        place.fill(frames);
        place
    }

    /// What a save does with a place of its own.
    pub fn fill(&self, frames: &[u64]) {
        assert!(record::write(&self.words, 0, identity(), frames), "room for two");
        record::enliven(&self.words, 0, identity(), 1);
    }

    /// What a lookup does that came by a slot. True: it has a reference.
    pub fn look(&self, frames: &[u64]) -> bool {
        let record = Record::candidate(&self.words, 0, 2).expect("two frames");
        match record::take(&record, identity(), frames) {
            Taken::Not => false,
            Taken::Found(_) => true,
            Taken::Other(_) => {
                self.put();
                false
            }
        }
    }

    /// Puts a reference. True: the place is the caller's.
    pub fn put(&self) -> bool {
        let record = Record::candidate(&self.words, 0, 2).expect("two frames");
        record::put(record.head(), identity()) == Change::Count(0)
    }

    /// The frames as they are.
    pub fn holds(&self, frames: &[u64]) -> bool {
        Record::candidate(&self.words, 0, 2).is_some_and(|record| record.holds(frames))
    }
}

fn memory() -> (Memory, Layout) {
    let memory = Memory::of(&Region::model(112)).expect("memory");
    let shape = Shape { evicts: true, buckets_log2: 0, max_depth: 2, total: 112, pool: 16 };
    (memory, Layout::new(shape).expect("a layout"))
}

/// A table of one bucket, and a place for one record that a lookup knows from an earlier slot.
#[derive(Debug)]
pub struct Slot {
    memory: Memory,
    layout: Layout,
    writer: Writer,
}

impl Slot {
    /// With an empty bucket.
    pub fn new() -> Self {
        let (memory, layout) = memory();
        let sharing = crate::Sharing::Private;
        let writer = Writer::claim(&memory, &layout, sharing, false, false, false);
        Self { memory, layout, writer: writer.expect("a writer") }
    }

    /// What a save does with a stack that is new.
    pub fn publish(&self, frames: &[u64]) {
        let (words, loc) = (self.memory.words(), self.layout.pools);
        assert!(record::write(words, loc, identity(), frames), "room for two");
        let is_dead = |owner| self.writer.is_dead(words, owner);
        let locked = table::lock(words, &self.layout, Key::new(0), is_dead, 1);
        let locked = locked.expect("nobody else locks it");
        let enliven = || record::enliven(words, loc, identity(), 1);
        assert!(locked.publish(words, &self.layout, Key::new(0), loc, enliven), "an empty slot");
    }

    /// What a lookup does that knows the place. Whether a slot names the record, if it got a
    /// reference.
    pub fn look(&self, frames: &[u64]) -> Option<bool> {
        let (words, loc) = (self.memory.words(), self.layout.pools);
        let record = Record::candidate(words, loc, 2).expect("two frames");
        let found = matches!(record::take(&record, identity(), frames), Taken::Found(_));
        found.then(|| table::holds(words, &self.layout, Key::new(0), loc))
    }
}

impl Default for Slot {
    fn default() -> Self {
        Self::new()
    }
}

/// The free list of one size class, and its places: 0, 1, 2...
#[derive(Debug)]
pub struct Free {
    memory: Memory,
    layout: Layout,
}

impl Free {
    /// A list that keeps the first place for itself.
    pub fn new() -> Self {
        let (memory, layout) = memory();
        let free = Self { memory, layout };
        free.push(0);
        free
    }

    fn list(&self) -> FreeList<'_> {
        FreeList::of(&self.memory, &self.layout, 2).expect("a list")
    }

    /// Gives a place back.
    pub fn push(&self, place: usize) {
        self.list().push(self.layout.pools + place * record_words(2));
    }

    /// Takes a place.
    pub fn pop(&self) -> Option<usize> {
        self.list().pop().map(|loc| (loc - self.layout.pools) / record_words(2))
    }
}

impl Default for Free {
    fn default() -> Self {
        Self::new()
    }
}
