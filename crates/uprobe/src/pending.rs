//! Calls whose return is seen at the function's exits: from entry to exit they are on a shadow
//! stack ([`crate::shadow`]).
//!
//! Which call of a function is the outermost one on its stack is decided at its entry: the cell of
//! a timed function names the newest entry that was made for it, wherever that is. If it is on this
//! stack and pending, the new call is part of that one. If it is on another stack, or gone, the
//! youngest calls of this stack are looked through. What cells name is believed only as far as the
//! entries agree, for others can write to their memory.
#![allow(unsafe_code)]

use crate::counting::{count, measured, now, own_field};
use crate::recorder::{self, Loss};
use crate::shadow::{ENTRY, Entry, NESTED, Stack};
use crate::site_table::{self, Action, Site};
use crate::thread_state::{self, State};
use crate::{stacks, unsettled};
use core::ptr;
use core::sync::atomic::{AtomicU64, Ordering};
use wire::cell;

/// How many of the youngest calls of a stack are looked through for one of the same function.
const LOOKED_THROUGH: usize = 64;

/// Makes an entry for a timed call of the site with this number, whose return address is at `slot`.
/// False: there is no room for it.
///
/// # Context
/// Signal-safe. A system call where a stack is used for the first time.
pub(crate) fn begin(state: &State, index: u32, cell: u32, slot: u64) -> bool {
    let Some(stack) = settle(state, slot) else { return false };
    let block = state.block.load(Ordering::Relaxed);
    // In a fork child the block says still what the parent does.
    let newest = (!unsettled::is_child()).then(|| newest(block, cell));
    let hint = newest.map_or(0, |newest| newest.load(Ordering::Relaxed));
    let before = part_of(stack, hint, cell);
    let Some(entry) = on_thread(stack, index, cell, slot) else { return false };
    entry.before.store(before, Ordering::Relaxed);
    if let Some(newest) = newest {
        newest.store(address(entry) as u64, Ordering::Relaxed);
    }
    entry.commit(slot);
    entry.start.store(now(), Ordering::Relaxed);
    true
}

/// Makes an entry for a call whose return a consumer wants to see, above those of other consumers
/// of the same call; [`settle`] goes before the first of them.
///
/// # Context
/// As [`begin`].
pub(crate) fn begin_call(
    stack: &Stack,
    index: u32,
    consumer: u32,
    slot: u64,
) -> Option<&'static Entry> {
    let entry = on_thread(stack, index, consumer, slot)?;
    entry.before.store(0, Ordering::Relaxed);
    entry.start.store(0, Ordering::Relaxed);
    entry.commit(slot);
    Some(entry)
}

fn on_thread(stack: &Stack, index: u32, cell: u32, slot: u64) -> Option<&'static Entry> {
    if !stack.has_room() {
        stacks::grow(stack);
    }
    fill(stack, index, cell, slot)
}

/// Makes an entry for a call whose return address is at an address, without its slot. None: there
/// is no room.
pub(crate) fn fill(stack: &Stack, index: u32, cell: u32, at: u64) -> Option<&'static Entry> {
    let entry = stack.begin()?;
    let place = ptr::with_exposed_provenance::<AtomicU64>(at as usize);
    // SAFETY: the word that holds the return address of the function that is being entered.
    let caller = unsafe { &*place };
    entry.child.store(0, Ordering::Relaxed);
    entry.caller.store(caller.load(Ordering::Relaxed), Ordering::Relaxed);
    entry.cell.store(cell, Ordering::Relaxed);
    entry.site.store(index, Ordering::Relaxed);
    Some(entry)
}

/// The shadow stack beside `slot`, where a call is about to begin: those that it proves to be left
/// are taken off.
pub(crate) fn settle(state: &State, slot: u64) -> Option<&'static Stack> {
    let stack = stacks::of(state, slot)?;
    sweep(state, stack, slot);
    Some(stack)
}

/// Takes off what a call or an exit at `slot` proves to be left.
pub(crate) fn sweep(state: &State, stack: &Stack, slot: u64) {
    stack.sweep(slot, |at, entry| left(state, at, entry));
}

/// Whether a call of the site with this number at this slot is pending as the newest one.
pub(crate) fn is_newest(slot: u64, index: u32) -> bool {
    let Some(own) = thread_state::own() else { return false };
    stacks::of(own, slot).is_some_and(|stack| stack.has(slot) && is_newest_on(stack, slot, index))
}

/// The same on a stack.
pub(crate) fn is_newest_on(stack: &Stack, slot: u64, index: u32) -> bool {
    let top = stack.entry(stack.top());
    let its = (top.slot.load(Ordering::Relaxed), top.site.load(Ordering::Relaxed));
    !stack.is_empty() && its == (slot, index)
}

/// What was remembered of a call. Not moved: that may be a call of the C library's memcpy, which
/// may be probed, and uses registers that slow paths do not save.
pub(crate) struct Taken {
    pub(crate) cell: u32,
    pub(crate) start: u64,
    pub(crate) child: u64,
    pub(crate) before: u64,
    at: usize,
    /// What it was nested in, on the same stack.
    pub(crate) outer: Option<&'static Entry>,
}

impl Taken {
    pub(crate) fn none() -> Self {
        Self { cell: 0, start: 0, child: 0, before: 0, at: 0, outer: None }
    }

    /// Ticks that were spent in it count as spent in a call by the one around it.
    pub(crate) fn hand_up(&self, ticks: u64) {
        if let Some(outer) = self.outer {
            outer.child.fetch_add(ticks, Ordering::Relaxed);
        }
    }
}

/// Takes off the newest entry of a call of the function whose entry is the site with this number
/// and whose return address is at `slot`, and what is younger: that was left. False: there is none,
/// and all that the exit proves to be left is taken off.
pub(crate) fn take(state: &State, function: u32, slot: u64, taken: &mut Taken) -> bool {
    stacks::of(state, slot).is_some_and(|stack| take_off(state, stack, function, slot, taken))
}

/// The same on a stack.
pub(crate) fn take_off(
    state: &State,
    stack: &Stack,
    function: u32,
    slot: u64,
    taken: &mut Taken,
) -> bool {
    let Some(at) = stack.find(slot, function) else {
        sweep(state, stack, slot);
        return false;
    };
    while stack.top() > at {
        let (above, younger) = (stack.top(), stack.entry(stack.top()));
        if younger.slot.load(Ordering::Relaxed) != 0 {
            left(state, above, younger);
        }
        stack.pop();
    }
    let entry = stack.entry(at);
    taken.cell = entry.cell.load(Ordering::Relaxed);
    taken.start = entry.start.load(Ordering::Relaxed);
    taken.child = entry.child.load(Ordering::Relaxed);
    taken.before = entry.before.load(Ordering::Relaxed);
    taken.at = at;
    taken.outer = Some(entry.below());
    stack.pop();
    true
}

/// A timed function is left at one of its exits.
///
/// # Context
/// Signal-safe. Linear in the calls that were left.
pub(crate) fn end(state: &State, exit: &Site, slot: u64, end: u64) {
    let block = state.block.load(Ordering::Relaxed);
    let cell = exit.cell.load(Ordering::Relaxed);
    let mut call = Taken::none();
    if !take(state, exit.index.load(Ordering::Relaxed), slot, &mut call) {
        return without_entry(block, cell);
    }
    ended(state, exit, &call, end);
}

/// A call that was taken off has ended by this exit.
pub(crate) fn ended(state: &State, exit: &Site, call: &Taken, end: u64) {
    let block = state.block.load(Ordering::Relaxed);
    let cell = exit.cell.load(Ordering::Relaxed);
    let function = site_table::site(exit.index.load(Ordering::Relaxed));
    if call.start < function.since.load(Ordering::Relaxed) {
        // Left over from when the probe was there before; this call had begun when it came back.
        return;
    }
    let ticks = end.saturating_sub(call.start);
    call.hand_up(ticks);
    forget(block, cell, call.at, call.before);
    count(block, cell, cell::RETURNS);
    measured(block, cell, ticks, call.child, call.before & NESTED == 0);
}

/// An exit whose entry is gone: entered before the probe was there, or not remembered for want of
/// room, and counted as that; or taken for left, because something else came to stand at its place
/// on the stack, which was copied away and back.
fn without_entry(block: usize, cell: u32) {
    if block == 0 || unsettled::is_child() {
        return;
    }
    let unwound = own_field(block, cell, cell::UNWOUND);
    if unwound.load(Ordering::Relaxed) != 0 {
        unwound.fetch_sub(1, Ordering::Relaxed);
        count(block, cell, cell::UNTIMED);
        recorder::lost(Loss::Overlap);
    }
}

/// An entry whose frame was left is about to be taken off.
fn left(state: &State, at: usize, entry: &Entry) {
    let child = entry.child.load(Ordering::Relaxed);
    entry.below().child.fetch_add(child, Ordering::Relaxed);
    let (block, cell) = (state.block.load(Ordering::Relaxed), entry.cell.load(Ordering::Relaxed));
    let Some(site) = timed(entry).filter(|_| block != 0) else { return };
    // What was pending when its probe was taken away has returned, or not: nobody knows. And the
    // block may be another one by now, which has no such cell.
    if entry.start.load(Ordering::Relaxed) < site.since.load(Ordering::Relaxed) {
        return;
    }
    forget(block, cell, at, entry.before.load(Ordering::Relaxed));
    count(block, cell, cell::UNWOUND);
}

/// The site of an entry, if its calls are timed.
pub(crate) fn timed(entry: &Entry) -> Option<&'static Site> {
    let site = site_table::site(entry.site.load(Ordering::Relaxed));
    matches!(site.action(), Some(Action::Time { .. })).then_some(site)
}

/// The calling thread, whose first state this is, is at its end: what was called below `slot` on
/// its own stack is left, and what was called above it where something else stands by now.
pub(crate) fn abandon(state: &State, slot: u64) {
    let Some(stack) = Stack::at(state.own_shadow.load(Ordering::Relaxed)) else { return };
    sweep(state, stack, slot);
    while !stack.is_empty() {
        let (at, entry) = (stack.top(), stack.entry(stack.top()));
        // SAFETY: the thread runs on that stack, of which everything above its frames is mapped.
        if unsafe { entry.is_as_it_was(0) } {
            return;
        }
        left(state, at, entry);
        stack.pop();
    }
}

/// The thread whose first state this was has ended, and with it all calls on its own stack.
pub(crate) fn bury(state: &State) {
    if let Some(stack) = Stack::at(state.own_shadow.load(Ordering::Relaxed)) {
        sweep(state, stack, u64::MAX - 1);
    }
}

/// The field of a cell that names the newest entry.
fn newest(block: usize, cell: u32) -> &'static AtomicU64 {
    own_field(block, cell, cell::ACTIVE)
}

/// A call is not pending any more: the cell names what it named before.
fn forget(block: usize, cell: u32, at: usize, before: u64) {
    if block == 0 || unsettled::is_child() {
        return;
    }
    let newest = newest(block, cell);
    // Another one, if calls end out of order on other stacks.
    if newest.load(Ordering::Relaxed) == at as u64 {
        newest.store(before & !NESTED, Ordering::Relaxed);
    }
}

fn address(entry: &Entry) -> usize {
    ptr::from_ref(entry).expose_provenance()
}

/// [`Entry::before`] of a new call on this stack, whose function's cell names `hint`.
fn part_of(stack: &Stack, hint: u64, cell: u32) -> u64 {
    if hint == 0 {
        return 0;
    }
    let same = |entry: &Entry| {
        let its = entry.cell.load(Ordering::Relaxed) == cell && timed(entry).is_some();
        // SAFETY: what is pending on this stack has a slot above that of the new call: on the same
        // page, or on the thread's own stack, of which everything above is mapped.
        its && unsafe { entry.is_as_it_was(0) }
    };
    let (here, bottom) = (hint as usize, stack.bottom());
    let mine = (bottom..stack.end.load(Ordering::Relaxed)).contains(&here);
    let entry =
        mine && here > bottom && here <= stack.top() && (here - bottom).is_multiple_of(ENTRY);
    if entry && same(stack.entry(here)) {
        return hint | NESTED;
    }
    if !mine && is_above(stack, here, cell) {
        return hint & !NESTED | NESTED;
    }
    // To be named again: a call on another stack.
    let other = if mine { 0 } else { hint & !NESTED };
    match stack.youngest(LOOKED_THROUGH, same) {
        Some(at) if mine => at as u64 | NESTED,
        Some(_) => other | NESTED,
        None => other,
    }
}

/// Whether the entry at an address is of a pending call of the function with that cell on a page
/// that the calls on this page come from.
fn is_above(stack: &Stack, at: usize, cell: u32) -> bool {
    const PAGES: usize = 64;
    let mut next = Stack::at(stack.above.load(Ordering::Relaxed));
    for _ in 0..PAGES {
        let Some(stack) = next else { return false };
        let bottom = stack.bottom();
        if at > bottom && at <= stack.top() && (at - bottom).is_multiple_of(ENTRY) {
            let entry = stack.entry(at);
            let its = entry.cell.load(Ordering::Relaxed) == cell;
            return its && entry.slot.load(Ordering::Relaxed) != 0 && timed(entry).is_some();
        }
        next = Stack::at(stack.above.load(Ordering::Relaxed));
    }
    false
}

/// Names the newest calls on the thread's own stack in its block, which is new.
pub(crate) fn rebuild(state: &State) {
    let Some(stack) = Stack::at(state.own_shadow.load(Ordering::Relaxed)) else { return };
    let block = state.block.load(Ordering::Relaxed);
    stack.youngest(usize::MAX, |entry| {
        if timed(entry).is_some() {
            let newest = newest(block, entry.cell.load(Ordering::Relaxed));
            if newest.load(Ordering::Relaxed) == 0 {
                newest.store(address(entry) as u64, Ordering::Relaxed);
            }
        }
        false
    });
}
