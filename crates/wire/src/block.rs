//! Blocks: what one thread has counted, of all functions.
//!
//! # States of a block, and who may write what when
//! `UNUSED` (never taken) -> `OWNED` (a thread counts in it; only that thread writes its cells) -> `FREE` (the thread ended; its counts stay, the next thread goes on in
//! it) or `RETIRED` (the thread ended and the counts of threads are kept apart) -> `OWNED` again. Each change but `OWNED` to the next is a compare-and-swap of `state`, so
//! agents of several processes may take blocks at once. A block whose process was killed stays `OWNED`: its counts are read like all others, and
//! [`Segment::reclaim_blocks`] gives those of a process that called exec to its next program.

use crate::cell;
use crate::layout::{BLOCK_HEADER, head};
use crate::segment::Segment;
use std::ptr::NonNull;
use std::sync::atomic::Ordering;

const STATE: usize = 0;
const PID: usize = 4;
const TID: usize = 8;
const THREADS: usize = 12;
const NAME: usize = 16;
const NAME_ROOM: usize = 16;

const UNUSED: u32 = 0;
const OWNED: u32 = 1;
const FREE: u32 = 2;
const RETIRED: u32 = 3;

/// Who counted in a block last.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Thread {
    /// Process.
    pub pid: u32,
    /// Thread; 0 when it was not known.
    pub tid: u32,
    /// Threads that counted here, one after the other.
    pub threads: u32,
    /// Name of the last one, as the kernel knows it; may be empty.
    pub name: String,
    /// Whether it still does.
    pub running: bool,
}

/// A function's counts in one block, or summed over blocks. Times in ticks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Counts {
    /// Entries.
    pub calls: u64,
    /// Returns seen.
    pub returns: u64,
    /// Sum of times.
    pub total: u64,
    /// Sum of times without those of timed callees.
    pub self_ticks: u64,
    /// Longest time.
    pub max: u64,
    /// Frames left without a return.
    pub unwound: u64,
    /// Counted but not timed.
    pub untimed: u64,
    /// Histogram, empty for functions that are only counted.
    pub buckets: Vec<u64>,
}

impl Counts {
    /// Nothing counted yet.
    pub fn zero(timed: bool) -> Self {
        let buckets = if timed { vec![0; cell::BUCKET_COUNT] } else { Vec::new() };
        Self { calls: 0, returns: 0, total: 0, self_ticks: 0, max: 0, unwound: 0, untimed: 0, buckets }
    }
}

impl Segment {
    /// Takes a block for a thread. Unused ones first when threads are kept apart, else those that were used before. None: all are taken.
    ///
    /// # Context
    /// Signal-safe, no system call, no allocation. Looks at most at every block once.
    pub fn take_block(&self, pid: u32, tid: u32) -> Option<usize> {
        let order = if self.layout.shape.per_thread { [UNUSED, FREE, RETIRED] } else { [FREE, RETIRED, UNUSED] };
        // Relaxed: a hint; blocks at and beyond it are unused.
        let used = (self.memory.load64(head::BLOCKS_LEN) as usize).min(self.layout.shape.blocks);
        for wanted in order {
            let range = if wanted == UNUSED { used..self.layout.shape.blocks } else { 0..used };
            if let Some(index) = range.into_iter().find(|i| self.try_take(*i, wanted)) {
                self.sign(index, pid, tid);
                return Some(index);
            }
        }
        None
    }

    fn try_take(&self, index: usize, wanted: u32) -> bool {
        let Some(state) = self.layout.block(index).and_then(|at| self.memory.u32(at + STATE)) else { return false };
        // Acquire pairs with the Release in `release_block`: the last owner's counts are complete.
        state.compare_exchange(wanted, OWNED, Ordering::Acquire, Ordering::Relaxed).is_ok()
    }

    fn sign(&self, index: usize, pid: u32, tid: u32) {
        let Some(at) = self.layout.block(index) else { return };
        self.memory.store32(at + PID, pid);
        self.memory.store32(at + TID, tid);
        self.memory.store32(at + THREADS, self.memory.load32(at + THREADS).saturating_add(1));
        if let Some(len) = self.memory.u64(head::BLOCKS_LEN) {
            // Relaxed: readers look at a block's own state.
            len.fetch_max(index as u64 + 1, Ordering::Relaxed);
        }
    }

    /// Names the thread that owns a block, up to 15 bytes.
    pub fn name_block(&self, index: usize, tid: u32, name: &[u8]) {
        if let Some(at) = self.layout.block(index) {
            self.memory.store32(at + TID, tid);
            self.memory.put_bytes(at + NAME, NAME_ROOM, name.get(..NAME_ROOM - 1).unwrap_or(name));
        }
    }

    /// Gives a block back that the caller's thread owned. Its counts stay.
    ///
    /// # Context
    /// Signal-safe, no system call.
    pub fn release_block(&self, index: usize) {
        let next = if self.layout.shape.per_thread { RETIRED } else { FREE };
        if let Some(state) = self.layout.block(index).and_then(|at| self.memory.u32(at + STATE)) {
            // Release pairs with the Acquire in `try_take`.
            state.store(next, Ordering::Release);
        }
    }

    /// Gives back the blocks that process `pid` owned before it called exec: the caller is its new program and has no block yet.
    pub fn reclaim_blocks(&self, pid: u32) {
        for index in 0..self.blocks_len() {
            let Some(at) = self.layout.block(index) else { return };
            if self.memory.load32(at + STATE) == OWNED && self.memory.load32(at + PID) == pid {
                self.release_block(index);
            }
        }
    }

    /// Blocks that were ever taken: an upper bound of those worth reading.
    pub fn blocks_len(&self) -> usize {
        (self.memory.load64(head::BLOCKS_LEN) as usize).min(self.layout.shape.blocks)
    }

    /// Address of a block's first cell and the bytes of its cells, for the thread that owns it.
    pub fn cells(&self, index: usize) -> Option<(NonNull<u8>, usize)> {
        let len = self.layout.cells();
        Some((self.memory.pointer(self.layout.block(index)? + BLOCK_HEADER, len)?, len))
    }

    /// Index of the block whose first cell is at `address`.
    pub fn block_at(&self, address: usize) -> Option<usize> {
        let (first, _) = self.cells(0)?;
        let offset = address.checked_sub(first.as_ptr().addr())?;
        let index = offset / self.layout.block_bytes;
        (offset.is_multiple_of(self.layout.block_bytes) && index < self.layout.shape.blocks).then_some(index)
    }

    /// Who counted in a block. Allocates.
    pub fn thread(&self, index: usize) -> Option<Thread> {
        let at = self.layout.block(index)?;
        let state = self.memory.load32(at + STATE);
        (state != UNUSED).then(|| Thread {
            pid: self.memory.load32(at + PID),
            tid: self.memory.load32(at + TID),
            threads: self.memory.load32(at + THREADS),
            name: String::from_utf8_lossy(&self.memory.get_bytes(at + NAME, NAME_ROOM)).into_owned(),
            running: state == OWNED,
        })
    }

    /// Adds what a block has of a function to `into`. While the thread counts, the numbers may be of slightly different moments.
    pub fn add_counts(&self, block: usize, function: usize, into: &mut Counts) {
        let (Some(at), Some(function)) = (self.layout.block(block), self.function(function)) else { return };
        let at = at + BLOCK_HEADER + function.cell as usize;
        let load = |offset| self.memory.load64(at + offset);
        let calls = load(cell::CALLS);
        if calls == 0 {
            return;
        }
        into.calls += calls;
        if into.buckets.is_empty() {
            return;
        }
        into.returns += load(cell::RETURNS);
        into.total = into.total.wrapping_add(load(cell::TOTAL));
        into.self_ticks = into.self_ticks.wrapping_add(load(cell::SELF));
        into.max = into.max.max(load(cell::MAX));
        into.unwound += load(cell::UNWOUND);
        into.untimed += load(cell::UNTIMED);
        for (i, bucket) in into.buckets.iter_mut().enumerate() {
            *bucket += load(cell::BUCKETS + i * 8);
        }
    }

    /// What all blocks have of a function. Allocates.
    pub fn counts(&self, function: usize) -> Counts {
        let timed = self.function(function).is_some_and(|f| f.kind == crate::Kind::Time);
        let mut sum = Counts::zero(timed);
        (0..self.blocks_len()).for_each(|block| self.add_counts(block, function, &mut sum));
        sum
    }
}

const _: () = assert!(NAME + NAME_ROOM <= BLOCK_HEADER, "a block's header holds its fields");
