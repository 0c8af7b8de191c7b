//! One thread's side: the word that says whether it is inside a section, and since which period.
//!
//! # The word
//! `[period: 48 | depth: 16]`. Depth 0: outside. Depth n > 0: inside n nested sections, of which
//! the outermost began when `period` was the newest number the thread had seen. Only the owning
//! thread and its signal handlers write it; every writer of a grace period reads it.
//!
//! A handler that runs over `enter` or `leave` leaves the word as it found it, save for a newer
//! period at depth 0, which the interrupted `enter` overwrites with the older one that it had read.
//! An older period makes writers wait longer, never shorter.
#![cfg_attr(
    not(loom),
    allow(unreachable_pub, reason = "models reach these types through `rcu::model`")
)]

use crate::policy::Fences;
use percpu::sync::atomic::{AtomicBool, AtomicU64, Ordering};

/// The bits that count nested sections.
const DEPTH: u64 = 0xffff;

/// The distance between two period numbers: they share a word with the depth.
pub(crate) const STEP: u64 = DEPTH + 1;

/// Whether period `a` is older than `b`; right while they are less than 2^47 periods apart, also
/// over the wrap.
#[inline]
pub(crate) fn older(a: u64, b: u64) -> bool {
    (a.wrapping_sub(b) as i64) < 0
}

/// What a thread shares with the writers.
#[derive(Debug, Default)]
pub struct ReaderState {
    word: AtomicU64,
    /// The number of the thread that took the record. Written while taking it, read by a writer
    /// that wants to know whether it would wait for itself.
    thread: AtomicU64,
    /// Whether the owner, on its way out, has already been given time to leave an open section. For
    /// the owner.
    spared: AtomicBool,
    /// The thread's counters in the fast domains of `srcu`, which find their threads through this
    /// record. Never reset.
    #[cfg(feature = "alloc")]
    pub(crate) sections: [crate::srcu::Sections; crate::srcu::SLOTS],
}

impl ReaderState {
    /// Enters a section. `period` is the domain's newest period number.
    #[inline(always)]
    pub fn enter<F: Fences>(&self, period: &AtomicU64) {
        let word = self.word.load(Ordering::Relaxed);
        if word & DEPTH == 0 {
            // Acquire pairs with the Release that began the period: who enters with its number also
            // sees what was unlinked before it began.
            let now = period.load(Ordering::Acquire);
            // Release pairs with the Acquire in `blocks`: a writer that sees this section also sees
            // the end of the one before as past.
            self.word.store(now + 1, Ordering::Release);
        } else {
            self.deepen(word);
        }
        // Orders the store above before every load in the section; pairs with `heavy` in
        // `Machine::advance`. Nested entries need it too: a handler that interrupts the outermost
        // entry before its fence nests, and may not count on a fence that has not run.
        F::light();
    }

    #[inline]
    fn deepen(&self, word: u64) {
        if word & DEPTH == DEPTH {
            too_deep();
        }
        // Relaxed: writers only ask whether the depth is 0, which this does not change.
        self.word.store(word + 1, Ordering::Relaxed);
    }

    /// Leaves the innermost section. The thread is inside one.
    #[inline(always)]
    pub fn leave(&self) {
        let word = self.word.load(Ordering::Relaxed);
        debug_assert!(word & DEPTH != 0, "left a section that was not entered");
        // Release pairs with the Acquire in `blocks`: a writer that sees the end also sees every
        // access of the section as past.
        self.word.store(word - 1, Ordering::Release);
    }

    /// Whether the thread is inside a section. For the owner.
    #[inline]
    pub fn is_inside(&self) -> bool {
        self.word.load(Ordering::Relaxed) & DEPTH != 0
    }

    /// Whether the thread is inside a section that began before `period`. For writers.
    #[inline]
    pub(super) fn blocks(&self, period: u64) -> bool {
        // Acquire pairs with the Release stores in `enter` and `leave`.
        let word = self.word.load(Ordering::Acquire);
        word & DEPTH != 0 && older(word & !DEPTH, period)
    }

    /// Makes the record fit for its next owner. For the owner, or whoever adopted the record of a
    /// thread that is gone.
    pub(super) fn reset(&self) {
        // Release pairs with the Acquire in `blocks`, as in `leave`: the thread's last section is
        // over.
        self.word.store(0, Ordering::Release);
        self.spared.store(false, Ordering::Relaxed);
        self.set_thread(0);
    }

    /// False the first time that the owner asks, true from then on.
    pub(super) fn was_spared(&self) -> bool {
        let spared = self.spared.load(Ordering::Relaxed);
        self.spared.store(true, Ordering::Relaxed);
        spared
    }

    pub(super) fn set_thread(&self, thread: u64) {
        // Relaxed: compared with one's own number only, and what a thread wrote itself it also
        // reads.
        self.thread.store(thread, Ordering::Relaxed);
    }

    #[inline]
    pub(super) fn thread(&self) -> u64 {
        self.thread.load(Ordering::Relaxed)
    }
}

#[cold]
#[inline(never)]
fn too_deep() -> ! {
    panic!("rcu: {DEPTH} sections are nested in this thread: guards are being leaked");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn older_holds_over_the_wrap() {
        assert!(older(0, STEP));
        assert!(!older(STEP, STEP));
        assert!(!older(STEP, 0));
        assert!(older(0_u64.wrapping_sub(STEP), 0));
        assert!(!older(0, 0_u64.wrapping_sub(STEP)));
    }
}
