//! Room for call stacks and for how often each was met.
//!
//! The stacks themselves are in a region for a `stackdepot`, which this crate knows nothing of: it
//! hands out 32-bit handles. Each block (thread) counts handles in a table of its own: an
//! open-addressing hash table. When it is three quarters full, the thread goes on in a larger one;
//! what was counted stays where it is, and a handle's count is the sum over the tables of all
//! blocks. So a hit writes to memory of its own thread only, no count ever moves, and whoever maps
//! the segment reads them at any time.
//!
//! Whose counts a table has stands in its header. A thread that takes over a block begins a table
//! of its own, as long as tables take less than [`APART`] bytes altogether; later ones go on in the
//! table that is there, which is then nobody's.
//!
//! # Who may write what when
//! The thread that owns the block writes its newest table, with plain stores. An entry's handle is
//! written (Release) after its counts were zeroed; evicting one writes [`GONE`] after its counts
//! were moved to the table's own. Tables are never freed.

use crate::block::{NAME_ROOM, TABLE};
use crate::layout::{Stacks, count};
use crate::memory::Memory;
use crate::owner::Owner;
use crate::quiet::quietly;
use crate::segment::Segment;
use alloc::collections::BTreeMap;
use alloc::string::String;
use core::ptr::{self, NonNull};
use core::sync::atomic::{AtomicU32, AtomicU64, Ordering};

/// Handle of an entry that was evicted.
pub const GONE: u32 = u32::MAX;
/// In front of a table's entries.
const TABLE_HEADER: usize = 64;
const PREVIOUS: usize = 0;
const LOG2: usize = 8;
const EVICTED_CALLS: usize = 16;
const EVICTED_TICKS: usize = 24;
const TABLE_PID: usize = 32;
const TABLE_TID: usize = 36;
const TABLE_NAME: usize = 40;
/// Bytes of tables up to which threads are kept apart that count in one block, one after the other.
const APART: u64 = 16 << 20;
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
const _: () = assert!(TABLE_NAME + NAME_ROOM <= TABLE_HEADER, "the owner fits the header");

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

/// Whose counts are in a table of stacks.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct StackOwner {
    /// Process.
    pub pid: u32,
    /// Thread; 0: threads of this process, or of several if `pid` is 0, too.
    pub tid: u32,
    /// Name of the thread, as the kernel knew it last; may be empty.
    pub name: String,
    /// Whether it still counts.
    pub running: bool,
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

    /// The cell of a handle, or else one for it, which has handle 0 or [`GONE`]; and its index for
    /// [`Segment::stack_cell`]. `None`: it is not there, and there is no cell for it.
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
        // SAFETY: the table has that many cells, and the mapping of an agent's segment is never
        // undone.
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
    /// The cell is one of a table, or of [`Segment::stack_cell`], of a segment whose
    /// [`Stacks::timed`] is set.
    #[inline(always)]
    #[allow(unsafe_code)]
    pub unsafe fn time(&self) -> &StackTime {
        // SAFETY: such cells are followed by their times.
        let behind = unsafe { ptr::from_ref(self).add(1) }.cast::<StackTime>();
        // SAFETY: as above; shared memory, accessed through atomics.
        unsafe { &*behind }
    }
}

impl Segment {
    /// How stacks are recorded, if they are.
    pub fn stacks(&self) -> Option<Stacks> {
        self.layout.shape.stacks
    }

    /// Address of the region for the depot, and the most bytes that [`Segment::reach_depot`] maps
    /// of it, none of which have to be mapped yet.
    pub fn depot_region(&self) -> Option<(NonNull<u8>, usize)> {
        let bytes = self.stacks()?.depot_bytes;
        Some((self.depot.as_ref()?.pointer(0, 0)?, bytes))
    }

    /// Sees to it that the first `end` bytes of the depot's region are mapped, from now on and
    /// where they are, and part of the budget. False: there is no room in that, a limit of the
    /// program's is reached, or something else is there.
    ///
    /// # Context
    /// Signal-safe: a few system calls, with all signals blocked, and a lock. `errno` stays.
    pub fn reach_depot(&self, end: usize) -> bool {
        let is_sealed = self.sealed.load(Ordering::Relaxed);
        let reach = |depot: &Memory| {
            end <= depot.bytes() || (!is_sealed && quietly(|| depot.reach_in_place(end)))
        };
        self.charge_depot(end as u64) && self.depot.as_ref().is_some_and(reach)
    }

    /// For an agent whose process is about to lose its system calls: maps some memory for new
    /// stacks and their counts, and blocks for [`Segment::take_mapped_block`]; nothing is mapped
    /// or unmapped after that.
    ///
    /// # Context
    /// System calls; allocates. With signals blocked.
    pub fn seal(&self, by: Owner) {
        self.map_spare_blocks(by);
        const DEPOT: usize = 1 << 20;
        const COUNTS: usize = 256 << 10;
        if let Some(depot) = &self.depot {
            self.reach_depot(depot.bytes() + DEPOT);
        }
        if let (Some(counts), Some(next)) = (&self.counts, self.fixed.u64(count::COUNTS_NEXT)) {
            // Relaxed: others may take of it as well.
            let used = next.load(Ordering::Relaxed) as usize;
            if self.allows(COUNTS as u64) && counts.reach(used + COUNTS) {
                counts.populate(used, COUNTS);
            }
        }
        self.sealed.store(true, Ordering::Relaxed);
    }

    /// Charges what no process of the run has reached before.
    fn charge_depot(&self, end: u64) -> bool {
        let Some(reached) = self.fixed.u64(count::DEPOT_REACHED) else { return false };
        // Relaxed: who changes it pays for the difference, and nobody else.
        let change = |n: u64| (n < end).then_some(end);
        match reached.fetch_update(Ordering::Relaxed, Ordering::Relaxed, change) {
            Ok(before) if !self.charge(end - before) => {
                // Others may have gone on from there; what they paid for stays.
                let _ = reached.compare_exchange(end, before, Ordering::Relaxed, Ordering::Relaxed);
                false
            }
            _ => true,
        }
    }

    /// Address and bytes of the region for the depot: aligned to pages. All of it is mapped, or
    /// there is none.
    pub fn depot(&self) -> Option<(NonNull<u8>, usize)> {
        let bytes = self.stacks()?.depot_bytes;
        Some((self.depot.as_ref()?.pointer(0, bytes)?, bytes))
    }

    fn stride(&self) -> Option<usize> {
        Some(if self.stacks()?.timed { 2 * CELL } else { CELL })
    }

    /// The table that the thread of a block, which is the caller, goes on in; none: it begins a new
    /// one. Where there is no room for tables of all threads, or `shared`, the table that is there
    /// belongs to nobody from now on, if it was another's.
    pub fn own_stack_table(&self, block: usize, shared: bool) -> Option<StackTable> {
        let table = self.stack_table(block)?;
        let counts = self.counts.as_ref()?;
        let at = self.newest(block)? as usize;
        let (pid, tid) = self.signed(block)?;
        let (its_pid, its_tid) = (counts.load32(at + TABLE_PID), counts.load32(at + TABLE_TID));
        if (its_pid, its_tid) == (pid, tid) {
            return Some(table);
        }
        if !shared && self.stack_table_bytes() < APART {
            return None;
        }
        counts.store32(at + TABLE_PID, if its_pid == pid { pid } else { 0 });
        counts.store32(at + TABLE_TID, 0);
        counts.put_bytes(at + TABLE_NAME, NAME_ROOM, b"");
        Some(table)
    }

    fn newest(&self, block: usize) -> Option<u64> {
        // Acquire pairs with the Release in `new_stack_table`.
        let at = self.fixed.u64(self.layout.entry(block)? + TABLE)?.load(Ordering::Acquire);
        self.table_at(at).map(|_| at)
    }

    /// The newest table of a block has its thread's name, too.
    pub(crate) fn name_stack_table(&self, block: usize, tid: u32, name: &[u8]) {
        if let Some((counts, at)) = self.counts.as_ref().zip(self.newest(block))
            && counts.load32(at as usize + TABLE_TID) == tid
        {
            counts.put_bytes(at as usize + TABLE_NAME, NAME_ROOM, name);
        }
    }

    fn owner_of_table(&self, block: usize, at: usize) -> StackOwner {
        let Some(counts) = self.counts.as_ref() else { return StackOwner::default() };
        let (pid, tid) = (counts.load32(at + TABLE_PID), counts.load32(at + TABLE_TID));
        let its = self.thread(block).filter(|its| (its.pid, its.tid) == (pid, tid));
        let name = counts.get_bytes(at + TABLE_NAME, NAME_ROOM);
        StackOwner {
            pid,
            tid,
            name: String::from_utf8_lossy(&name).into_owned(),
            running: its.is_some_and(|its| its.running),
        }
    }

    /// The newest table of a block, if it has one.
    pub fn stack_table(&self, block: usize) -> Option<StackTable> {
        // Acquire pairs with the Release in `new_stack_table`.
        let at = self.fixed.u64(self.layout.entry(block)? + TABLE)?.load(Ordering::Acquire);
        self.table_at(at)
    }

    fn table_at(&self, at: u64) -> Option<StackTable> {
        let part = self.stacks()?.counts_bytes as u64;
        if at < FIRST_TABLE || at >= part || !at.is_multiple_of(64) {
            return None;
        }
        let counts = self.counts.as_ref()?;
        let place = at as usize;
        // A part that another process has got further into than this one.
        if !counts.reach(place + TABLE_HEADER) {
            return None;
        }
        let log2 = counts.load32(place + LOG2);
        let stride = self.stride()?;
        if log2 == 0 || log2 > LARGEST_LOG2 || at + (TABLE_HEADER + (stride << log2)) as u64 > part
        {
            return None;
        }
        if !counts.reach(place + TABLE_HEADER + (stride << log2)) {
            return None;
        }
        let first = counts.pointer(place + TABLE_HEADER, stride << log2)?;
        Some(StackTable {
            first,
            log2,
            stride,
            index: (at as usize + TABLE_HEADER).div_euclid(CELL) as u32,
        })
    }

    /// A new table of 2 to the power `log2` cells for the block, which is the caller's: it is its
    /// newest one from now on. `None`: there is no room, in the budget, the file system or the
    /// address space.
    ///
    /// # Context
    /// No allocation; some system calls, which may change `errno`, and a lock: with signals
    /// blocked.
    pub fn new_stack_table(&self, block: usize, log2: u32) -> Option<StackTable> {
        let stride = self.stride()?;
        let part = self.stacks()?.counts_bytes as u64;
        let bytes = (TABLE_HEADER + (stride << log2.min(LARGEST_LOG2))).next_multiple_of(64) as u64;
        let counts = self.counts.as_ref()?;
        let next = self.fixed.u64(count::COUNTS_NEXT)?;
        if !self.charge(bytes) {
            return None;
        }
        // Relaxed: what is handed out is the caller's alone.
        let at = next.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |at| {
            let at = at.max(FIRST_TABLE);
            at.checked_add(bytes).filter(|end| *end <= part)
        });
        let at = at.ok()?.max(FIRST_TABLE);
        let place = at as usize;
        let end = place + bytes as usize;
        let is_there = if self.sealed.load(Ordering::Relaxed) {
            end <= counts.bytes()
        } else {
            counts.reach(end) && counts.populate(place, bytes as usize)
        };
        if !is_there {
            return None;
        }
        let newest = self.fixed.u64(self.layout.entry(block)? + TABLE)?;
        counts.store64(place + PREVIOUS, newest.load(Ordering::Relaxed));
        counts.store32(place + LOG2, log2);
        let (pid, tid) = self.signed(block)?;
        counts.store32(place + TABLE_PID, pid);
        counts.store32(place + TABLE_TID, tid);
        counts.put_bytes(place + TABLE_NAME, NAME_ROOM, &self.block_name(block));
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
        let place = self.counts.as_ref()?.pointer16(at, stride)?;
        // SAFETY: mapped, aligned, accessed through atomics.
        Some(unsafe { place.cast().as_ref() })
    }

    /// Calls `see` for everything that was counted of stacks, by any thread. A stack is met once
    /// for each table that it is in; handle 0 stands for what was evicted. No byte is read twice,
    /// and no more than the budget allows, however tables are tied together. Allocates.
    pub fn stack_counts(&self, mut see: impl FnMut(StackCount)) {
        self.stack_counts_by_owner(|_, count| see(count));
    }

    /// [`Segment::stack_counts`] with who counted. Allocates.
    pub fn stack_counts_by_owner(&self, mut see: impl FnMut(&StackOwner, StackCount)) {
        let Some((stacks, counts)) = self.stacks().zip(self.counts.as_ref()) else { return };
        let mut read = Read { parts: BTreeMap::new(), left: self.layout.shape.budget };
        for block in 0..self.blocks_len() {
            let entry = self.layout.entry(block);
            let Some(place) = entry.and_then(|at| self.fixed.u64(at + TABLE)) else { return };
            let mut at = place.load(Ordering::Acquire);
            for _ in 0..CHAIN {
                let Some(table) = self.table_at(at) else { break };
                if !read.takes(at, (TABLE_HEADER + table.cells() * table.stride) as u64) {
                    break;
                }
                let header = at as usize;
                let owner = self.owner_of_table(block, header);
                let evicted = |field| counts.load64(header + field);
                let count = StackCount {
                    handle: 0,
                    calls: evicted(EVICTED_CALLS),
                    ticks: evicted(EVICTED_TICKS),
                };
                see(&owner, count);
                for cell in (0..table.cells()).map(|at| table.cell(at)) {
                    // Acquire pairs with the Release of whoever took the cell: its counts belong to
                    // this handle.
                    let handle = cell.handle.load(Ordering::Acquire);
                    if handle != 0 && handle != GONE {
                        #[allow(unsafe_code)]
                        // SAFETY: a cell of a table of this segment.
                        let time = || unsafe { cell.time() }.ticks.load(Ordering::Relaxed);
                        let count = StackCount {
                            handle,
                            calls: cell.calls.load(Ordering::Relaxed),
                            ticks: if stacks.timed { time() } else { 0 },
                        };
                        see(&owner, count);
                    }
                }
                at = counts.load64(header + PREVIOUS);
            }
        }
    }

    /// Bytes of the tables that were handed out.
    pub fn stack_table_bytes(&self) -> u64 {
        self.fixed.load64(count::COUNTS_NEXT)
    }

    /// Counts an address, or a thread's stack, that was seen for the first time: that hit took
    /// microseconds.
    pub fn first_sight(&self) {
        if let Some(w) = self.fixed.u64(count::FIRST_SIGHTS) {
            // Relaxed: a counter.
            w.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// How many those were.
    pub fn first_sights(&self) -> u64 {
        self.fixed.load64(count::FIRST_SIGHTS)
    }

    /// Counts a hit that no stack was kept for.
    pub fn no_stack(&self, why: NoStack, n: u64) {
        if let Some(w) = self.fixed.u64(count::NO_STACK + (why as usize) * 8) {
            // Relaxed: a counter.
            w.fetch_add(n, Ordering::Relaxed);
        }
    }

    /// How many hits had no stack for this reason.
    pub fn without_stack(&self, why: NoStack) -> u64 {
        self.fixed.load64(count::NO_STACK + (why as usize) * 8)
    }
}

/// Parts that were read.
struct Read {
    /// Start and end.
    parts: BTreeMap<u64, u64>,
    /// Bytes that may still be.
    left: u64,
}

impl Read {
    /// Whether so many bytes from `at` on may be read: none of them was.
    fn takes(&mut self, at: u64, bytes: u64) -> bool {
        let end = at + bytes;
        let below = self.parts.range(..end).next_back();
        if bytes > self.left || below.is_some_and(|(_, below)| *below > at) {
            return false;
        }
        self.left -= bytes;
        self.parts.insert(at, end);
        true
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
    /// A signal handler's, while a stack was being taken, or a fork child's, before its own memory
    /// for stacks was there.
    Nested = 4,
}

impl NoStack {
    /// Every reason.
    pub const ALL: [Self; 5] =
        [Self::Full, Self::Counters, Self::Writers, Self::Contended, Self::Nested];

    /// The words that reports use.
    pub fn name(self) -> &'static str {
        match self {
            Self::Full => "full",
            Self::Counters => "counters full",
            Self::Writers => "too many processes",
            Self::Contended => "contended",
            Self::Nested => "in a signal handler during a hit, or in a fork",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{PREVIOUS, StackCount, TABLE};
    use crate::{Owner, Segment, Shape, Stacks};
    use alloc::vec::Vec;
    use core::sync::atomic::Ordering;

    /// Whatever somebody ties the tables to, each is read once, and no two that overlap.
    #[test]
    fn tables_are_read_once_however_they_are_tied() {
        let (depot_bytes, counts_bytes) = (1 << 16, 1 << 20);
        let stacks = Stacks {
            depot_bytes,
            counts_bytes,
            depth: 16,
            frame_pointers: false,
            timed: false,
            evict: false,
        };
        let shape = Shape {
            objects: 1,
            functions: 1,
            blocks: 64,
            cell_bytes: 4096,
            budget: 64 << 20,
            per_thread: false,
            scarce: false,
            stacks: Some(stacks),
        };
        let file = crate::test_file();
        let segment = Segment::create(file, shape).unwrap();
        for tid in 0..shape.blocks {
            segment.take_block(Owner::current(), tid as u32).unwrap();
        }
        let cell = |table: &super::StackTable| {
            let (cell, _) = table.find(7).unwrap();
            cell.calls.store(5, Ordering::Relaxed);
            cell.handle.store(7, Ordering::Relaxed);
        };
        cell(&segment.new_stack_table(0, 8).unwrap());
        cell(&segment.new_stack_table(0, 10).unwrap());
        let read = || {
            let mut all = Vec::new();
            segment.stack_counts(|count| all.push(count));
            all.retain(|count: &StackCount| count.handle == 7);
            all
        };
        let once = StackCount { handle: 7, calls: 5, ticks: 0 };
        assert_eq!(read(), [once; 2]);
        // All blocks have the same table, which is its own predecessor.
        let newest = |block| segment.fixed.u64(segment.layout.entry(block).unwrap() + TABLE);
        let at = newest(0).unwrap().load(Ordering::Relaxed);
        for block in 0..shape.blocks {
            newest(block).unwrap().store(at, Ordering::Relaxed);
        }
        segment.counts.as_ref().unwrap().store64(at as usize + PREVIOUS, at);
        assert_eq!(read(), [once]);
        // Or one that begins inside of it.
        let inside = at + 64 * 4;
        segment.counts.as_ref().unwrap().store64(at as usize + PREVIOUS, inside);
        segment.counts.as_ref().unwrap().store32(inside as usize + super::LOG2, 4);
        assert_eq!(read(), [once]);
    }
}
