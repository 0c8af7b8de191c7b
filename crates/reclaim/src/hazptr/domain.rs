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
#[cfg(feature = "std")]
use super::helper::Wake;
use super::lists::{Kept, Stack};
use super::thread;
use core::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use percpu::CachePadded;

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

    /// Counts `n` more retired objects; true: a round is due.
    #[cold]
    #[inline(never)]
    pub(super) fn count(&self, n: usize) -> bool {
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
