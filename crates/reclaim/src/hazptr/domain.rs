//! Domains: what was retired, how much of it there may be, and who reclaims it.
//!
//! # Counting
//! An object retired is first counted by the list that it is on, in the same compare-and-swap that
//! links it; every [`batch`](super::thread::batch)-th object of a list adds the batch to the
//! domain's `pending` and `fresh`. `pending` is what is retired and not reclaimed, wherever it is
//! (lists, `kept`, in some round's hand), short of at most [`UNCOUNTED`](super::thread::UNCOUNTED)
//! objects (and, of what deleters have retired, two batches). `fresh` is what came since a round
//! was last started.
//!
//! With the limit L = max(1000, 2 × slots), a retiring thread starts a round when pending ≥ 13/16 L
//! and fresh ≥ 1/16 L; of those that find that, one takes `fresh` back to 0, by a compare-and-swap,
//! and runs the round. The first condition lets a lone round free a large batch for its one
//! `heavy()`; the second keeps a thread from paying a `heavy()` per object while somebody else's
//! round, or readers, still hold most of the limit.
//!
//! # Why that bounds the garbage
//! Let H be what rounds have in hand, or what is protected, and F what waits on the lists. A round
//! starts as soon as F ≥ L/16 and H + F ≥ 13/16 L, so one that starts takes at most L/16 if H ≥
//! 12/16 L, and leaves H ≤ 13/16 L if not. Take the last round that started with H < 12/16 L. After
//! it H ≤ 13/16 L, and what was in hand then only shrinks; each round since has added at most L/16.
//! Of those at most one is in progress per thread, and one that is over has nothing in hand. So
//! with T threads in rounds, H + F ≤ 13/16 L + T/16 L + L/16, for however long deleters run or
//! threads are preempted in them.
//!
//! To that comes what is not counted: `UNCOUNTED` and two batches at rest, and a batch for each
//! thread that is preempted between linking an object and counting, a few instructions. While it is
//! there, others may start a round too late by that much. `Domain` promises L/8 per thread, so that
//! there is room for a batch or more (62 objects or more, of which a batch is at most 32) per round
//! and for each thread that is retiring.
//!
//! A wildcard takes rounds their result. Then the step between them grows with what is there, or
//! each would carry all of it back and forth for nothing.
#![allow(unsafe_code)]

use super::block::{BY_DELETERS, LISTS};
use super::lists::{Kept, Stack};
use super::order::{Kind, Order};
use super::thread;
#[cfg(feature = "std")]
use super::wake::Wake;
use percpu::CachePadded;
use percpu::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

/// The least limit of a domain.
const LEAST_LIMIT: usize = 1000;

/// Who runs the deleters of a [`Domain`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Policy {
    /// The thread whose [`retire`](Domain::retire) reaches the limit.
    #[default]
    Inline,
    /// The thread of [`Domain::spawn_helper`]. A retiring thread wakes it at the limit and reclaims
    /// itself at twice the limit, or when there is no helper.
    Helper,
    /// Whoever calls [`Domain::reclaim`], [`Domain::barrier`] or [`Domain::reclaim_owner`];
    /// retiring never does. The program then has to bound the garbage.
    Manual,
}

/// A set of retired objects, with its limit and its policy.
///
/// Hazard slots belong to the process, not to a domain, so that any holder protects objects of any
/// domain and a holder of the wrong domain cannot exist. Use a domain of your own to keep your
/// deleters, your limit and your [`barrier`](Self::barrier) apart from those of others; else
/// [`Domain::global`].
///
/// # How much garbage
/// L = max(1000, 2 × hazard slots in existence); a thread that uses hazard pointers has 8 slots
/// until it holds more. Under [`Policy::Inline`] at most L objects are retired and not yet
/// reclaimed while at most one thread reclaims at a time, however many readers are stalled and for
/// however long. Each further thread that is inside a round at the same moment, or is just
/// retiring, adds at most L/8, whatever its deleters cost and however long it is preempted there:
/// 8.9 L for 64 threads. With [`Policy::Helper`], 2L takes the place of L, and the helper is one of
/// the threads. (Measured with up to 128 threads on 2 CPUs: little more than half of that.
/// `tests/hazptr_loads.rs` has the loads, and haphazard beside.)
///
/// Exceptions: a reader stalled between the two stores of
/// [`Hazard::protect_wait_free`](super::Hazard::protect_wait_free) protects everything; what
/// deleters or signal handlers retire waits for the next `retire` outside of them; and objects of
/// size zero have one address in common, so that one slot protects all of them that are retired.
///
/// # Leak checkers
/// The lists keep addresses packed with counts, so a leak checker reports what is still retired
/// when the process ends. [`barrier`](Self::barrier) before that.
///
/// # Dropping
/// A domain that is dropped reclaims what nobody protects and hands the rest over to the global
/// domain.
///
/// # Panics of deleters
/// The round goes on with the others; then the first panic goes on in the caller whose call ran the
/// deleters (`retire`, `reclaim`, `barrier`, `reclaim_owner`, the drop of the domain), unless it is
/// unwinding already. A helper counts it ([`Stats::panicked`]) and goes on.
#[derive(Debug)]
pub struct Domain {
    pub(super) lists: [CachePadded<Stack>; LISTS],
    pub(super) kept: CachePadded<Kept>,
    pub(super) counts: CachePadded<Counts>,
    policy: Policy,
    #[cfg(feature = "std")]
    pub(super) helper: percpu::sync::atomic::AtomicPtr<Wake>,
}

/// Written by retiring threads once per batch and by rounds. Relaxed throughout: they decide when
/// to reclaim, never whether it is safe.
#[derive(Debug)]
pub(super) struct Counts {
    pub(super) fresh: AtomicUsize,
    pub(super) pending: AtomicUsize,
    pub(super) limit: AtomicUsize,
    /// What was pending when a round last met a wildcard; 0 once one has met none.
    stalled: AtomicUsize,
    /// How often [`BY_DELETERS`] and the list after it were taken with something on them.
    pub(super) followed: [AtomicU64; LISTS - BY_DELETERS],
    pub(super) reclaimed: AtomicU64,
    pub(super) rounds: AtomicU64,
    pub(super) wildcard_rounds: AtomicU64,
    pub(super) panicked: AtomicU64,
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
    /// Deleters that panicked, wherever they ran. 0 without the feature `std`.
    pub panicked: u64,
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
            lists: [const { CachePadded::new(Stack::new()) }; LISTS],
            kept: CachePadded::new(Kept::new()),
            counts: CachePadded::new(Counts {
                fresh: AtomicUsize::new(0),
                pending: AtomicUsize::new(0),
                limit: AtomicUsize::new(LEAST_LIMIT),
                stalled: AtomicUsize::new(0),
                followed: [const { AtomicU64::new(0) }; LISTS - BY_DELETERS],
                reclaimed: AtomicU64::new(0),
                rounds: AtomicU64::new(0),
                wildcard_rounds: AtomicU64::new(0),
                panicked: AtomicU64::new(0),
            }),
            policy,
            #[cfg(feature = "std")]
            helper: percpu::sync::atomic::AtomicPtr::new(core::ptr::null_mut()),
        }
    }

    /// The domain that the whole process shares.
    pub fn global() -> &'static Self {
        &GLOBAL
    }

    /// Runs one round now: reclaims what is retired and not protected; returns how many objects
    /// that were. 0 inside of a deleter.
    ///
    /// # Context
    /// Runs deleters; never waits for readers or other rounds. One system call. Not for signal
    /// handlers.
    ///
    /// # Panics
    /// When a deleter does, after the others have run: the first panic goes on here.
    pub fn reclaim(&self) -> usize {
        self.round()
    }

    /// What this domain has done so far.
    pub fn stats(&self) -> Stats {
        let uncounted: u64 = self.lists.iter().map(|s| s.len() % thread::batch() as u64).sum();
        Stats {
            unreclaimed: uncounted + self.counts.pending.load(Ordering::Relaxed) as u64,
            reclaimed: self.counts.reclaimed.load(Ordering::Relaxed),
            rounds: self.counts.rounds.load(Ordering::Relaxed),
            wildcard_rounds: self.counts.wildcard_rounds.load(Ordering::Relaxed),
            panicked: self.counts.panicked.load(Ordering::Relaxed),
        }
    }

    /// The limit that the text of [`Domain`] calls L, as of the last round.
    pub fn limit(&self) -> usize {
        self.counts.limit.load(Ordering::Relaxed)
    }

    /// Counts `n` more retired objects; true: a round is due.
    #[cold]
    #[inline(never)]
    pub(super) fn count(&self, n: usize) -> bool {
        self.counts.pending.fetch_add(n, Ordering::Relaxed);
        self.counts.fresh.fetch_add(n, Ordering::Relaxed);
        self.is_due()
    }

    /// A round found so many slots, and perhaps a wildcard among them.
    pub(super) fn looked(&self, slots: usize, wildcard: bool) {
        self.counts.limit.store(LEAST_LIMIT.max(2 * slots), Ordering::Relaxed);
        if wildcard {
            self.counts
                .stalled
                .store(self.counts.pending.load(Ordering::Relaxed), Ordering::Relaxed);
        } else if self.counts.stalled.load(Ordering::Relaxed) != 0 {
            self.counts.stalled.store(0, Ordering::Relaxed);
        }
    }

    /// See the module's text.
    pub(super) fn is_due(&self) -> bool {
        let pending = self.counts.pending.load(Ordering::Relaxed);
        self.counts.fresh.load(Ordering::Relaxed) >= self.step()
            && pending >= self.limit() / 16 * 13
    }

    /// Objects that have to come before another round is worth its fence: 1/16 of the limit, or of
    /// what there was at a wildcard if that is more.
    fn step(&self) -> usize {
        self.limit().max(self.counts.stalled.load(Ordering::Relaxed)) / 16
    }

    #[cold]
    #[inline(never)]
    pub(super) fn relieve(&self) {
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

    /// For the helper: a round if anything has come.
    #[cfg(feature = "std")]
    pub(super) fn round_if_fresh(&self) {
        if self.counts.fresh.swap(0, Ordering::Relaxed) != 0 {
            self.round_alone();
        }
    }

    /// Moves what is on a list to where every round looks.
    pub(super) fn put_back(&self, list: usize) {
        let (first, len) = self.lists[list].take();
        // SAFETY: the chain was just taken, so it is ours.
        unsafe { self.kept.push_all(first) };
        let uncounted = len as usize % thread::batch();
        self.counts.pending.fetch_add(uncounted, Ordering::Relaxed);
    }

    /// A round for a thread with no caller of the user's: panics are counted.
    #[cfg(feature = "std")]
    pub(super) fn round_alone(&self) {
        self.run_round(&mut Order::of(Kind::Ordinary));
    }

    /// Of the threads that find a round due at the same time, one runs it. The others take nothing
    /// of `fresh`: it would be missing for the next.
    fn round_if_first(&self) {
        if thread::in_round() {
            return;
        }
        let step = self.step();
        let take = |fresh| (fresh >= step).then_some(0);
        if self.counts.fresh.fetch_update(Ordering::Relaxed, Ordering::Relaxed, take).is_ok() {
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
        let mut order = Order::of(Kind::Barrier);
        self.run_round(&mut order);
        self.follow(&mut order);
        // What is still here is protected, or this is a deleter and rounds do not nest.
        let lists = self.lists.iter().map(|s| s.take().0).chain([self.kept.take()]);
        for first in lists {
            // SAFETY: the chain was just taken, so it is ours.
            let moved = unsafe { GLOBAL.kept.push_all(first) };
            GLOBAL.counts.pending.fetch_add(moved, Ordering::Relaxed);
        }
        order.panics.resume();
    }
}
