//! What the hit path leaves to Rust: a thread's first hit, an empty free list, instances that are
//! not nested as usual, hits while a consumer runs.
//!
//! Called by the assembly with all registers saved, vector state included. Signal-safe, as the hit
//! path is: a handler may interrupt any line and come in here again.
#![allow(unsafe_code)]

use crate::arch::x86_64::exit::Return;
use crate::instance::{self, DONE, LEAVING, MAX_CHAIN, OFFSET, Record};
use crate::recorder::{self, Loss};
use crate::site_table::{self, Action, LOOPS, SKIPS_RED_ZONE, Site};
use crate::thread_state::{self, Busy, Critical, State};
use crate::{activation, chunk, lists, thread, unsettled};
use core::arch::x86_64::_rdtsc;
use core::sync::atomic::{AtomicU64, Ordering};
use wire::cell;

/// Registers as the assembly saves them; the stack continues behind.
#[repr(C)]
#[derive(Debug)]
pub(crate) struct Frame {
    /// rax, rcx, rdx, rbx, rbp, rsi, rdi, r8 to r15.
    pub(crate) registers: [u64; 15],
    pub(crate) flags: u64,
    /// Comes in: the site's number, or the program's rax. Goes out: where to jump.
    pub(crate) word: u64,
}

/// What became of an entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Made {
    /// An instance; its stub calls the body.
    Instance(u32),
    /// It is the same call, which came back to the function's first byte.
    SameCall,
    /// No place to remember it.
    Nothing,
}

/// A stack slot that the program is using.
fn slot_word(slot: u64) -> &'static AtomicU64 {
    let place = core::ptr::with_exposed_provenance::<AtomicU64>(slot as usize);
    // SAFETY: the word that holds (or held) the return address of the function that is being
    // entered or left right now.
    unsafe { &*place }
}

pub(crate) fn now() -> u64 {
    // SAFETY: the instruction is there in every x86-64.
    unsafe { _rdtsc() }
}

/// Adds to a field of a cell of a block.
fn add(block: usize, cell: u32, field: usize, n: u64) {
    if unsettled::is_child() {
        return unsettled::note(cell + field as u32, n);
    }
    own_field(block, cell, field).fetch_add(n, Ordering::Relaxed);
}

fn count(block: usize, cell: u32, field: usize) {
    add(block, cell, field, 1);
}

/// An entry that the assembly did not finish. True: an instance was made, go to its stub; false: go
/// on at the site's `resume`. Either address is in `frame.word`, or below the slot.
pub(crate) extern "C" fn entry(frame: &mut Frame) -> bool {
    let index = frame.word as u32;
    let site = site_table::site(index);
    let skipped = if site.flags.load(Ordering::Relaxed) & SKIPS_RED_ZONE == 0 { 0 } else { 128 };
    let slot = (&raw const frame.word).addr() as u64 + 8 + skipped;
    match hit(site, index, slot) {
        Made::Instance(at) => {
            // Where the assembly jumps to: the stub. The red zone is dead, for this is a new call.
            slot_word(slot - 8).store(instance::stub(at), Ordering::Relaxed);
            true
        }
        Made::SameCall | Made::Nothing => {
            frame.word = site.resume.load(Ordering::Relaxed);
            false
        }
    }
}

/// An entry that the assembly did not finish where there is no stack: on one of the engine's, with
/// signals blocked. The result is where to go on.
pub(crate) extern "C" fn entry_elsewhere(index: u32, stack_pointer: u64) -> u64 {
    let site = site_table::site(index);
    // No returns are waited for.
    let _ = hit(site, index, stack_pointer);
    site.resume.load(Ordering::Relaxed)
}

/// A hit of a site that counts, by whatever way. `slot` is where the return address is, if the
/// action is about returns.
pub(crate) fn hit(site: &Site, index: u32, slot: u64) -> Made {
    let Some(action) = site.action() else { return Made::Nothing };
    let timed = matches!(action, Action::Time { .. } | Action::CountReturn { .. });
    if timed && is_same_call(site, index, slot) {
        return Made::SameCall;
    }
    let cell = action.cell();
    let busy = thread_state::busy();
    match busy {
        Busy::No => {}
        Busy::Agent if thread::escaped(slot).is_some() => {}
        Busy::Agent => {
            recorder::lost(Loss::Recursion);
            return Made::Nothing;
        }
        Busy::Own => return Made::Nothing,
        Busy::NoBlock | Busy::Forking => {}
    }
    let Some(state) = thread::enter() else {
        recorder::lost(Loss::Capacity);
        return Made::Nothing;
    };
    let block = state.block.load(Ordering::Relaxed);
    if !timed {
        if busy == Busy::Forking {
            count(block, cell, cell::CALLS);
        } else {
            own_field(block, cell, cell::CALLS).fetch_add(1, Ordering::Relaxed);
        }
        return Made::Nothing;
    }
    let kind = if matches!(action, Action::Time { .. }) { Return::Time } else { Return::Pair };
    match make(state, site, index, slot, kind, cell) {
        Some(at) => {
            count(block, cell, cell::CALLS);
            if kind == Return::Time {
                activation::begin(block, cell, at);
            }
            instance::record(at).start.store(now(), Ordering::Relaxed);
            Made::Instance(at)
        }
        None => untimed(block, cell, Some(Loss::Depth)),
    }
}

/// Adds to a word that only this thread and its signal handlers write: one instruction, without a
/// lock.
///
/// # Context
/// Signal-safe. Whoever reads meanwhile sees the old value or the new one.
#[inline(always)]
pub fn add_own(word: &AtomicU64, n: u64) {
    // SAFETY: adds to an aligned word that the reference leads to; the flags are the compiler's to
    // save.
    unsafe {
        core::arch::asm!(
            "add qword ptr [{word}], {n}",
            word = in(reg) word.as_ptr(),
            n = in(reg) n,
            options(nostack),
        )
    };
}

/// A field of a cell of the calling thread's block.
#[inline(always)]
fn own_field(block: usize, cell: u32, field: usize) -> &'static AtomicU64 {
    let place = core::ptr::with_exposed_provenance::<AtomicU64>(block + cell as usize + field);
    // SAFETY: the cell lies in every block, as whoever armed the site has promised; its fields are
    // aligned words.
    unsafe { &*place }
}

/// Counts a call in the calling thread's block, for consumers that count as
/// [`Action::Count`](crate::Action::Count) does.
///
/// # Context
/// In a consumer, or anywhere on a thread that has had a hit; elsewhere it does nothing.
/// Signal-safe; no system call.
#[inline]
pub fn count_call(cell: u32) {
    if unsettled::is_child() {
        return unsettled::note(cell + cell::CALLS as u32, 1);
    }
    count_call_in_consumer(cell);
}

/// As [`count_call`], for [`Consumer::entry`](crate::Consumer::entry), which is not called while
/// the block is not the thread's own yet.
///
/// # Context
/// In an entry consumer. Signal-safe; no system call.
#[inline]
pub fn count_call_in_consumer(cell: u32) {
    if let Some(state) = thread_state::own() {
        add_own(own_field(state.block.load(Ordering::Relaxed), cell, cell::CALLS), 1);
    }
}

/// Counts a return in the calling thread's block, for consumers that count as
/// [`Action::Time`](crate::Action::Time) does: the cell has a histogram.
///
/// # Context
/// As [`count_call`].
#[inline]
pub fn count_span(cell: u32, span: crate::Span) {
    let Some(state) = thread_state::own() else { return };
    let block = state.block.load(Ordering::Relaxed);
    add_own(own_field(block, cell, cell::RETURNS), 1);
    add_own(own_field(block, cell, cell::TOTAL), span.ticks);
    add_own(own_field(block, cell, cell::SELF), span.own);
    own_field(block, cell, cell::MAX).fetch_max(span.ticks, Ordering::Relaxed);
    add_own(own_field(block, cell, cell::BUCKETS + 8 * cell::bucket(span.ticks)), 1);
}

fn untimed(block: usize, cell: u32, why: Option<Loss>) -> Made {
    count(block, cell, cell::CALLS);
    if let Some(loss) = why {
        count(block, cell, cell::UNTIMED);
        recorder::lost(loss);
    }
    Made::Nothing
}

pub(crate) fn is_same_call(site: &Site, index: u32, slot: u64) -> bool {
    if site.flags.load(Ordering::Relaxed) & LOOPS == 0 {
        return false;
    }
    let content = slot_word(slot).load(Ordering::Relaxed);
    crate::arch::x86_64::area::offset_of(content)
        .is_some_and(|at| instance::record(at).site.load(Ordering::Relaxed) == index)
}

/// Makes an instance for the call whose return address is at `slot`, and puts its stub there.
/// `None`: there is no free one and none to be had.
pub(crate) fn make(
    state: &'static State,
    site: &Site,
    index: u32,
    slot: u64,
    kind: Return,
    cell: u32,
) -> Option<u32> {
    let _critical = Critical::begin(state)?;
    if state.free.load(Ordering::Relaxed) == 0 && !more(state) {
        return None;
    }
    let place = slot_word(slot);
    let (top, chain) = below(state, slot)?;
    let at = state.free.load(Ordering::Relaxed);
    let new = instance::record(at);
    new.target.store(site.body.load(Ordering::Relaxed), Ordering::Relaxed);
    new.orig_ra.store(place.load(Ordering::Relaxed), Ordering::Relaxed);
    new.on_return.store(kind.routine(), Ordering::Relaxed);
    new.slot.store(slot, Ordering::Relaxed);
    new.child.store(0, Ordering::Relaxed);
    new.cell.store(cell, Ordering::Relaxed);
    new.site.store(index, Ordering::Relaxed);
    new.parent.store(chain << 24 | top, Ordering::Relaxed);
    state.free.store(new.next_free.load(Ordering::Relaxed), Ordering::Relaxed);
    state.top.store(at, Ordering::Relaxed);
    place.store(instance::return_address(at), Ordering::Relaxed);
    Some(at)
}

/// The instance that one at `slot` is nested in, after those that are not have been taken off the
/// top, and how many of the same slot are below.
fn below(state: &State, slot: u64) -> Option<(u32, u32)> {
    let chain_of = |at: u32| (instance::record(at).parent.load(Ordering::Relaxed) >> 24) + 1;
    let top = || {
        let at = state.top.load(Ordering::Relaxed);
        (at, instance::record(at).slot.load(Ordering::Relaxed))
    };
    if top().1 <= slot {
        lists::settle(state, slot);
    }
    let (at, its) = top();
    if its > slot {
        return Some((at, 0));
    }
    // What is left at this very slot is alive: the function above it has called this one last.
    if chain_of(at) < MAX_CHAIN {
        return Some((at, chain_of(at)));
    }
    // Its functions will not run again: finished, as if they returned now.
    let end = now();
    let original = lists::collapse(state, slot, |record, parent| {
        let outer = outer_of(record);
        finish(state.block.load(Ordering::Relaxed), record, parent, outer, end);
    })?;
    slot_word(slot).store(original, Ordering::Relaxed);
    Some((state.top.load(Ordering::Relaxed), 0))
}

/// Fills the empty free list: from the dead, if as many were made since the last look as were alive
/// then, else from the pool. False: there is none. Then, too, the next look is put off by some
/// calls in proportion to what was looked at.
fn more(state: &State) -> bool {
    let patience = state.patience.load(Ordering::Relaxed);
    if patience != 0 {
        state.patience.store(patience - 1, Ordering::Relaxed);
        return false;
    }
    let made = state.chunk_count.load(Ordering::Relaxed) * instance::PER_CHUNK as u32;
    let scan = || {
        lists::collect(state, &mut lists::Pages::none());
        state.free.load(Ordering::Relaxed) != 0
    };
    let due = made != 0 && made >= 2 * state.survivors.load(Ordering::Relaxed);
    let filled = (due && scan()) || chunk::refill(state) || (!due && made != 0 && scan());
    if !filled {
        state.patience.store(state.survivors.load(Ordering::Relaxed) / 8, Ordering::Relaxed);
    }
    filled
}

/// Counts a return. `parent`: the offset of the instance that it was nested in; 0: unknown.
/// `outer`: of the one of the same function that it is part of; 0: none.
fn finish(block: usize, record: &Record, parent: u32, outer: u32, end: u64) {
    let cell = record.cell.load(Ordering::Relaxed);
    let kind = record.on_return.load(Ordering::Relaxed);
    let child = record.child.load(Ordering::Relaxed);
    let mut passed_on = child;
    if kind == Return::Time.routine() {
        passed_on = end.saturating_sub(record.start.load(Ordering::Relaxed));
        measured(block, cell, passed_on, child, outer == 0);
        if block != 0 {
            activation::end(block, cell, offset_of(record), outer);
        }
    }
    if kind != Return::Call.routine() && block != 0 {
        count(block, cell, cell::RETURNS);
    }
    if parent != 0 {
        instance::record(parent).child.fetch_add(passed_on, Ordering::Relaxed);
    }
}

fn measured(block: usize, cell: u32, ticks: u64, child: u64, outermost: bool) {
    if block == 0 {
        return;
    }
    if outermost {
        add(block, cell, cell::TOTAL, ticks);
    }
    add(block, cell, cell::SELF, ticks.saturating_sub(child));
    if unsettled::is_child() {
        unsettled::note_most(cell + cell::MAX as u32, ticks);
    } else {
        own_field(block, cell, cell::MAX).fetch_max(ticks, Ordering::Relaxed);
    }
    // A timed site's cell has a histogram.
    count(block, cell, cell::BUCKETS + 8 * cell::bucket(ticks));
}

/// A return that the assembly did not finish: the instance is not the newest of this thread, or the
/// thread has no state, or is busy. Puts the original return address into the slot.
pub(crate) extern "C" fn exit(frame: &mut Frame) {
    let end = now();
    let slot = (&raw const frame.word).addr() as u64 + 8;
    // Before it leaves its lists, and before its word for this is used again.
    let outer = outer_of(instance::record(at_address(frame.registers[0])));
    let finish = |block, record: &Record, parent| finish(block, record, parent, outer, end);
    leave(frame.registers[0], slot, finish);
}

/// The offset of the record at an address.
fn at_address(record: u64) -> u32 {
    (record as usize - crate::arch::x86_64::area::records().addr()) as u32 & OFFSET
}

fn offset_of(record: &Record) -> u32 {
    at_address(core::ptr::from_ref(record).addr() as u64)
}

/// [`activation::outer`] of a measured call; 0 for others.
fn outer_of(record: &Record) -> u32 {
    let timed = record.on_return.load(Ordering::Relaxed) == Return::Time.routine();
    if timed { activation::outer(offset_of(record)) } else { 0 }
}

/// Takes the instance with that record off its lists, wherever they are, and restores the slot.
/// `finish` gets the block to count in (0: none), the record, and the parent.
pub(crate) fn leave(record: u64, slot: u64, finish: impl FnOnce(usize, &Record, u32)) {
    let at = at_address(record);
    let record = instance::record(at);
    let original = record.orig_ra.load(Ordering::Relaxed);
    let _ = thread::enter();
    let block = thread_state::own().map(|s| s.block.load(Ordering::Relaxed)).unwrap_or(0);
    let owner = thread_state::state_at(instance::header(at).owner.load(Ordering::Relaxed) as usize);
    if let Some(state) = owner
        && let Some(_critical) = Critical::begin(state)
        && let Some(parent) = lists::remove(state, at)
    {
        // Free, but nobody takes it while the state is critical.
        finish(block, record, parent);
        slot_word(slot).store(original, Ordering::Relaxed);
        return;
    }
    // Release pairs with the Acquire in `lists::look`: from here on nobody takes it for dead,
    // whatever its slot says.
    record.slot.store(slot | LEAVING, Ordering::Release);
    finish(block, record, 0);
    slot_word(slot).store(original, Ordering::Relaxed);
    // Release, likewise: its owner frees it.
    record.slot.store(DONE, Ordering::Release);
}
