//! Counting in the cells of the calling thread's block.
#![allow(unsafe_code)]

use crate::{thread_state, unsettled};
use core::arch::x86_64::_rdtsc;
use core::sync::atomic::{AtomicU64, Ordering};
use wire::cell;

pub(crate) fn now() -> u64 {
    // SAFETY: the instruction is there in every x86-64.
    unsafe { _rdtsc() }
}

/// Adds to a field of a cell of a block.
pub(crate) fn add(block: usize, cell: u32, field: usize, n: u64) {
    if unsettled::is_child() {
        return unsettled::note(cell + field as u32, n);
    }
    own_field(block, cell, field).fetch_add(n, Ordering::Relaxed);
}

/// Adds one.
pub(crate) fn count(block: usize, cell: u32, field: usize) {
    add(block, cell, field, 1);
}

/// Counts the time of a call, but not its return.
pub(crate) fn measured(block: usize, cell: u32, ticks: u64, child: u64, outermost: bool) {
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
pub(crate) fn own_field(block: usize, cell: u32, field: usize) -> &'static AtomicU64 {
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
