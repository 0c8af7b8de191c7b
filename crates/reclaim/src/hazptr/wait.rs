//! The calls that wait: for all that was retired, for one owner's objects, for one address.
//!
//! # Why `barrier` is round, wait, round, wait
//! Take an object x whose last protection ended before the call. The takes of one list have an
//! order that all threads agree on (`lists.rs`), so a round Q that takes x does so before or after
//! our own take of that list.
//! - After our first take: Q looks at the slots after the call began and frees x.
//! - Before it: we see that Q is in progress, and the first wait lets it end. If Q had looked
//!   before the protection ended, x is then in `kept`, or in the hand of another round that took it
//!   from there before our first take of `kept` (waited for as well) or after it (which frees it).
//!
//! So after the first wait x is gone, or in `kept`, or in the hand of a round that will free it.
//! Our second round takes what is in `kept`; a round that took x before that is seen by the second
//! wait.
//!
//! A round that met a wildcard frees nothing, which "will free it" does not allow for: if there was
//! one meanwhile, all of it is done again.
//!
//! # What deleters retire
//! A thread in a round retires to a list apart: [`BY_BARRIERS`] if the round is a barrier's, else
//! [`BY_DELETERS`]. The first is taken by barriers only, and each goes on until it is empty and
//! nobody had taken it with something on it meanwhile. Who takes it says so before, in `followed`,
//! and has said before that it is in a round. So if we find the list empty because another barrier
//! has taken an object of ours, we find `followed` changed too, and wait for that round.
//! [`Domain::drain`] does the same with both lists, barrier by barrier.

use super::block::{self, BY_BARRIERS, BY_DELETERS, LISTS};
use super::domain::Domain;
use super::order::{Kind, Order};
use super::owner::Owner;
use super::round::is_protected;
use super::slot::Seen;
use super::thread;
use crate::asymmetric::{Asymmetric, Fences};
use crate::backoff::Backoff;
use core::{fmt, mem, ptr};
use percpu::sync::atomic::Ordering;

/// The calling thread protects what it wants to wait for, and would wait for itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SelfProtected;

impl fmt::Display for SelfProtected {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the calling thread protects the object itself, and would wait for itself")
    }
}

impl core::error::Error for SelfProtected {}

impl Domain {
    /// Returns when every object that was retired before the call and is not protected has been
    /// reclaimed: before code or data that deleters use goes away.
    ///
    /// Objects that are protected when it looks stay retired. It does not wait for readers, except
    /// for those that are between the two stores of
    /// [`protect_wait_free`](super::Hazard::protect_wait_free) and may be about to get any object.
    ///
    /// What the deleters that it runs retire themselves is reclaimed as well, down to the end of
    /// such a chain. What deleters retire on other threads, in rounds that run at the same time, is
    /// not waited for: [`drain`](Self::drain) does that too.
    ///
    /// # Context
    /// Blocks until the rounds of other threads that are in progress end; runs deleters. Not for
    /// signal handlers.
    ///
    /// # Panics
    /// In a deleter: it would wait for its own end. When a deleter panics, after all have run: the
    /// first panic goes on here.
    pub fn barrier(&self) {
        assert!(!thread::in_round(), "barrier() called in a deleter would wait for itself");
        let mut order = Order::of(Kind::Barrier);
        self.run_barrier(&mut order);
        order.panics.resume();
    }

    /// [`barrier`](Self::barrier) that goes on until deleters retire nothing any more, on whichever
    /// thread they run.
    ///
    /// For a domain of one's own. In one that others use as well it waits for their deleters too,
    /// and as long as those go on retiring; retire for an [`Owner`] there, and wait with
    /// [`reclaim_owner`](Self::reclaim_owner).
    ///
    /// # Context
    /// As for [`barrier`](Self::barrier).
    ///
    /// # Panics
    /// As [`barrier`](Self::barrier).
    pub fn drain(&self) {
        assert!(!thread::in_round(), "drain() called in a deleter would wait for itself");
        let mut order = Order::of(Kind::Barrier);
        loop {
            let followed = [BY_DELETERS, BY_BARRIERS].map(|list| self.followed(list));
            self.run_barrier(&mut order);
            if self.has_followed(BY_DELETERS, followed[0])
                && self.has_followed(BY_BARRIERS, followed[1])
            {
                return order.panics.resume();
            }
        }
    }

    /// Returns when everything that was retired in the name of `owner` has been reclaimed, also
    /// what is protected at first: it waits for those readers. What deleters retire for the same
    /// owner belongs to it.
    ///
    /// Nobody else may retire for `owner` meanwhile, or it may wait for those objects too. A token
    /// on its way between threads ([`Detached`](super::Detached)) that this thread keeps is waited
    /// for like any reader, that is, for ever.
    ///
    /// # Context
    /// Blocks until the readers are done; runs deleters, of other owners too. Not for signal
    /// handlers.
    ///
    /// # Panics
    /// In a deleter. When the calling thread protects an object of the owner, for which it would
    /// wait for ever; [`try_reclaim_owner`](Self::try_reclaim_owner) returns an error instead. When
    /// a deleter panics, at the end: the first panic goes on here.
    #[track_caller]
    pub fn reclaim_owner(&self, owner: &Owner) {
        if let Err(e) = self.try_reclaim_owner(owner) {
            panic!("hazptr: {e}");
        }
    }

    /// As [`reclaim_owner`](Self::reclaim_owner).
    ///
    /// # Errors
    /// [`SelfProtected`]: the calling thread protects an object of the owner. The others that
    /// nobody protects have been reclaimed.
    ///
    /// # Panics
    /// In a deleter. When a deleter panics, at the end: the first panic goes on here.
    pub fn try_reclaim_owner(&self, owner: &Owner) -> Result<(), SelfProtected> {
        assert!(!thread::in_round(), "reclaim_owner() called in a deleter might wait for itself");
        let mut order = Order::of(Kind::Ordinary);
        order.watched = Some(owner.as_ref());
        let mut backoff = Backoff::new();
        while owner.pending() != 0 && !order.is_self_protected {
            self.run_round(&mut order);
            if let Some(global) = self.heir() {
                global.run_round(&mut order);
            }
            if owner.pending() != 0 && !order.is_self_protected {
                backoff.wait();
            }
        }
        order.panics.resume();
        if order.is_self_protected { Err(SelfProtected) } else { Ok(()) }
    }

    fn run_barrier(&self, order: &mut Order) {
        let mut backoff = Backoff::new();
        loop {
            // Relaxed, both times: the rounds that count are those that the waits see end, and each
            // had counted before.
            let wildcards = self.counts.wildcard_rounds.load(Ordering::Relaxed);
            order.kind = Kind::Barrier;
            let followed = self.followed(BY_BARRIERS);
            let unwound = Unwound(self);
            for _ in 0..2 {
                self.run_round(order);
                self.wait_for_rounds();
            }
            if !self.has_followed(BY_BARRIERS, followed) {
                self.follow(order);
            }
            mem::forget(unwound);
            if self.counts.wildcard_rounds.load(Ordering::Relaxed) == wildcards {
                break;
            }
            backoff.wait();
        }
        if let Some(global) = self.heir() {
            global.run_barrier(order);
        }
    }

    /// Reclaims what deleters of barriers have retired, and what the deleters of that retire.
    pub(super) fn follow(&self, order: &mut Order) {
        if thread::in_round() {
            return;
        }
        order.kind = Kind::Follow;
        loop {
            let followed = self.followed(BY_BARRIERS);
            self.run_round(order);
            self.wait_for_rounds();
            if self.has_followed(BY_BARRIERS, followed) {
                return;
            }
        }
    }

    fn followed(&self, list: usize) -> u64 {
        // Relaxed: ordered by the looks at the list, see the module's text.
        self.counts.followed[list - BY_DELETERS].load(Ordering::Relaxed)
    }

    /// Whether the list is empty and has been since `followed` was read. In this order.
    fn has_followed(&self, list: usize, followed: u64) -> bool {
        self.lists[list].is_empty() && self.followed(list) == followed
    }

    /// Waits until every round of this domain that was in progress at the call has ended.
    fn wait_for_rounds(&self) {
        let own = thread::own();
        for block in block::all() {
            if own.is_some_and(|own| ptr::eq(own, block)) {
                continue;
            }
            // Acquire pairs with the Release at the end of a round. That its beginning is seen
            // follows from the order of the takes, see the module's text.
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

/// A barrier that ends by a panic, where none can be caught, leaves what nobody else would take.
struct Unwound<'a>(&'a Domain);

impl Drop for Unwound<'_> {
    fn drop(&mut self) {
        self.0.put_back(BY_BARRIERS);
    }
}

const _: () = assert!(LISTS == BY_BARRIERS + 1, "two lists of what deleters retire");

/// Returns when nobody protects `object`, which no new reader can find any more. For an owner that
/// frees it itself instead of retiring it.
///
/// # Context
/// Blocks until the readers that protect it are done; one system call per look. Not for signal
/// handlers.
///
/// # Panics
/// When the calling thread itself protects the object, for which it would wait for ever;
/// [`try_synchronize`] returns an error instead.
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
#[track_caller]
pub fn synchronize<T>(object: *const T) {
    if let Err(e) = try_synchronize(object) {
        panic!("hazptr: {e}");
    }
}

/// As [`synchronize`].
///
/// # Errors
/// [`SelfProtected`]: the calling thread protects the object. A token on its way between threads
/// ([`Detached`](super::Detached)) is nobody's, and is waited for.
pub fn try_synchronize<T>(object: *const T) -> Result<(), SelfProtected> {
    let mut backoff = Backoff::new();
    loop {
        // Pairs with `light()` in the readers: see `slot.rs`.
        Asymmetric::new().heavy();
        // A wildcard is a reader that may be about to get the object: gone at the next look unless
        // it is stalled there.
        let mut anything = false;
        block::for_each_protected(|seen| anything |= seen == Seen::Anything);
        if !anything && !is_protected(object.addr()) {
            return Ok(());
        }
        if thread::protects(object.addr()) {
            return Err(SelfProtected);
        }
        backoff.wait();
    }
}
