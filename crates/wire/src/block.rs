//! Blocks: what one thread has counted, of all functions. Whose a block is stands in its entry of
//! the directory; its cells are elsewhere, and nobody but their owner touches them.
//!
//! # States of a block, and who may write what when
//! An entry's first word is all that decides: a state, the *space* (pid namespace) and the process.
//! Each change is one compare-and-swap of that word, so agents of several processes may try at
//! once, and a process may be killed at any instruction: it has the block or it has not.
//!
//! | from | to | who, when |
//! |---|---|---|
//! | `UNUSED` | `OWNED` | a thread that starts; from then on it alone writes the cells |
//! | `OWNED` | `FREE` | its process, when the kernel knows the thread no more |
//! | `OWNED` | `OWNED` | a thread of another process, when the kernel knows the owning one no more |
//! | `FREE` | `OWNED` | a thread that starts |
//! | `OWNED` | `ENDED` | as to `FREE`, where the counts of threads are kept apart |
//! | `ENDED` | `KEPT` | the command line: it adds the counts to what it remembers of ended threads |
//! | `KEPT` | `UNUSED` | the command line, after it has emptied the cells |
//! | `ENDED` | `OWNED` | a thread that starts and finds no other block: the counts of two are one |
//!
//! **Counts are never moved** but by the command line, in its own memory: whoever takes a block
//! goes on counting on what is there, and the sum over all blocks is right at every moment, whoever
//! was killed. So the number of blocks is that of threads that ever counted at one time, however
//! many there were one after the other.
//!
//! That a process is gone is what `kill(pid, 0)` says in the same space. A number that was given
//! again looks alive: its block waits, until that process ends or takes it for its predecessor's.

use crate::cell;
use crate::layout::{PAGE, count};
use crate::loss::Loss;
use crate::owner::{Owner, gone};
use crate::segment::Segment;
use alloc::string::String;
use alloc::vec;
use alloc::vec::Vec;
use core::ptr::NonNull;
use core::sync::atomic::{AtomicU64, Ordering};

const WORD: usize = 0;
const TID: usize = 8;
const THREADS: usize = 12;
/// Pages at its beginning that the block was given.
const FILLED: usize = 16;
/// Where the newest table of stacks is.
pub(crate) const TABLE: usize = 24;
const NAME: usize = 32;
pub(crate) const NAME_ROOM: usize = 16;

const UNUSED: u64 = 0;
const OWNED: u64 = 1;
const FREE: u64 = 2;
const ENDED: u64 = 3;
const KEPT: u64 = 4;

/// Entries that are looked at before a block is used for the first time.
const LOOK: usize = 64;
/// Blocks up to this size get their memory at once: less than what their faults would cost.
const SMALL: usize = 1 << 20;

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

/// The words of a cell by which something happened. A call may begin in one thread and end in
/// another (a fiber, a goroutine), so that a thread has returns and no calls.
const HEAD: [usize; 4] = [cell::CALLS, cell::RETURNS, cell::UNWOUND, cell::UNTIMED];

impl Counts {
    /// Whether nothing was counted: neither a call, nor the end of one that began elsewhere.
    pub fn is_zero(&self) -> bool {
        self.calls | self.returns | self.unwound | self.untimed == 0
    }

    /// Nothing counted yet.
    pub fn zero(timed: bool) -> Self {
        let buckets = if timed { vec![0; cell::BUCKET_COUNT] } else { Vec::new() };
        Self {
            calls: 0,
            returns: 0,
            total: 0,
            self_ticks: 0,
            max: 0,
            unwound: 0,
            untimed: 0,
            buckets,
        }
    }

    /// Adds a cell, of which `load` gives the words by offset.
    pub(crate) fn add(&mut self, load: impl Fn(usize) -> u64) {
        // Not all that ended here began here: what tells is more than the calls.
        if HEAD.iter().all(|word| load(*word) == 0) {
            return;
        }
        self.calls = self.calls.saturating_add(load(cell::CALLS));
        if self.buckets.is_empty() {
            return;
        }
        self.returns = self.returns.saturating_add(load(cell::RETURNS));
        self.total = self.total.wrapping_add(load(cell::TOTAL));
        self.self_ticks = self.self_ticks.wrapping_add(load(cell::SELF));
        self.max = self.max.max(load(cell::MAX));
        self.unwound = self.unwound.saturating_add(load(cell::UNWOUND));
        self.untimed = self.untimed.saturating_add(load(cell::UNTIMED));
        for (i, bucket) in self.buckets.iter_mut().enumerate() {
            *bucket = bucket.saturating_add(load(cell::BUCKETS + i * 8));
        }
    }
}

fn word(state: u64, owner: Owner) -> u64 {
    state << 56 | u64::from(owner.space & 0xff_ffff) << 32 | u64::from(owner.pid)
}

fn state(word: u64) -> u64 {
    word >> 56
}

fn owner(word: u64) -> Owner {
    Owner { pid: word as u32, space: (word >> 32) as u32 & 0xff_ffff }
}

impl Segment {
    fn entry(&self, index: usize) -> Option<(usize, &AtomicU64)> {
        let at = self.layout.entry(index)?;
        Some((at, self.fixed.u64(at + WORD)?))
    }

    /// Takes a block for a thread of `by`, mapped and with memory. `Err` says why there is none.
    ///
    /// One that was used before is preferred: the one that came back last, or one of the next few
    /// whose process is gone; so the cost is the same however many processes there have been.
    ///
    /// # Errors
    /// [`Loss::Memory`]: the budget, the memory or the address space is used up. [`Loss::Threads`]:
    /// all blocks are taken.
    ///
    /// # Context
    /// Does not allocate. System calls, and a lock: with signals blocked.
    pub fn take_block(&self, by: Owner, tid: u32) -> Result<usize, Loss> {
        let index = match self.take_used(by) {
            Some(index) => index,
            None => self.take_unused(by).or_else(|why| self.take_any(by).ok_or(why))?,
        };
        self.sign(index, tid);
        Ok(index)
    }

    /// Maps blocks that nobody has: for later threads, which will not be able to.
    pub(crate) fn map_spare_blocks(&self, by: Owner) {
        const BYTES: usize = 16 << 20;
        let many = (BYTES / self.cells_len().max(PAGE)).clamp(2, 64);
        let take = |_| self.take_used(by).or_else(|| self.take_unused(by).ok());
        let spare: Vec<usize> = (0..many).map_while(take).collect();
        for (_, place) in spare.into_iter().filter_map(|index| self.entry(index)) {
            // Release pairs with the Acquire of whoever takes it.
            place.store(word(FREE, by), Ordering::Release);
        }
    }

    /// As [`Segment::take_block`], of the blocks that this process has mapped; `claim` says whether
    /// no thread of it has this one.
    ///
    /// # Context
    /// No system call, no allocation.
    pub fn take_mapped_block(
        &self,
        by: Owner,
        tid: u32,
        claim: impl Fn(usize) -> bool,
    ) -> Option<usize> {
        let cells = self.cells_len();
        let is_whole = |index: &usize| self.blocks.cells(*index).is_some_and(|(_, n)| n >= cells);
        let mut whole = self.blocks.mapped(self.blocks_len()).filter(is_whole);
        let index = whole.find(|index| self.take_idle(*index, by) && claim(*index))?;
        self.sign(index, tid);
        Some(index)
    }

    fn take_used(&self, by: Owner) -> Option<usize> {
        let len = self.blocks_len();
        let returned = self.fixed.load64(count::RETURNED) as usize;
        if let Some(index) = returned.checked_sub(1).filter(|i| *i < len && self.take_idle(*i, by))
        {
            return self.prepare(index).then_some(index);
        }
        let look = LOOK.min(len);
        // Relaxed: where to begin, no more.
        let from =
            self.fixed.u64(count::CURSOR)?.fetch_add(look as u64, Ordering::Relaxed) as usize;
        let mut known = (0, false);
        let mut each = (0..look).map(|n| from.wrapping_add(n) % len);
        let index = each.find(|i| self.take_idle(*i, by) || self.inherit(*i, by, &mut known))?;
        self.prepare(index).then_some(index)
    }

    /// A block that nobody has had.
    fn take_unused(&self, by: Owner) -> Result<usize, Loss> {
        let len = self.fixed.u64(count::BLOCKS_LEN).ok_or(Loss::Threads)?;
        if !self.allows(self.filled_at_once() as u64) {
            return Err(Loss::Memory);
        }
        let all = self.layout.shape.blocks as u64;
        loop {
            // Relaxed: whose a block is stands in its entry.
            let next = len
                .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |n| (n < all).then(|| n + 1));
            let index = next.map_err(|_| Loss::Threads)? as usize;
            let (_, place) = self.entry(index).ok_or(Loss::Threads)?;
            // Somebody who looks through all may have been faster.
            if change(place, UNUSED, word(OWNED, by)) {
                return self.prepare(index).then_some(index).ok_or(Loss::Memory);
            }
        }
    }

    /// Any block at all; also one with counts of an ended thread that were to be kept apart.
    fn take_any(&self, by: Owner) -> Option<usize> {
        let mut known = (0, false);
        let mut each = 0..self.blocks_len();
        let takes = |i, known: &mut _| {
            self.take_idle(i, by) || self.take_ended(i, by) || self.inherit(i, by, known)
        };
        each.find(|i| takes(*i, &mut known) && self.prepare(*i))
    }

    fn take_idle(&self, index: usize, by: Owner) -> bool {
        let Some((_, place)) = self.entry(index) else { return false };
        // Relaxed: looked at again by the change.
        let found = place.load(Ordering::Relaxed);
        (state(found) == FREE || found == UNUSED) && change(place, found, word(OWNED, by))
    }

    fn take_ended(&self, index: usize, by: Owner) -> bool {
        let Some((_, place)) = self.entry(index) else { return false };
        let found = place.load(Ordering::Relaxed);
        state(found) == ENDED && change(place, found, word(OWNED, by))
    }

    /// Takes the block of a process that is gone. `known`: the process that was asked about last.
    fn inherit(&self, index: usize, by: Owner, known: &mut (u32, bool)) -> bool {
        let Some((_, place)) = self.entry(index) else { return false };
        let found = place.load(Ordering::Relaxed);
        let its = owner(found);
        if state(found) != OWNED || its.pid == by.pid || its.space != by.space || by.space == 0 {
            return false;
        }
        if known.0 != its.pid {
            *known = (its.pid, gone(its.pid));
        }
        if !known.1 {
            return false;
        }
        if self.layout.shape.per_thread {
            // For the command line, which keeps its counts.
            let _ = change(place, found, word(ENDED, its));
            return false;
        }
        change(place, found, word(OWNED, by))
    }

    /// Maps a block that was just taken, and gives it its memory; or gives it back.
    fn prepare(&self, index: usize) -> bool {
        let Some((_, place)) = self.entry(index) else { return false };
        if self.fill(index) {
            return true;
        }
        let its = owner(place.load(Ordering::Relaxed));
        // Release pairs with the Acquire of whoever takes it.
        place.store(word(FREE, its), Ordering::Release);
        false
    }

    /// Maps a block of the caller's up to the last cell that there is a function for.
    fn fill(&self, index: usize) -> bool {
        let Some(at) = self.layout.entry(index) else { return false };
        let filled = self.fixed.load64(at + FILLED);
        let wanted = self.filled_at_once() as u64;
        let more = wanted.saturating_sub(filled);
        if more > 0 && !self.charge(more) {
            return false;
        }
        let done =
            self.blocks.open(index, self.cells_len(), if more > 0 { wanted as usize } else { 0 });
        if more > 0 {
            if done {
                self.fixed.store64(at + FILLED, wanted);
            } else {
                self.uncharge(more);
            }
        }
        done
    }

    /// Bytes that a block is given before it is used.
    fn filled_at_once(&self) -> usize {
        let bytes = self.cells_len().next_multiple_of(PAGE);
        if self.layout.shape.scarce || bytes <= SMALL { bytes } else { PAGE }
    }

    /// Lets all blocks that are mapped and the caller's process has have cells for all functions
    /// that there are now. False: one of them cannot.
    ///
    /// # Context
    /// As [`Segment::take_block`].
    pub fn extend_blocks(&self, has: impl Fn(usize) -> bool) -> bool {
        // Not only up to the first that cannot: the others go on counting.
        let owned = self.blocks.mapped(self.layout.shape.blocks).filter(|index| has(*index));
        owned.filter(|index| !self.fill(*index)).count() == 0
    }

    /// [`Segment::extend_blocks`] for one that the caller has just taken, and made known to those
    /// who extend: functions that came meanwhile have cells in it, too.
    pub fn extend_block(&self, index: usize) -> bool {
        self.fill(index)
    }

    fn ended(&self) -> u64 {
        if self.layout.shape.per_thread { ENDED } else { FREE }
    }

    fn sign(&self, index: usize, tid: u32) {
        let Some(at) = self.layout.entry(index) else { return };
        self.fixed.store32(at + TID, tid);
        self.fixed.store32(at + THREADS, self.fixed.load32(at + THREADS).saturating_add(1));
    }

    /// Names the thread that owns a block, up to 15 bytes; what it counted of stacks, too.
    pub fn name_block(&self, index: usize, tid: u32, name: &[u8]) {
        let name = name.get(..NAME_ROOM - 1).unwrap_or(name);
        if let Some(at) = self.layout.entry(index) {
            self.fixed.store32(at + TID, tid);
            self.fixed.put_bytes(at + NAME, NAME_ROOM, name);
        }
        self.name_stack_table(index, tid, name);
    }

    /// The number of the thread that owns a block; as [`thread`](Self::thread), without its name.
    ///
    /// # Context
    /// Signal-safe; no allocation.
    pub fn tid(&self, index: usize) -> Option<u32> {
        let (at, place) = self.entry(index)?;
        let is_used = state(place.load(Ordering::Acquire)) != UNUSED;
        is_used.then(|| self.fixed.load32(at + TID))
    }

    /// Process and thread that own a block, for its owner.
    pub(crate) fn signed(&self, index: usize) -> Option<(u32, u32)> {
        let (at, place) = self.entry(index)?;
        Some((owner(place.load(Ordering::Relaxed)).pid, self.fixed.load32(at + TID)))
    }

    /// Name of the thread that owns a block, for its owner.
    pub(crate) fn block_name(&self, index: usize) -> [u8; NAME_ROOM] {
        let mut name = [0; NAME_ROOM];
        if let Some(at) = self.layout.entry(index) {
            self.fixed.read_exact(at + NAME, &mut name);
        }
        name
    }

    /// Gives a block back that a thread of the caller's process had, which is gone. Its counts
    /// stay.
    ///
    /// # Context
    /// A system call and a lock: with signals blocked.
    pub fn release_block(&self, index: usize) {
        let Some((_, place)) = self.entry(index) else { return };
        if !self.sealed.load(Ordering::Relaxed) {
            self.blocks.close(index);
        }
        let its = owner(place.load(Ordering::Relaxed));
        // Release pairs with the Acquire in `change`.
        place.store(word(self.ended(), its), Ordering::Release);
        self.fixed.store64(count::RETURNED, index as u64 + 1);
    }

    /// Gives back the blocks that are said to be `by`'s: the caller is its new program (exec) or a
    /// new process with an old number, and has no block yet.
    pub fn reclaim_blocks(&self, by: Owner) {
        for index in (0..self.blocks_len()).filter(|_| by.space != 0) {
            let Some((_, place)) = self.entry(index) else { return };
            if change(place, word(OWNED, by), word(self.ended(), by)) {
                self.fixed.store64(count::RETURNED, index as u64 + 1);
            }
        }
    }

    /// For a fork child: unmaps the blocks that only its parent counts in. What the caller has it
    /// knows by itself: what stands in the directory may have been written by anybody.
    pub fn leave_blocks(&self, has: impl Fn(usize) -> bool) {
        let parents = self.blocks.mapped(self.layout.shape.blocks).filter(|index| !has(*index));
        parents.for_each(|index| self.blocks.close(index));
    }

    /// Whether the budget has room for so many bytes more.
    pub(crate) fn allows(&self, bytes: u64) -> bool {
        let used = self.fixed.load64(count::MEASURED).max(self.fixed.load64(count::CHARGED));
        used.saturating_add(bytes).saturating_add(self.agent_bytes()) <= self.layout.shape.budget
    }

    /// Adds to the memory that was handed out, if the budget allows.
    pub(crate) fn charge(&self, bytes: u64) -> bool {
        let Some(charged) = self.fixed.u64(count::CHARGED).filter(|_| self.allows(bytes)) else {
            return false;
        };
        let limit = self.layout.shape.budget;
        let more = |n: u64| n.checked_add(bytes).filter(|n| *n <= limit);
        // Relaxed: a sum.
        charged.fetch_update(Ordering::Relaxed, Ordering::Relaxed, more).is_ok()
    }

    fn uncharge(&self, bytes: u64) {
        if let Some(charged) = self.fixed.u64(count::CHARGED) {
            // Relaxed: a sum. Whoever wrote nonsense there gets no wrap-around.
            let _ = charged.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |n| {
                Some(n.saturating_sub(bytes))
            });
        }
    }

    /// For the command line: what the segment takes now, by the file system. The first time, before
    /// any agent is there, that is also what has been handed out.
    pub fn set_measured(&self, bytes: u64) {
        if self.fixed.load64(count::CHARGED) == 0 {
            self.fixed.store64(count::CHARGED, bytes);
        }
        self.fixed.store64(count::MEASURED, bytes);
    }

    /// Blocks that were ever taken: an upper bound of those worth reading.
    pub fn blocks_len(&self) -> usize {
        (self.fixed.load64(count::BLOCKS_LEN) as usize).min(self.layout.shape.blocks)
    }

    /// Address of a block's first cell and the bytes that are mapped, for the thread that owns it.
    pub fn cells(&self, index: usize) -> Option<(NonNull<u8>, usize)> {
        (index < self.layout.shape.blocks).then(|| self.blocks.cells(index)).flatten()
    }

    /// Index of the block whose first cell is at `address`.
    pub fn block_at(&self, address: usize) -> Option<usize> {
        self.blocks.index(address)
    }

    /// Who counted in a block. Allocates.
    pub fn thread(&self, index: usize) -> Option<Thread> {
        let (at, place) = self.entry(index)?;
        let found = place.load(Ordering::Acquire);
        (state(found) != UNUSED).then(|| Thread {
            pid: owner(found).pid,
            tid: self.fixed.load32(at + TID),
            threads: self.fixed.load32(at + THREADS),
            name: String::from_utf8_lossy(&self.fixed.get_bytes(at + NAME, NAME_ROOM)).into_owned(),
            running: state(found) == OWNED,
        })
    }

    /// For the command line: a process in this space is gone; where counts are kept apart, its
    /// blocks are ended ones now, else free.
    pub fn end_blocks(&self, space: u32, mut dead: impl FnMut(u32) -> bool) {
        for index in 0..self.blocks_len() {
            let Some((_, place)) = self.entry(index) else { return };
            let found = place.load(Ordering::Relaxed);
            let its = owner(found);
            if state(found) == OWNED
                && its.space == space
                && space != 0
                && dead(its.pid)
                && change(place, found, word(self.ended(), its))
            {
                self.fixed.store64(count::RETURNED, index as u64 + 1);
            }
        }
    }

    /// For the command line: a block with the counts of an ended thread, for
    /// [`Segment::empty_block`] after they were read. From now on nobody takes it.
    pub fn keep_block(&self, index: usize) -> bool {
        let Some((_, place)) = self.entry(index) else { return false };
        let found = place.load(Ordering::Relaxed);
        state(found) == ENDED && change(place, found, word(KEPT, owner(found)))
    }

    /// The cells of a kept block are zeros and without memory: it is as new.
    pub fn empty_block(&self, index: usize) {
        let Some((at, place)) = self.entry(index) else { return };
        if state(place.load(Ordering::Relaxed)) == KEPT {
            self.uncharge(self.fixed.load64(at + FILLED));
            [FILLED, TABLE].iter().for_each(|field| self.fixed.store64(at + field, 0));
            self.fixed.store32(at + THREADS, 0);
            // Release pairs with the Acquire in `change`.
            place.store(UNUSED, Ordering::Release);
            self.fixed.store64(count::RETURNED, index as u64 + 1);
        }
    }

    /// Adds what a block has of a function to `into`, for blocks that are mapped. While the thread
    /// counts, the numbers may be of slightly different moments.
    pub fn add_counts(&self, block: usize, function: usize, into: &mut Counts) {
        if let (Some(function), true) = (self.function(function), block < self.layout.shape.blocks)
        {
            into.add(|word| self.blocks.load(block, function.cell as usize + word));
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

/// One step of a block's life. False: somebody else was faster.
fn change(place: &AtomicU64, from: u64, to: u64) -> bool {
    // Acquire pairs with the Release of whoever gave the block back: its counts are complete. Those
    // of a process that is gone are, as the kernel says. Release: an ended block is read next.
    // Looked at first: entries of others stay in the caches of others.
    place.load(Ordering::Relaxed) == from
        && place.compare_exchange(from, to, Ordering::AcqRel, Ordering::Relaxed).is_ok()
}

const _: () = assert!(NAME + NAME_ROOM <= crate::layout::ENTRY_BYTES);
