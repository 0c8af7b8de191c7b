//! Which call of a function is the outermost one of its thread: the time of that one is the
//! function's, and what it calls itself again is part of it.
//!
//! The cell of a timed function names the newest instance that was made for it, and each instance
//! the one that was the newest before. The outermost has none before; for others it has to be seen
//! that the one before is alive still, for its frame may have been left by longjmp or an exception
//! without anybody's noticing. The hit path sees that on the thread's own stack, by the contents of
//! the slot, when the newer one returns ([`exit`](crate::arch::x86_64::exit)); everything else is
//! done here. On stacks that a program makes for itself, and in threads whose stack is not known,
//! each call counts as an outermost one: nobody can say whether what was left there is still
//! mapped. Cells are in memory that others may write: what they name is believed only as far as the
//! records, which are the engine's own, agree.
#![allow(unsafe_code)]

use crate::arch::x86_64::exit::Return;
use crate::arch::x86_64::{area, tls};
use crate::instance::{self, DONE, LEAVING, OFFSET};
use crate::thread_state::{self, State};
use crate::{host, lists, unsettled};
use core::ops::Range;
use core::sync::atomic::{AtomicU64, Ordering};
use wire::cell;

/// The bits of a word that can be an instance's offset.
const VALID: u32 = OFFSET & !(area::STUB as u32 - 1);

/// The field of a cell that names the newest instance.
fn newest(block: usize, cell: u32) -> &'static AtomicU64 {
    let place = core::ptr::with_exposed_provenance(block + cell as usize + cell::ACTIVE);
    // SAFETY: the cell lies in every block, as whoever armed the site has promised.
    unsafe { &*place }
}

/// A measured call begins, with the instance `at`.
pub(crate) fn begin(block: usize, cell: u32, at: u32) {
    if unsettled::is_child() {
        // The block says what the parent does. `rebuild` follows.
        instance::record(at).next_free.store(0, Ordering::Relaxed);
        return;
    }
    let newest = newest(block, cell);
    let before = newest.load(Ordering::Relaxed) as u32;
    newest.store(u64::from(at), Ordering::Relaxed);
    instance::record(at).next_free.store(before, Ordering::Relaxed);
}

/// It ends: names the one that [`outer`] has found.
pub(crate) fn end(block: usize, cell: u32, at: u32, outer: u32) {
    if unsettled::is_child() {
        return;
    }
    let newest = newest(block, cell);
    // Not if it was not the newest: then it returns out of order, from another stack.
    if newest.load(Ordering::Relaxed) == u64::from(at) {
        newest.store(u64::from(outer), Ordering::Relaxed);
    }
}

/// The next older instance of the same function that is alive, for a measured call that returns or
/// is closed now, while it is on its lists; 0: it is the outermost.
///
/// # Context
/// Signal-safe. Linear in the calls that are pending, but not where calls end in order. No system
/// call.
pub(crate) fn outer(at: u32) -> u32 {
    let record = instance::record(at);
    let before = record.next_free.load(Ordering::Relaxed) & VALID;
    if before == 0 {
        return 0;
    }
    if is_outer(before, at) {
        return before;
    }
    // That one was left, or is on another stack; there may be one below it.
    let mut older = record.parent.load(Ordering::Relaxed) & OFFSET;
    while older != 0 && !lists::is_header(older) {
        if is_outer(older, at) {
            return older;
        }
        older = instance::record(older).parent.load(Ordering::Relaxed) & OFFSET;
    }
    0
}

/// Whether `other` is an active call of the same function by this thread, around that of `at`.
fn is_outer(other: u32, at: u32) -> bool {
    let (its, own) = (instance::record(other), instance::record(at));
    let same = other != at
        && !lists::is_header(other)
        && its.cell.load(Ordering::Relaxed) == own.cell.load(Ordering::Relaxed)
        && its.on_return.load(Ordering::Relaxed) == Return::Time.routine();
    let owner = instance::header(other).owner.load(Ordering::Relaxed);
    if !same || thread_state::state_at(owner as usize).is_none() {
        return false;
    }
    let slot = its.slot.load(Ordering::Acquire);
    let around = own.slot.load(Ordering::Relaxed) & !LEAVING;
    if slot == DONE || slot < around || slot & LEAVING != 0 {
        return false;
    }
    // The place of the return address of the call that returns now is there, and so is everything
    // above it on the thread's own stack. On other stacks each call counts for itself.
    let own_stack =
        thread_state::own().is_some_and(|s| s.is_on_stack(around) && s.is_on_stack(slot));
    if slot != around && !own_stack {
        return false;
    }
    let place = core::ptr::with_exposed_provenance::<AtomicU64>(slot as usize);
    // SAFETY: as just said; slots are aligned.
    lists::leads_to(unsafe { &*place }.load(Ordering::Relaxed), other)
}

/// Names the newest instances of a state's active calls in its block, which is new.
pub(crate) fn rebuild(state: &State) {
    let block = state.block.load(Ordering::Relaxed);
    let mut at = state.top.load(Ordering::Relaxed);
    while at != 0 && !lists::is_header(at) {
        let record = instance::record(at);
        if record.on_return.load(Ordering::Relaxed) == Return::Time.routine() {
            let newest = newest(block, record.cell.load(Ordering::Relaxed));
            // The list begins with the newest.
            if newest.load(Ordering::Relaxed) == 0 {
                newest.store(u64::from(at), Ordering::Relaxed);
            }
        }
        at = record.parent.load(Ordering::Relaxed) & OFFSET;
    }
}

/// Bytes that the first thread's stack may grow to, at least: the kernel puts nothing else there.
const FIRST_STACK: u64 = 8 << 20;

/// The calling thread's own stack, if it is the process's first one: up to where the kernel began.
pub(crate) fn first_stack() -> Range<u64> {
    let end = host::first_stack_end();
    end.saturating_sub(FIRST_STACK)..end
}

/// The calling thread's own stack, which the C library has made: `size` bytes, which end with the
/// thread's control block and what else it keeps there.
pub(crate) fn made_stack(size: usize) -> Range<u64> {
    /// A guard, and what is beside the control block.
    const MARGIN: u64 = 8192;
    let end = tls::control_block();
    end.saturating_sub((size as u64).saturating_sub(MARGIN))..end
}

/// Notes down the state's stack. From any frame on it to its end everything is mapped as long as
/// the thread lives.
pub(crate) fn note_stack(state: &State, stack: &Range<u64>) {
    state.stack_low.store(stack.start, Ordering::Relaxed);
    state.stack_end.store(stack.end, Ordering::Relaxed);
}
