//! Room for call stacks and for how often each was met.
//!
//! The stacks themselves are in a region for a `stackdepot`, which this crate knows nothing of: it hands out 32-bit handles. Each block (thread) counts handles in a table of its own: an
//! open-addressing hash table. When it is three quarters full, the thread goes on in a larger one; what was counted stays where it is, and a handle's count is the sum over the tables of all blocks. So a hit writes
//! to memory of its own thread only, no count ever moves, and whoever maps the segment reads them at any time.
//!
//! # Who may write what when
//! The thread that owns the block writes its newest table, with plain stores. An entry's handle is written (Release) after its counts were zeroed; evicting one writes [`GONE`] after its counts were moved to
//! the table's own. Tables are never freed.

use crate::layout::{BLOCK_TABLE, Stacks, head};
use crate::segment::Segment;
use std::ptr::NonNull;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};

/// Handle of an entry that was evicted.
pub const GONE: u32 = u32::MAX;
/// In front of a table's entries.
const TABLE_HEADER: usize = 64;
const PREVIOUS: usize = 0;
const LOG2: usize = 8;
const EVICTED_CALLS: usize = 16;
const EVICTED_TICKS: usize = 24;
/// Offsets of tables in their part are never 0.
const FIRST_TABLE: u64 = 64;
const LARGEST_LOG2: u32 = 22;
/// A table's chain is not longer: each is larger than the one before.
const CHAIN: usize = 64;

/// What was counted of a stack, by one thread.
#[repr(C)]
#[derive(Debug)]
pub struct StackCell {
    /// The stack; 0: the entry is empty.
    pub handle: AtomicU32,
    /// When it was last met, in a unit of the owner's choice.
    pub age: AtomicU32,
    /// Hits.
    pub calls: AtomicU64,
}

/// Time of a stack: behind its [`StackCell`] where times are wanted.
#[repr(C)]
#[derive(Debug)]
pub struct StackTime {
    /// Ticks in the function itself.
    pub ticks: AtomicU64,
    _unused: AtomicU64,
}

const CELL: usize = size_of::<StackCell>();

/// Sum of what was counted of a stack in one table. The handle is 0 for what was evicted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StackCount {
    /// The stack.
    pub handle: u32,
    /// Hits.
    pub calls: u64,
    /// Ticks.
    pub ticks: u64,
}

/// A thread's newest table.
#[derive(Clone, Copy, Debug)]
pub struct StackTable {
    first: NonNull<u8>,
    log2: u32,
    stride: usize,
    /// Index of the first cell, for [`Segment::stack_cell`].
    index: u32,
}

// SAFETY: an address of shared memory that is accessed through atomics.
#[allow(unsafe_code)]
unsafe impl Send for StackTable {}

impl StackTable {
    /// Cells in the table.
    pub fn cells(&self) -> usize {
        1 << self.log2
    }

    /// The cell of a handle, or else one for it, which has handle 0 or [`GONE`]; and its index for [`Segment::stack_cell`]. `None`: it is not there, and there is no cell for it.
    ///
    /// # Context
    /// Signal-safe.
    #[inline(always)]
    pub fn find(&self, handle: u32) -> Option<(&'static StackCell, u32)> {
        let mask = self.cells() - 1;
        let start = (handle.wrapping_mul(0x9e37_79b9) >> (32 - self.log2)) as usize;
        let mut gone = None;
        for n in 0..=mask {
            let at = (start + n) & mask;
            let cell = self.cell(at);
            let found = (cell, self.index.wrapping_add((at * (self.stride / CELL)) as u32));
            // Relaxed: only the calling thread writes it.
            match cell.handle.load(Ordering::Relaxed) {
                its if its == handle => return Some(found),
                0 => return gone.or(Some(found)),
                GONE => gone = gone.or(Some(found)),
                _ => {}
            }
        }
        gone
    }

    /// The cell at `at`, below [`StackTable::cells`].
    #[inline(always)]
    #[allow(unsafe_code)]
    pub fn cell(&self, at: usize) -> &'static StackCell {
        // SAFETY: the table has that many cells, and the mapping of an agent's segment is never undone.
        let place = unsafe { self.first.add((at & (self.cells() - 1)) * self.stride) };
        // SAFETY: aligned shared memory, accessed through atomics.
        unsafe { place.cast::<StackCell>().as_ref() }
    }

    /// For the owner: adds to what was evicted from this table.
    #[allow(unsafe_code)]
    pub fn add_evicted(&self, calls: u64, ticks: u64) {
        for (field, n) in [(EVICTED_CALLS, calls), (EVICTED_TICKS, ticks)] {
            // SAFETY: the header is in front of the first cell.
            let header = unsafe { self.first.sub(TABLE_HEADER) };
            // SAFETY: a field of it.
            let place = unsafe { header.add(field) };
            // SAFETY: as in `cell`.
            let word: &AtomicU64 = unsafe { place.cast().as_ref() };
            // Relaxed: a counter of the owner's.
            word.store(word.load(Ordering::Relaxed).wrapping_add(n), Ordering::Relaxed);
        }
    }
}

impl StackCell {
    /// The time behind a cell of a segment with times.
    ///
    /// # Safety
    /// The cell is one of a table, or of [`Segment::stack_cell`], of a segment whose [`Stacks::timed`] is set.
    #[inline(always)]
    #[allow(unsafe_code)]
    pub unsafe fn time(&self) -> &StackTime {
        // SAFETY: such cells are followed by their times.
        let behind = unsafe { std::ptr::from_ref(self).add(1) }.cast::<StackTime>();
        // SAFETY: as above; shared memory, accessed through atomics.
        unsafe { &*behind }
    }
}

impl Segment {
    /// How stacks are recorded, if they are.
    pub fn stacks(&self) -> Option<Stacks> {
        self.layout.shape.stacks
    }

    /// Address and bytes of the region for the depot: aligned to pages.
    pub fn depot(&self) -> Option<(NonNull<u8>, usize)> {
        let bytes = self.stacks()?.depot_bytes;
        Some((self.memory.pointer(self.layout.depot, bytes)?, bytes))
    }

    fn stride(&self) -> Option<usize> {
        Some(if self.stacks()?.timed { 2 * CELL } else { CELL })
    }

    /// The newest table of a block, if it has one.
    pub fn stack_table(&self, block: usize) -> Option<StackTable> {
        // Acquire pairs with the Release in `new_stack_table`.
        let at = self.memory.u64(self.layout.block(block)? + BLOCK_TABLE)?.load(Ordering::Acquire);
        self.table_at(at)
    }

    fn table_at(&self, at: u64) -> Option<StackTable> {
        let part = self.stacks()?.counts_bytes as u64;
        if at < FIRST_TABLE || at >= part || !at.is_multiple_of(64) {
            return None;
        }
        let place = self.layout.counts + at as usize;
        let log2 = self.memory.load32(place + LOG2);
        let stride = self.stride()?;
        if log2 == 0 || log2 > LARGEST_LOG2 || at + (TABLE_HEADER + (stride << log2)) as u64 > part {
            return None;
        }
        let first = self.memory.pointer(place + TABLE_HEADER, stride << log2)?;
        Some(StackTable { first, log2, stride, index: (at as usize + TABLE_HEADER).div_euclid(CELL) as u32 })
    }

    /// A new table of 2 to the power `log2` cells for the block, which is the caller's: it is its newest one from now on. `None`: there is no room, here or in the file system.
    ///
    /// # Context
    /// Signal-safe, no allocation; one system call, which may change `errno`.
    pub fn new_stack_table(&self, block: usize, log2: u32) -> Option<StackTable> {
        let stride = self.stride()?;
        let part = self.stacks()?.counts_bytes as u64;
        let bytes = (TABLE_HEADER + (stride << log2.min(LARGEST_LOG2))).next_multiple_of(64) as u64;
        let next = self.memory.u64(head::COUNTS_NEXT)?;
        // Relaxed: what is handed out is the caller's alone.
        let at = next.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |at| {
            let at = at.max(FIRST_TABLE);
            at.checked_add(bytes).filter(|end| *end <= part)
        });
        let at = at.ok()?.max(FIRST_TABLE);
        let place = self.layout.counts + at as usize;
        if !self.memory.populate(place, bytes as usize) {
            return None;
        }
        let newest = self.memory.u64(self.layout.block(block)? + BLOCK_TABLE)?;
        self.memory.store64(place + PREVIOUS, newest.load(Ordering::Relaxed));
        self.memory.store32(place + LOG2, log2);
        let table = self.table_at(at)?;
        // Release pairs with the Acquire in `stack_table`.
        newest.store(at, Ordering::Release);
        Some(table)
    }

    /// The cell with an index that [`StackTable::find`] gave.
    ///
    /// # Context
    /// Signal-safe.
    #[inline]
    #[allow(unsafe_code)]
    pub fn stack_cell(&self, index: u32) -> Option<&StackCell> {
        let stride = self.stride()?;
        let at = index as usize * CELL;
        if at + stride > self.stacks()?.counts_bytes {
            return None;
        }
        let place = self.memory.pointer16(self.layout.counts + at, stride)?;
        // SAFETY: mapped, aligned, accessed through atomics.
        Some(unsafe { place.cast().as_ref() })
    }

    /// Calls `see` for everything that was counted of stacks, by any thread. A stack is met once for each table that it is in; handle 0 stands for what was evicted.
    pub fn stack_counts(&self, mut see: impl FnMut(StackCount)) {
        let Some(stacks) = self.stacks() else { return };
        for block in 0..self.blocks_len() {
            let Some(place) = self.layout.block(block).and_then(|at| self.memory.u64(at + BLOCK_TABLE)) else { return };
            let mut at = place.load(Ordering::Acquire);
            for _ in 0..CHAIN {
                let Some(table) = self.table_at(at) else { break };
                let header = self.layout.counts + at as usize;
                let evicted = |field| self.memory.load64(header + field);
                see(StackCount { handle: 0, calls: evicted(EVICTED_CALLS), ticks: evicted(EVICTED_TICKS) });
                for cell in (0..table.cells()).map(|at| table.cell(at)) {
                    // Acquire pairs with the Release of whoever took the cell: its counts belong to this handle.
                    let handle = cell.handle.load(Ordering::Acquire);
                    if handle != 0 && handle != GONE {
                        #[allow(unsafe_code)]
                        // SAFETY: a cell of a table of this segment.
                        let time = || unsafe { cell.time() }.ticks.load(Ordering::Relaxed);
                        see(StackCount { handle, calls: cell.calls.load(Ordering::Relaxed), ticks: if stacks.timed { time() } else { 0 } });
                    }
                }
                at = self.memory.load64(header + PREVIOUS);
            }
        }
    }

    /// Bytes of the tables that were handed out.
    pub fn stack_table_bytes(&self) -> u64 {
        self.memory.load64(head::COUNTS_NEXT)
    }

    /// Counts an address, or a thread's stack, that was seen for the first time: that hit took microseconds.
    pub fn first_sight(&self) {
        if let Some(w) = self.memory.u64(head::FIRST_SIGHTS) {
            // Relaxed: a counter.
            w.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// How many those were.
    pub fn first_sights(&self) -> u64 {
        self.memory.load64(head::FIRST_SIGHTS)
    }

    /// Counts a hit that no stack was kept for.
    pub fn no_stack(&self, why: NoStack, n: u64) {
        if let Some(w) = self.memory.u64(head::NO_STACK + (why as usize) * 8) {
            // Relaxed: a counter.
            w.fetch_add(n, Ordering::Relaxed);
        }
    }

    /// How many hits had no stack for this reason.
    pub fn without_stack(&self, why: NoStack) -> u64 {
        self.memory.load64(head::NO_STACK + (why as usize) * 8)
    }
}

/// Why a hit was counted without its stack.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(usize)]
pub enum NoStack {
    /// The memory for stacks is used up.
    Full = 0,
    /// The memory for their counters is.
    Counters = 1,
    /// The process may not write: too many do already.
    Writers = 2,
    /// Another thread held a lock for too long.
    Contended = 3,
    /// A signal handler's, while a stack was being taken.
    Nested = 4,
}

impl NoStack {
    /// Every reason.
    pub const ALL: [Self; 5] = [Self::Full, Self::Counters, Self::Writers, Self::Contended, Self::Nested];

    /// The words that reports use.
    pub fn name(self) -> &'static str {
        match self {
            Self::Full => "full",
            Self::Counters => "counters full",
            Self::Writers => "too many processes",
            Self::Contended => "contended",
            Self::Nested => "in a signal handler during a hit",
        }
    }
}
