//! What the hit path leaves to Rust: a thread's first hit, an empty free list, instances that are
//! not nested as usual, hits while a consumer runs.
//!
//! Called by the assembly with all registers saved, vector state included. Signal-safe, as the hit
//! path is: a handler may interrupt any line and come in here again.
#![allow(unsafe_code)]

use crate::arch::x86_64::area;
use crate::arch::x86_64::exit::Return;
use crate::counting::{count, measured, now, own_field};
use crate::goroutine_calls as on_goroutine;
use crate::goroutines::G;
use crate::instance::{self, DONE, LEAVING, MAX_CHAIN, OFFSET, Record};
use crate::recorder::{self, Loss};
use crate::site_table::{self, Action, SKIPS_RED_ZONE, Site};
use crate::thread_state::{self, Busy, Critical, State};
use crate::{activation, chunk, lists, pending, thread};
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

/// An entry or an exit that the assembly did not finish. True: an instance was made, go to its
/// stub; false: go on at the site's `resume`. Either address is in `frame.word`, or below the slot.
pub(crate) extern "C" fn entry(frame: &mut Frame) -> bool {
    let index = frame.word as u32;
    let site = site_table::site(index);
    let skipped = if site.flags.load(Ordering::Relaxed) & SKIPS_RED_ZONE == 0 { 0 } else { 128 };
    let slot = (&raw const frame.word).addr() as u64 + 8 + skipped;
    match hit(site, index, slot, None) {
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

/// An entry or an exit that the assembly did not finish where there is no stack: on one of the
/// engine's, with signals blocked. `g` is the goroutine's descriptor. The result is where to go on.
pub(crate) extern "C" fn entry_elsewhere(index: u32, stack_pointer: u64, g: u64) -> u64 {
    let site = site_table::site(index);
    // There are no instances.
    let _ = hit(site, index, stack_pointer, Some(G(g)));
    site.resume.load(Ordering::Relaxed)
}

/// A hit of a site that counts, by whatever way. `slot` is where the return address is, if the
/// action is about returns: on the stack of the goroutine `g`, if there is one.
pub(crate) fn hit(site: &Site, index: u32, slot: u64, g: Option<G>) -> Made {
    let Some(action) = site.action() else { return Made::Nothing };
    if matches!(action, Action::Leave { .. }) {
        left(site, slot, g);
        return Made::Nothing;
    }
    let timed = matches!(action, Action::Time { .. } | Action::CountReturn { .. });
    let same = || match g {
        Some(g) => site.loops() && on_goroutine::is_newest(g, slot, index),
        None => is_same_call(site, index, slot),
    };
    if timed && same() {
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
    if site.has_exits() {
        count(block, cell, cell::CALLS);
        let begun = match g {
            Some(g) => on_goroutine::begin(state, index, cell, g, slot),
            None => pending::begin(state, index, cell, slot),
        };
        if !begun {
            count(block, cell, cell::UNTIMED);
            recorder::lost(Loss::Depth);
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

fn untimed(block: usize, cell: u32, why: Option<Loss>) -> Made {
    count(block, cell, cell::CALLS);
    if let Some(loss) = why {
        count(block, cell, cell::UNTIMED);
        recorder::lost(loss);
    }
    Made::Nothing
}

/// An exit of a timed function. Whoever was not seen to enter is not seen to leave.
fn left(exit: &Site, slot: u64, g: Option<G>) {
    let end = now();
    let may_count = match thread_state::busy() {
        Busy::No | Busy::Forking => true,
        Busy::Agent => thread::escaped(slot).is_some(),
        Busy::Own | Busy::NoBlock => false,
    };
    if let Some(state) = may_count.then(thread::enter).flatten() {
        match g {
            Some(g) => on_goroutine::end(state, exit, g, slot, end),
            None => pending::end(state, exit, slot, end),
        }
    }
}

pub(crate) fn is_same_call(site: &Site, index: u32, slot: u64) -> bool {
    if !site.loops() {
        return false;
    }
    if site.has_exits() {
        return pending::is_newest(slot, index);
    }
    let content = slot_word(slot).load(Ordering::Relaxed);
    area::offset_of(content)
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
    if !area::EXIST {
        return None;
    }
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

/// A return that the assembly did not finish: the instance is not the newest of this thread, or the
/// thread has no state, or is busy. Puts the original return address into the slot.
pub(crate) extern "C" fn exit(frame: &mut Frame) {
    if !area::EXIST {
        return;
    }
    let end = now();
    let slot = (&raw const frame.word).addr() as u64 + 8;
    // Before it leaves its lists, and before its word for this is used again.
    let outer = outer_of(instance::record(at_address(frame.registers[0])));
    let finish = |block, record: &Record, parent| finish(block, record, parent, outer, end);
    leave(frame.registers[0], slot, finish);
}

/// The offset of the record at an address.
fn at_address(record: u64) -> u32 {
    (record as usize - area::records().addr()) as u32 & OFFSET
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
