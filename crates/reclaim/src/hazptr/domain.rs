//! Domains: what was retired, how much of it there may be, and who reclaims it.
//!
//! # Counting
//! An object retired is first counted by the list that it is on, in the same compare-and-swap that links it; every [`batch`](super::thread::batch)-th object of a list
//! adds the batch to the domain's `pending` and `fresh`. `pending` is what is retired and not reclaimed, wherever it is (lists, `kept`, in some round's hand), short
//! of at most [`UNCOUNTED`](super::thread::UNCOUNTED) objects. `fresh` is what came since a round was last started.
//!
//! With the limit L = max(1000, 2 × slots), a retiring thread starts a round when pending ≥ 13/16 L and fresh ≥ 1/16 L. The first condition lets a lone round
//! free a large batch for its one `heavy()`; the second keeps a thread from paying a `heavy()` per object while somebody else's round, or readers, still hold most
//! of the limit. Hence the bound in [`Domain`]: one round and what comes meanwhile fit into L, each further simultaneous round was started by 1/16 L more
//! objects, with as many again not counted or just coming.
#![allow(unsafe_code)]

use super::block::SHARDS;
use super::head::{Deleter, Head, Retirable};
#[cfg(feature = "std")]
use super::helper::Wake;
use super::lists::{Kept, Refused, Stack};
use super::owner::{Owner, OwnerRef};
use super::thread;
use core::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use percpu::CachePadded;

#[cfg(feature = "alloc")]
use alloc::boxed::Box;

/// The least limit of a domain.
const LEAST_LIMIT: usize = 1000;

/// Who runs the deleters of a [`Domain`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Policy {
    /// The thread whose [`retire`](Domain::retire) reaches the limit.
    #[default]
    Inline,
    /// The thread of [`Domain::spawn_helper`]. A retiring thread wakes it at the limit and reclaims itself at twice the limit, or when there is no helper.
    Helper,
    /// Whoever calls [`Domain::reclaim`], [`Domain::barrier`] or [`Domain::reclaim_owner`]; retiring never does. The program then has to bound the garbage.
    Manual,
}

/// A set of retired objects, with its limit and its policy.
///
/// Hazard slots belong to the process, not to a domain, so that any holder protects objects of any domain and a holder of the wrong domain cannot exist. Use
/// a domain of your own to keep your deleters, your limit and your [`barrier`](Self::barrier) apart from those of others; else [`Domain::global`].
///
/// # How much garbage
/// L = max(1000, 2 × hazard slots in existence); a thread that uses hazard pointers has 8 slots until it holds more. Under [`Policy::Inline`] at most L objects are
/// retired and not yet reclaimed while at most one thread reclaims at a time, however many readers are stalled and for however long. Each further thread that is
/// inside a round at the same moment adds at most L/8. With [`Policy::Helper`], 2L takes the place of L. Two exceptions: a reader stalled between the two stores of
/// [`Hazard::protect_wait_free`](super::Hazard::protect_wait_free) protects everything, and what deleters or signal handlers retire waits for the next `retire`
/// outside of them.
///
/// # Leak checkers
/// The lists keep addresses packed with counts, so a leak checker reports what is still retired when the process ends. [`barrier`](Self::barrier) before that.
///
/// # Dropping
/// A domain that is dropped reclaims what nobody protects and hands the rest over to the global domain.
#[derive(Debug)]
pub struct Domain {
    pub(super) shards: [CachePadded<Stack>; SHARDS],
    pub(super) kept: CachePadded<Kept>,
    pub(super) counts: CachePadded<Counts>,
    policy: Policy,
    #[cfg(feature = "std")]
    pub(super) helper: core::sync::atomic::AtomicPtr<Wake>,
}

/// Written by retiring threads once per batch and by rounds. Relaxed throughout: they decide when to reclaim, never whether it is safe.
#[derive(Debug)]
pub(super) struct Counts {
    pub(super) fresh: AtomicUsize,
    pub(super) pending: AtomicUsize,
    pub(super) limit: AtomicUsize,
    pub(super) reclaimed: AtomicU64,
    pub(super) rounds: AtomicU64,
    pub(super) wildcard_rounds: AtomicU64,
}

/// What a [`Domain`] has done so far. Each number is exact when nobody is retiring or reclaiming.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Stats {
    /// Objects retired and not yet reclaimed.
    pub unreclaimed: u64,
    /// Objects whose deleter ran.
    pub reclaimed: u64,
    /// Rounds: each took what was retired and read all slots once.
    pub rounds: u64,
    /// Rounds that freed nothing because a slot protected everything at that moment.
    pub wildcard_rounds: u64,
}

static GLOBAL: Domain = Domain::new();

impl Domain {
    /// A domain with [`Policy::Inline`].
    pub const fn new() -> Self {
        Self::with_policy(Policy::Inline)
    }

    /// A domain with a policy.
    pub const fn with_policy(policy: Policy) -> Self {
        Self {
            shards: [const { CachePadded::new(Stack::new()) }; SHARDS],
            kept: CachePadded::new(Kept::new()),
            counts: CachePadded::new(Counts {
                fresh: AtomicUsize::new(0),
                pending: AtomicUsize::new(0),
                limit: AtomicUsize::new(LEAST_LIMIT),
                reclaimed: AtomicU64::new(0),
                rounds: AtomicU64::new(0),
                wildcard_rounds: AtomicU64::new(0),
            }),
            policy,
            #[cfg(feature = "std")]
            helper: core::sync::atomic::AtomicPtr::new(core::ptr::null_mut()),
        }
    }

    /// The domain that the whole process shares.
    pub fn global() -> &'static Self {
        &GLOBAL
    }

    /// Retires an object: it is reclaimed ([`Retirable::reclaim`]) once nobody protects it.
    ///
    /// # Context
    /// Allocates nothing itself and takes no lock. May run deleters, of this object and of others, under [`Policy::Inline`] (and `Helper` at twice the limit): not for
    /// signal handlers, which use [`retire_deferred`](Self::retire_deferred). One system call per round.
    ///
    /// # Safety
    /// - `object` is valid and no new reader can find it: it was unlinked from everything that readers load from.
    /// - Readers access it only while a hazard slot protects it.
    /// - It is retired once, and [`Retirable::reclaim`] may be called on it (for [`retirable!`](crate::retirable): it came from a `Box`).
    ///
    /// # Examples
    /// ```
    /// use reclaim::hazptr::{Domain, Head};
    /// use std::ptr;
    /// use std::sync::atomic::{AtomicPtr, Ordering};
    ///
    /// struct Route {
    ///     head: Head,
    ///     port: u16,
    /// }
    /// reclaim::retirable!(Route, head);
    ///
    /// let current = AtomicPtr::new(Box::into_raw(Box::new(Route { head: Head::new(), port: 80 })));
    /// // Unlink, then retire.
    /// let old = current.swap(ptr::null_mut(), Ordering::AcqRel);
    /// // SAFETY: `old` came from a box, is unlinked, and is retired once.
    /// unsafe { Domain::global().retire(old) };
    /// ```
    #[inline]
    pub unsafe fn retire<T: Retirable>(&self, object: *mut T) {
        // SAFETY: the caller's promises are those of `add`; `reclaim_as` is the type's own deleter.
        if unsafe { self.add(T::head(object), object.cast(), reclaim_as::<T>, None) } {
            self.relieve();
        }
    }

    /// As [`retire`](Self::retire), but only puts the object on its list: no deleter runs, whatever the policy.
    ///
    /// The next `retire`, [`reclaim`](Self::reclaim) or helper does the rest.
    ///
    /// # Context
    /// Signal-safe in a thread that has used hazard pointers before, or after [`percpu::init`]; lock-free; never allocates, makes no system call.
    ///
    /// # Safety
    /// As for [`retire`](Self::retire).
    #[inline]
    pub unsafe fn retire_deferred<T: Retirable>(&self, object: *mut T) {
        // SAFETY: the caller's promises are those of `add`.
        unsafe { self.add(T::head(object), object.cast(), reclaim_as::<T>, None) };
    }

    /// As [`retire`](Self::retire), with a deleter of the caller's instead of [`Retirable::reclaim`]: back to a pool, say.
    ///
    /// `deleter` captures nothing (checked at compile time): it gets the object, and whatever else it needs it finds there.
    ///
    /// # Context
    /// As for [`retire`](Self::retire).
    ///
    /// # Safety
    /// As for [`retire`](Self::retire), where `deleter` takes the place of [`Retirable::reclaim`].
    #[inline]
    pub unsafe fn retire_with<T: Retirable, F: Fn(*mut T) + Copy + Send + 'static>(&self, object: *mut T, deleter: F) {
        const { assert!(size_of::<F>() == 0, "the deleter must not capture anything: there is no room for it in a head") };
        let _ = deleter;
        // SAFETY: the caller's promises are those of `add`; a value of the zero-sized `F` was given.
        if unsafe { self.add(T::head(object), object.cast(), delete_with::<T, F>, None) } {
            self.relieve();
        }
    }

    /// As [`retire`](Self::retire), in the name of `owner`, for [`reclaim_owner`](Self::reclaim_owner).
    ///
    /// # Context
    /// As for [`retire`](Self::retire).
    ///
    /// # Safety
    /// As for [`retire`](Self::retire).
    #[inline]
    pub unsafe fn retire_for<T: Retirable>(&self, object: *mut T, owner: &Owner) {
        // SAFETY: the caller's promises are those of `add`; the share is this object's.
        if unsafe { self.add(T::head(object), object.cast(), reclaim_as::<T>, Some(owner.share())) } {
            self.relieve();
        }
    }

    /// Retires an object that has no [`Head`] inside; it is dropped with its box once nobody protects it.
    ///
    /// # Context
    /// Allocates 32 bytes for the head, else as for [`retire`](Self::retire).
    ///
    /// # Safety
    /// As for [`retire`](Self::retire); `object` came from `Box::into_raw`.
    ///
    /// # Examples
    /// ```
    /// use reclaim::hazptr::Domain;
    /// use std::sync::atomic::{AtomicPtr, Ordering};
    ///
    /// let config = AtomicPtr::new(Box::into_raw(Box::new(String::from("old"))));
    /// let old = config.swap(Box::into_raw(Box::new(String::from("new"))), Ordering::AcqRel);
    /// // SAFETY: `old` came from a box, is unlinked, and is retired once.
    /// unsafe { Domain::global().retire_box(old) };
    /// # let last = config.swap(std::ptr::null_mut(), Ordering::AcqRel);
    /// # unsafe { Domain::global().retire_box(last) };
    /// ```
    #[cfg(feature = "alloc")]
    pub unsafe fn retire_box<T: Send + 'static>(&self, object: *mut T) {
        let ticket = Box::into_raw(Box::new(Ticket { head: Head::new(), object: core::marker::PhantomData::<T> }));
        // SAFETY: the ticket was just made; no reference to it exists.
        let head = unsafe { &raw mut (*ticket).head };
        // SAFETY: the caller's promises are those of `add`; the ticket's head is used for this object only.
        if unsafe { self.add(head, object.cast(), delete_ticket::<T>, None) } {
            self.relieve();
        }
    }

    /// Runs one round now: reclaims what is retired and not protected; returns how many objects that were. 0 inside of a deleter.
    ///
    /// # Context
    /// Runs deleters; never waits for readers or other rounds. One system call. Not for signal handlers.
    pub fn reclaim(&self) -> usize {
        self.round()
    }

    /// What this domain has done so far.
    pub fn stats(&self) -> Stats {
        let uncounted: u64 = self.shards.iter().map(|s| s.len() % thread::batch() as u64).sum();
        Stats {
            unreclaimed: uncounted + self.counts.pending.load(Ordering::Relaxed) as u64,
            reclaimed: self.counts.reclaimed.load(Ordering::Relaxed),
            rounds: self.counts.rounds.load(Ordering::Relaxed),
            wildcard_rounds: self.counts.wildcard_rounds.load(Ordering::Relaxed),
        }
    }

    /// The limit that the text of [`Domain`] calls L, as of the last round.
    pub fn limit(&self) -> usize {
        self.counts.limit.load(Ordering::Relaxed)
    }

    /// Puts an object on this thread's list. True: the domain has reached its limit.
    ///
    /// # Safety
    /// As for [`retire`](Self::retire); `head` lies where `deleter` looks for it, is used for nothing else, and `deleter` may be called with it.
    #[inline]
    unsafe fn add(&self, head: *mut Head, object: *mut (), deleter: Deleter, owner: Option<OwnerRef>) -> bool {
        // SAFETY: the object is retired once, so nobody else touches its head.
        unsafe { Head::prepare(head, object, deleter, owner) };
        let (shard, mask) = match thread::main_block() {
            Some(block) => (block.shard.load(Ordering::Relaxed), block.batch_mask.load(Ordering::Relaxed)),
            None => (0, thread::batch() as u64 - 1),
        };
        // SAFETY: the head was prepared and is on no list.
        match unsafe { self.shards[shard % SHARDS].push(head) } {
            Ok(len) if len & mask != 0 => false,
            Ok(_) => self.count(mask as usize + 1),
            Err(Refused) => {
                // SAFETY: a chain of one, still ours after the refusal.
                unsafe { self.kept.push_chain(head, head) };
                self.count(1)
            }
        }
    }

    /// Counts `n` more retired objects; true: a round is due.
    #[cold]
    #[inline(never)]
    fn count(&self, n: usize) -> bool {
        self.counts.pending.fetch_add(n, Ordering::Relaxed);
        self.counts.fresh.fetch_add(n, Ordering::Relaxed);
        self.is_due()
    }

    /// A round found so many slots.
    pub(super) fn set_limit(&self, slots: usize) {
        self.counts.limit.store(LEAST_LIMIT.max(2 * slots), Ordering::Relaxed);
    }

    /// See the module's text.
    pub(super) fn is_due(&self) -> bool {
        let pending = self.counts.pending.load(Ordering::Relaxed);
        self.counts.fresh.load(Ordering::Relaxed) >= self.step(pending) && pending >= self.limit() / 16 * 13
    }

    /// Objects that have to come before another round is worth its fence: 1/16 of the limit, or of what is there if that is more (a stalled wildcard).
    fn step(&self, pending: usize) -> usize {
        self.limit().max(pending) / 16
    }

    #[cold]
    #[inline(never)]
    fn relieve(&self) {
        match self.policy {
            Policy::Inline => self.round_if_first(),
            Policy::Helper => {
                let twice = self.counts.pending.load(Ordering::Relaxed) >= 2 * self.limit();
                if !self.wake_helper() || twice {
                    self.round_if_first();
                }
            }
            Policy::Manual => {}
        }
    }

    /// For the helper: the same condition as a retiring thread's, or anything at all when nobody retires.
    #[cfg(feature = "std")]
    pub(super) fn round_if_due(&self) {
        if self.counts.fresh.swap(0, Ordering::Relaxed) != 0 {
            self.round();
        }
    }

    /// Of the threads that find a round due at the same time, one runs it.
    fn round_if_first(&self) {
        if thread::in_round() {
            return;
        }
        let step = self.step(self.counts.pending.load(Ordering::Relaxed));
        if self.counts.fresh.swap(0, Ordering::Relaxed) >= step {
            self.round();
        }
    }

    #[cfg(not(feature = "std"))]
    fn wake_helper(&self) -> bool {
        false
    }
}

impl Default for Domain {
    fn default() -> Self {
        Self::new()
    }
}

impl Drop for Domain {
    fn drop(&mut self) {
        self.round();
        // What is still here is protected, or this is a deleter and rounds do not nest.
        let lists = self.shards.iter().map(|s| s.take().0).chain([self.kept.take()]);
        for first in lists {
            // SAFETY: the chain was just taken, so it is ours.
            let moved = unsafe { GLOBAL.kept.push_all(first) };
            GLOBAL.counts.pending.fetch_add(moved, Ordering::Relaxed);
        }
    }
}

/// # Safety
/// The head was prepared for a `T` that may be reclaimed.
unsafe fn reclaim_as<T: Retirable>(head: *mut Head) {
    // SAFETY: the caller's promise.
    let object = unsafe { Head::object(head) };
    // SAFETY: likewise; `retire` was given a `*mut T`.
    unsafe { T::reclaim(object.cast()) };
}

/// # Safety
/// The head was prepared for a `T` that may be given to a value of `F`, and such a value exists.
unsafe fn delete_with<T, F: Fn(*mut T)>(head: *mut Head) {
    // SAFETY: the caller's promise.
    let object = unsafe { Head::object(head) };
    // SAFETY: `F` is zero-sized (asserted in `retire_with`), `Copy` and `Send`, and a value of it was given: this is another copy.
    let deleter = unsafe { core::mem::MaybeUninit::<F>::zeroed().assume_init() };
    deleter(object.cast());
}

/// The head of an object that has none inside.
#[cfg(feature = "alloc")]
#[repr(C)]
struct Ticket<T> {
    head: Head,
    object: core::marker::PhantomData<T>,
}

/// # Safety
/// The head is that of a `Ticket<T>` from a box, prepared for a `T` from a box that may be dropped.
#[cfg(feature = "alloc")]
unsafe fn delete_ticket<T>(head: *mut Head) {
    // SAFETY: the caller's promise.
    let object = unsafe { Head::object(head) };
    // SAFETY: the head is the first field of the ticket, which came from a box.
    drop(unsafe { Box::from_raw(head.cast::<Ticket<T>>()) });
    // SAFETY: `retire_box` was given a pointer from a box.
    drop(unsafe { Box::from_raw(object.cast::<T>()) });
}
