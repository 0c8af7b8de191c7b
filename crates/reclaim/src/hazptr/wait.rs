//! The calls that wait: for all that was retired, for one owner's objects, for one address.
//!
//! # Why `barrier` is round, wait, round, wait
//! Take an object x whose last protection ended before the call. The takes of one list have an order that all threads agree on (`lists.rs`), so a round Q that takes x
//! does so before or after our own take of that list.
//! - After our first take: Q looks at the slots after the call began and frees x.
//! - Before it: we see that Q is in progress, and the first wait lets it end. If Q had looked before the protection ended, x is then in `kept`, or in the hand of another
//!   round that took it from there before our first take of `kept` (waited for as well) or after it (which frees it).
//!
//! So after the first wait x is gone, or in `kept`, or in the hand of a round that will free it. Our second round takes what is in `kept`; a round that took x before that is
//! seen by the second wait.
//!
//! A round that met a wildcard frees nothing, which "will free it" does not allow for: if there was one meanwhile, all of it is done again.

use super::block;
use super::domain::Domain;
use super::owner::Owner;
use super::round::is_protected;
use super::slot::Seen;
use super::thread;
use crate::asymmetric::{Asymmetric, Fences};
use crate::backoff::Backoff;
use core::ptr;
use core::sync::atomic::Ordering;

impl Domain {
    /// Returns when every object that was retired before the call and is not protected has been reclaimed: before code or data that deleters use goes away.
    ///
    /// Objects that are protected when it looks stay retired. It does not wait for readers, except for those that are between the two stores of
    /// [`protect_wait_free`](super::Hazard::protect_wait_free) and may be about to get any object.
    ///
    /// # Context
    /// Blocks until the rounds of other threads that are in progress end; runs deleters. Not for signal handlers.
    ///
    /// # Panics
    /// In a deleter: it would wait for its own end.
    pub fn barrier(&self) {
        assert!(!thread::in_round(), "barrier() called in a deleter would wait for itself");
        let mut backoff = Backoff::new();
        loop {
            // Relaxed, both times: the rounds that count are those that the waits see end, and each had counted before.
            let wildcards = self.counts.wildcard_rounds.load(Ordering::Relaxed);
            for _ in 0..2 {
                self.round();
                self.wait_for_rounds();
            }
            if self.counts.wildcard_rounds.load(Ordering::Relaxed) == wildcards {
                break;
            }
            backoff.wait();
        }
        if let Some(global) = self.heir() {
            global.barrier();
        }
    }

    /// Returns when everything that was retired in the name of `owner` has been reclaimed, also what is protected at first: it waits for those readers.
    ///
    /// Nobody may retire for `owner` meanwhile, or it may wait for those objects too.
    ///
    /// # Context
    /// Blocks until the readers are done; runs deleters, of other owners too. Not for signal handlers.
    ///
    /// # Panics
    /// In a deleter.
    pub fn reclaim_owner(&self, owner: &Owner) {
        assert!(!thread::in_round(), "reclaim_owner() called in a deleter might wait for itself");
        let mut backoff = Backoff::new();
        while owner.pending() != 0 {
            self.round();
            if let Some(global) = self.heir() {
                global.round();
            }
            if owner.pending() != 0 {
                backoff.wait();
            }
        }
    }

    /// Waits until every round of this domain that was in progress at the call has ended.
    fn wait_for_rounds(&self) {
        let own = thread::own();
        for block in block::all() {
            if own.is_some_and(|own| ptr::eq(own, block)) {
                continue;
            }
            // Acquire pairs with the Release at the end of a round. That its beginning is seen follows from the order of the takes, see the module's text.
            let word = block.round.domain.load(Ordering::Acquire);
            if !self.is_round_of_this(word) {
                continue;
            }
            let mut backoff = Backoff::new();
            while block.is_alive() && block.round.domain.load(Ordering::Acquire) == word {
                backoff.wait();
            }
        }
    }

    /// Where objects of this domain may be besides, in a fork child: see `adopt`.
    fn heir(&self) -> Option<&'static Domain> {
        let global = Domain::global();
        (percpu::fork::generation() > 1 && !ptr::eq(global, self)).then_some(global)
    }
}

/// Returns when nobody protects `object`, which no new reader can find any more. For an owner that frees it itself instead of retiring it.
///
/// # Context
/// Blocks until the readers that protect it are done; one system call per look. Not for signal handlers, and never returns while the calling thread itself
/// protects the object.
///
/// # Examples
/// ```
/// use reclaim::hazptr;
/// use std::ptr;
/// use std::sync::atomic::{AtomicPtr, Ordering};
///
/// let current = AtomicPtr::new(Box::into_raw(Box::new(5)));
/// let old = current.swap(ptr::null_mut(), Ordering::AcqRel);
/// hazptr::synchronize(old);
/// // SAFETY: it came from a box, no reader can find it and none still has it.
/// drop(unsafe { Box::from_raw(old) });
/// ```
pub fn synchronize<T>(object: *const T) {
    let mut backoff = Backoff::new();
    loop {
        // Pairs with `light()` in the readers: see `slot.rs`.
        Asymmetric::new().heavy();
        // A wildcard is a reader that may be about to get the object: gone at the next look unless it is stalled there.
        let mut anything = false;
        block::for_each_protected(|seen| anything |= seen == Seen::Anything);
        if !anything && !is_protected(object.addr()) {
            return;
        }
        backoff.wait();
    }
}
