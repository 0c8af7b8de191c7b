//! What a thread needs for counting stacks, in memory of the process: it belongs to whoever owns
//! the block of cells.

use crate::stack_cache::StackCache;
use crate::store::Store;
use alloc::boxed::Box;
use alloc::vec;
use core::sync::atomic::{AtomicU64, Ordering};
use unwind::Bounds;
use wire::{GONE, NoStack, Segment, StackCell, StackTable};

/// 256 cells: a page and a line.
const FIRST_LOG2: u32 = 8;
/// Words of a stack in the making, which is an index of a byte.
const FRAMES: usize = 256;
/// Each table is so much larger than the one before.
const GROWTH: u32 = 2;
/// Hits without a stack between two looks for old ones that could give way.
const PATIENCE: u32 = 64;

/// A thread's part. Only its thread uses it, never twice at once: consumers do not nest.
#[derive(Debug)]
pub(crate) struct Thread {
    block: usize,
    table: Option<StackTable>,
    /// Cells of the table that are not empty.
    used: usize,
    /// Now, for ages of cells.
    now: u32,
    backoff: u32,
    pub(crate) bounds: Bounds,
    pub(crate) cache: StackCache,
    /// The stack in the making: 256 words.
    pub(crate) frames: Box<[u64]>,
}

impl Thread {
    /// Bytes of one, with what it points to.
    pub(crate) const BYTES: usize = size_of::<Self>() + FRAMES * 8 + StackCache::BYTES;

    /// The thread of a block, which others may have counted in before.
    pub(crate) fn new(segment: &Segment, store: &Store, block: usize) -> Self {
        let mut this = Self {
            block,
            table: None,
            used: 0,
            now: 1,
            backoff: 0,
            bounds: Bounds::default(),
            cache: StackCache::new(),
            frames: vec![0; FRAMES].into_boxed_slice(),
        };
        this.find_table(segment, store);
        this
    }

    fn find_table(&mut self, segment: &Segment, store: &Store) {
        // Cells hold references: a table that was left for good would keep its stacks for ever.
        self.table = segment.own_stack_table(self.block, store.evicts());
        let filled = |table: StackTable| {
            (0..table.cells())
                .filter(|at| table.cell(*at).handle.load(Ordering::Relaxed) != 0)
                .count()
        };
        self.used = self.table.map_or(0, filled);
    }

    /// Another thread has the block now. Between this process's threads another process's may have
    /// had it, and a larger table.
    pub(crate) fn handed_over(&mut self, segment: &Segment, store: &Store) {
        self.find_table(segment, store);
        self.bounds = Bounds::default();
        self.cache.forget();
    }

    /// A stack was met again.
    #[inline(always)]
    pub(crate) fn met(&self, store: &Store, cell: &StackCell) {
        if store.evicts() {
            cell.age.store(self.now, Ordering::Relaxed);
        }
    }

    /// The cell of a stack, and its index. With a store that evicts, the reference that came with
    /// the handle is the cell's, or given back.
    #[inline(always)]
    pub(crate) fn cell(
        &mut self,
        segment: &Segment,
        store: &Store,
        handle: u32,
    ) -> Result<(&'static StackCell, u32), NoStack> {
        if let Some((cell, index)) = self.table.and_then(|table| table.find(handle))
            && cell.handle.load(Ordering::Relaxed) == handle
        {
            self.met(store, cell);
            store.put(handle);
            return Ok((cell, index));
        }
        self.new_cell(segment, store, handle)
    }

    #[cold]
    #[inline(never)]
    fn new_cell(
        &mut self,
        segment: &Segment,
        store: &Store,
        handle: u32,
    ) -> Result<(&'static StackCell, u32), NoStack> {
        let full = |table: &StackTable, used: usize| used * 4 >= table.cells() * 3;
        if self.table.is_none_or(|table| full(&table, self.used)) && !self.grow(segment, store) {
            // What is left of the table may still be used.
            if self.table.is_none_or(|table| self.used + 1 >= table.cells()) {
                store.put(handle);
                return Err(NoStack::Counters);
            }
        }
        let Some((cell, index)) = self.table.and_then(|table| table.find(handle)) else {
            store.put(handle);
            return Err(NoStack::Counters);
        };
        self.used += usize::from(cell.handle.load(Ordering::Relaxed) == 0);
        cell.calls.store(0, Ordering::Relaxed);
        if segment.stacks().is_some_and(|s| s.timed) {
            time(cell).store(0, Ordering::Relaxed);
        }
        cell.age.store(self.now, Ordering::Relaxed);
        // Release pairs with the Acquire of readers: the counts are this stack's.
        cell.handle.store(handle, Ordering::Release);
        Ok((cell, index))
    }

    /// Goes on in a larger table. False: there is no room.
    fn grow(&mut self, segment: &Segment, store: &Store) -> bool {
        let log2 = self.table.map_or(FIRST_LOG2, |table| table.cells().trailing_zeros() + GROWTH);
        let mut new = None;
        uprobe::slowly(&mut || new = segment.new_stack_table(self.block, log2));
        let Some(new) = new else { return false };
        let old = self.table.replace(new);
        self.used = 0;
        // Cells hold references: those of a table that nobody looks at any more would never be
        // given back.
        if let Some(old) = old.filter(|_| store.evicts()) {
            for cell in (0..old.cells()).map(|at| old.cell(at)) {
                let handle = cell.handle.load(Ordering::Relaxed);
                let Some((to, _)) = new.find(handle).filter(|_| handle != 0 && handle != GONE)
                else {
                    continue;
                };
                cell.handle.store(GONE, Ordering::Release);
                to.calls.store(cell.calls.load(Ordering::Relaxed), Ordering::Relaxed);
                to.age.store(cell.age.load(Ordering::Relaxed), Ordering::Relaxed);
                to.handle.store(handle, Ordering::Release);
                self.used += 1;
            }
            self.cache.forget();
        }
        true
    }

    /// The depot is full: lets the stacks go that this thread has not met for the longest time, an
    /// eighth of its own. False: not now.
    #[cold]
    #[inline(never)]
    pub(crate) fn make_room(&mut self, store: &Store) -> bool {
        let Some(table) = self.table.filter(|_| store.evicts()) else { return false };
        if self.backoff > 0 {
            self.backoff -= 1;
            return false;
        }
        self.backoff = PATIENCE;
        let live = || {
            (0..table.cells())
                .map(|at| table.cell(at))
                .filter(|c| ![0, GONE].contains(&c.handle.load(Ordering::Relaxed)))
        };
        let wanted = live().count() / 8 + 1;
        // What was not met since the last time, or, when all were, whatever comes first.
        let old = live().filter(|c| c.age.load(Ordering::Relaxed) != self.now);
        let chosen: usize =
            old.chain(live()).take(wanted).map(|cell| release(&table, store, cell)).sum();
        self.now = self.now.wrapping_add(1);
        self.cache.forget();
        chosen > 0
    }
}

/// Moves what a cell has counted to its table's sum of the evicted, and gives up its stack: 1 if it
/// had one.
fn release(table: &StackTable, store: &Store, cell: &StackCell) -> usize {
    let handle = cell.handle.load(Ordering::Relaxed);
    if handle == GONE {
        return 0;
    }
    cell.handle.store(GONE, Ordering::Release);
    table.add_evicted(cell.calls.load(Ordering::Relaxed), 0);
    store.put(handle);
    1
}

/// The time of a cell in a segment with times.
#[allow(unsafe_code)]
pub(crate) fn time(cell: &StackCell) -> &AtomicU64 {
    // SAFETY: callers have looked that the segment has times, and cells come from its tables.
    &unsafe { cell.time() }.ticks
}
