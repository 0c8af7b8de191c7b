//! Grace periods of one domain, without a thread that drives them.
//!
//! # The state
//! One number that grows and wraps: `4 * period + phase`. Anybody moves it, by compare-and-swap, as
//! far as it goes; who stalls in the middle holds up nobody.
//!
//! | phase | meaning | ends when |
//! |---|---|---|
//! | 2 | idle | a period is wanted |
//! | 3 | before the flip: stragglers of the last period may be on the index that readers do not begin on | no section of that index is open |
//! | 0 | after the flip: readers begin on the other index | no section of the old index is open: the period is over |
//!
//! Readers begin on the parity of `period`, which the step from 3 to 0 changes: that is the flip.
//! (1 is skipped; phases are numbered so that the index is one bit.) In both working phases the
//! index that readers do *not* begin on is drained.
//!
//! # Why both indices
//! A reader may read the state, stall for as long as it likes, and count itself on an index that
//! was flipped away meanwhile. Flipping only helps that the draining ends; what makes it right is
//! that each index was seen drained once since the period began.
//!
//! # Why an index seen drained has no old reader
//! Say a reader of this index found an object that was unlinked before the period began. It counted
//! its beginning, fenced, then loaded the pointer, and did not see the unlinking, which came before
//! the `heavy()` of the check; so its fence came first, and `begun`, summed after `heavy()`, has
//! it. `ended`, summed *before*, has it only if the section is over. Every other section in `ended`
//! is in `begun` too, because its beginning happened before its end. So while the section is open,
//! `begun` is ahead of `ended`. Summed in the other order, a section that began and ended in
//! between would make up for the open one.
//!
//! The algorithm is that of Linux `kernel/rcu/srcutree.c` (`srcu_readers_active_idx_check`,
//! `srcu_flip`), with the state machine made lock-free.
#![cfg_attr(
    not(loom),
    allow(unreachable_pub, reason = "models reach these types through `srcu::model`")
)]

use super::counters::Counters;
use crate::policy::Fences;
use core::marker::PhantomData;
use percpu::CachePadded;
use percpu::sync::atomic::{AtomicU64, Ordering};

/// The fences of a flavour. The two constants are true for every real one; models set them to see
/// the argument above fail.
pub trait Protocol: Fences {
    /// `ended` is summed before `begun`.
    const ENDED_FIRST: bool = true;
    /// The stragglers' index is drained before the flip.
    const BOTH_INDICES: bool = true;
}

const PHASE: u64 = 3;
const IDLE: u64 = 2;
const BEFORE_FLIP: u64 = 3;
const AFTER_FLIP: u64 = 0;
const PERIOD: u64 = PHASE + 1;

/// Whether state `a` is before `b`; right while they are less than 2^61 periods apart.
fn before(a: u64, b: u64) -> bool {
    (a.wrapping_sub(b) as i64) < 0
}

/// The index that readers begin on.
#[inline(always)]
fn index(state: u64) -> usize {
    (state / PERIOD % 2) as usize
}

/// The state and the counters of one domain.
#[derive(Debug)]
pub struct Machine<P, C> {
    /// Read by every reader, written three times per period.
    state: CachePadded<AtomicU64>,
    /// The state that somebody waits for; only grows.
    wanted: AtomicU64,
    counters: C,
    _protocol: PhantomData<fn() -> P>,
}

impl<P: Protocol, C: Counters> Machine<P, C> {
    /// `periods` is how many are to have passed; any number will do.
    pub fn new(periods: u64) -> Self {
        let start = periods.wrapping_mul(PERIOD) | IDLE;
        Self {
            state: CachePadded::new(AtomicU64::new(start)),
            wanted: AtomicU64::new(start),
            counters: C::new(),
            _protocol: PhantomData,
        }
    }

    /// Begins a section and returns its index.
    #[inline(always)]
    pub fn enter(&self) -> usize {
        // Relaxed: any index is right, see above.
        let index = index(self.state.load(Ordering::Relaxed));
        self.counters.begin(index);
        // Orders the count before every load in the section; pairs with `heavy` in `is_drained`.
        P::light();
        index
    }

    /// Ends a section of this index.
    #[inline(always)]
    pub fn leave(&self, index: usize) {
        self.counters.end(index);
    }

    /// The state at which what was unlinked so far is out of reach. Starts nothing.
    #[inline]
    pub fn cookie(&self) -> u64 {
        // Orders the caller's unlinking before the load; pairs, through the state that the cookie
        // names, with `light` in `enter`.
        P::full();
        // The idle state that follows the next period to begin.
        let state = self.state.load(Ordering::Relaxed);
        (state.wrapping_add(PERIOD - BEFORE_FLIP) & !PHASE).wrapping_add(PERIOD | IDLE)
    }

    /// Whether the state was reached; does nothing about it.
    #[inline]
    pub fn is_elapsed(&self, cookie: u64) -> bool {
        // Acquire pairs with the Release in `step`: sections that a check saw ended are past for
        // the caller too.
        !before(self.state.load(Ordering::Acquire), cookie)
    }

    /// Asks for the state, and begins a period if none is in progress.
    pub fn want(&self, cookie: u64) {
        let state = self.state.load(Ordering::Relaxed);
        // A cookie of another domain may be far ahead: to ask for it would keep the machine running
        // for nothing.
        if before(state.wrapping_add(2 * PERIOD), cookie) {
            return;
        }
        let mut wanted = self.wanted.load(Ordering::Relaxed);
        while before(wanted, cookie) {
            // Relaxed: says only how far to go.
            match self.wanted.compare_exchange_weak(
                wanted,
                cookie,
                Ordering::Relaxed,
                Ordering::Relaxed,
            ) {
                Ok(_) => break,
                Err(now) => wanted = now,
            }
        }
        if state & PHASE == IDLE && before(state, cookie) {
            self.step(state);
        }
    }

    /// Moves the machine as far as it goes without waiting. True: the state was reached, with full
    /// ordering.
    pub fn poll(&self, cookie: u64) -> bool {
        if !self.is_elapsed(cookie) {
            self.want(cookie);
            self.advance(cookie);
            if !self.is_elapsed(cookie) {
                return false;
            }
        }
        // The caller's accesses before and after are ordered, as if it had waited.
        P::full();
        true
    }

    /// Forgets all open sections. The caller is alone with the domain.
    pub fn forget(&self) {
        self.counters.forget();
    }

    /// At most two periods are driven: a cookie is at most that far ahead.
    fn advance(&self, target: u64) {
        loop {
            // Acquire pairs with the Release in `step`: what was unlinked before the period began
            // is unlinked for the `heavy` below too.
            let state = self.state.load(Ordering::Acquire);
            if !before(state, target) {
                return;
            }
            let may_go_on = match state & PHASE {
                IDLE => before(state, self.wanted.load(Ordering::Relaxed)),
                BEFORE_FLIP if !P::BOTH_INDICES => true,
                _ => self.is_drained(1 - index(state)),
            };
            if !may_go_on {
                return;
            }
            self.step(state);
        }
    }

    /// To the next phase, on the strength of a check that began when the state was `from`. Whoever
    /// loses the race finds it done: the state never comes back.
    fn step(&self, from: u64) {
        let to = from.wrapping_add(if from & PHASE == AFTER_FLIP { IDLE - AFTER_FLIP } else { 1 });
        // Release pairs with the Acquire loads of the state; Acquire makes the chain of earlier
        // steps whole.
        let _ = self.state.compare_exchange(from, to, Ordering::AcqRel, Ordering::Relaxed);
    }

    /// Whether no section of `index` is open that began before the call.
    fn is_drained(&self, index: usize) -> bool {
        let (ended, begun) = if P::ENDED_FIRST {
            let ended = self.counters.ended(index);
            // A look without the fence first: it may err only towards "still open", and spares a
            // blocked poll the system call.
            if self.counters.begun(index) != ended {
                return false;
            }
            // Pairs with `light` in `enter`.
            P::heavy();
            (ended, self.counters.begun(index))
        } else {
            P::heavy();
            let begun = self.counters.begun(index);
            (self.counters.ended(index), begun)
        };
        begun == ended
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::super::counters::{Atomic, Sequenced};
    use super::super::flavour::{Fast, Normal};
    use super::super::per_thread::PerThread;
    use super::*;

    fn a_period_waits_for_both_indices<P: Protocol, C: Counters>(start: u64) {
        let m = Machine::<P, C>::new(start);
        for round in 0..8 {
            let old = m.enter();
            let cookie = m.cookie();
            assert!(!m.poll(cookie), "round {round}: the section is on the current index");
            let new = m.enter();
            assert_ne!(old, new, "readers begin on the other index after the flip");
            m.leave(old);
            assert!(m.poll(cookie), "the new section began after the cookie");
            // Now `new` is a section of the index that the next period keeps for its readers.
            let next = m.cookie();
            assert!(!m.poll(next));
            m.leave(new);
            assert!(m.poll(next));
            assert!(m.is_elapsed(cookie));
        }
    }

    #[test]
    fn both_indices_normal() {
        a_period_waits_for_both_indices::<Normal, Atomic>(0);
    }

    #[test]
    fn both_indices_fast() {
        a_period_waits_for_both_indices::<Fast, PerThread>(0);
        a_period_waits_for_both_indices::<Fast, Sequenced>(0);
    }

    #[test]
    fn both_indices_over_the_wrap() {
        a_period_waits_for_both_indices::<Normal, Atomic>(0_u64.wrapping_sub(3));
        a_period_waits_for_both_indices::<Fast, Sequenced>((1 << 61) - 3);
    }

    #[test]
    fn a_straggler_on_the_index_that_was_flipped_away_is_waited_for() {
        let m = Machine::<Normal, Atomic>::new(0);
        let stale = index(m.state.load(Ordering::Relaxed));
        assert!(m.poll(m.cookie()), "a whole period passes while the reader is stalled");
        m.counters.begin(stale);
        let cookie = m.cookie();
        assert!(!m.poll(cookie));
        assert_eq!(m.state.load(Ordering::Relaxed) & PHASE, BEFORE_FLIP);
        m.leave(stale);
        assert!(m.poll(cookie));
    }

    #[test]
    fn cookies_name_the_first_period_that_begins_later() {
        let m = Machine::<Normal, Atomic>::new(0);
        let (first, second) = (PERIOD | IDLE, (2 * PERIOD) | IDLE);
        assert_eq!(m.cookie(), first);
        let straggler = 1 - m.enter();
        m.leave(1 - straggler);
        m.counters.begin(straggler);
        assert!(!m.poll(first));
        assert_eq!(m.state.load(Ordering::Relaxed), BEFORE_FLIP);
        assert_eq!(m.cookie(), second, "the period in progress began before");
        m.leave(straggler);
        let open = m.enter();
        assert!(!m.poll(second));
        assert_eq!(m.state.load(Ordering::Relaxed), PERIOD | AFTER_FLIP);
        assert_eq!(m.cookie(), second);
        m.leave(open);
        assert!(m.poll(second));
        assert!(!m.poll((1000 * PERIOD) | IDLE), "a number of elsewhere starts nothing");
        assert_eq!(m.state.load(Ordering::Relaxed), second);
    }
}
