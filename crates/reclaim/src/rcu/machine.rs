//! Grace periods without a thread that drives them.
//!
//! # The numbers
//! Period numbers grow by one [`STEP`] and wrap. Three of them describe the machine; each only
//! grows, by compare-and-swap, and anybody may move each of them at any time, so a thread that
//! stalls, dies or is left behind by a fork in the middle of a step holds up nobody:
//!
//! - `current`: readers enter with it. Moves to `completed + STEP` when a period is wanted; that
//!   begins the period.
//! - `fenced`: `heavy()` was called at least once since `current` took this value.
//! - `completed`: no section is left that began before `current` took this value. Either equal to
//!   `current` (idle) or one step behind (in progress).
//!
//! `wanted` is the newest period that anybody asked for. One is in progress at a time, so that all
//! who ask meanwhile share the next.
//!
//! # Why a period ends no reader too early
//! A writer unlinks an object, fences, and reads `current` as `a`; it waits for `a + 1` to complete
//! (`cookie`). A reader that still finds the object loaded the pointer before the unlinking took
//! effect. It must be seen by the scan for `a + 1`, as older than `a + 1`.
//! - Seen: its word was stored before its `light()`, its pointer was loaded after. If its `light()`
//!   came after the `heavy()` of this period, it would have seen the unlinking, which came before
//!   `a + 1` was begun, hence before that `heavy()`. So `light()` came first, and the scan, which
//!   comes after `heavy()`, reads the word or a later one.
//! - As older: had it entered with `a + 1`, its Acquire load of `current` would have come after the
//!   beginning of `a + 1`, hence after the unlinking, and its load of the pointer later still.
//!
//! A reader that read `current` long ago and stores it late only looks older than it is. This is
//! why the number has 48 bits where liburcu has a phase bit and needs two flips per grace period
//! (Desnoyers, McKenney et al., "User-Level Implementations of Read-Copy Update", 2012).
#![cfg_attr(
    not(loom),
    allow(unreachable_pub, reason = "models reach these types through `rcu::model`")
)]

use super::reader::{ReaderState, STEP, older};
use crate::policy::Fences;
use core::marker::PhantomData;
use core::ptr;
use percpu::sync::atomic::{AtomicPtr, AtomicU64, Ordering};
use percpu::{CachePadded, Record, Registry};

/// The readers of one domain and the numbers above.
#[derive(Debug)]
pub struct Machine<F> {
    /// Read by every reader, written once per period: on a line of its own.
    current: CachePadded<AtomicU64>,
    fenced: AtomicU64,
    completed: AtomicU64,
    wanted: AtomicU64,
    /// The reader that held up the last scan, to be asked first by the next. A hint: null, or a
    /// record of `readers`.
    blocker: AtomicPtr<Record<ReaderState>>,
    readers: Registry<ReaderState>,
    _fences: PhantomData<fn() -> F>,
}

impl<F: Fences> Machine<F> {
    crate::policy::const_unless_modelled! {
        /// `start` is a multiple of [`STEP`]; any will do, and a test of the wrap takes one near
        /// the end.
        pub fn new(start: u64) -> Self {
            Self {
                current: CachePadded::new(AtomicU64::new(start)),
                fenced: AtomicU64::new(start),
                completed: AtomicU64::new(start),
                wanted: AtomicU64::new(start),
                blocker: AtomicPtr::new(ptr::null_mut()),
                readers: Registry::new(),
                _fences: PhantomData,
            }
        }
    }

    /// The threads that read here.
    pub fn readers(&self) -> &Registry<ReaderState> {
        &self.readers
    }

    /// Enters a section of `reader`, a record of this machine.
    #[inline(always)]
    pub fn enter(&self, reader: &ReaderState) {
        reader.enter::<F>(&self.current);
    }

    /// Enters with the reader's half of `G`, which goes with `F`'s other half.
    #[inline(always)]
    pub(super) fn enter_by<G: Fences>(&self, reader: &ReaderState) {
        reader.enter::<G>(&self.current);
    }

    /// The period that has to complete before what was unlinked so far is out of reach. Starts
    /// nothing.
    #[inline]
    pub fn cookie(&self) -> u64 {
        // Orders the caller's unlinking before the load; pairs, through the beginning of the period
        // that the cookie names, with `light` in `enter`.
        F::full();
        self.current.load(Ordering::Relaxed).wrapping_add(STEP)
    }

    /// Whether the period has completed; does nothing about it.
    #[inline]
    pub fn is_elapsed(&self, cookie: u64) -> bool {
        // Acquire pairs with the Release in `raise(completed)`: sections whose end the scan saw are
        // past for the caller too.
        !older(self.completed.load(Ordering::Acquire), cookie)
    }

    /// Asks for the period, and begins it if none is in progress.
    pub fn want(&self, cookie: u64) {
        // A cookie that no `cookie` of this machine returned recently is beyond the next period: to
        // ask for it would keep the machine running for nothing.
        if older(self.current.load(Ordering::Relaxed).wrapping_add(STEP), cookie) {
            return;
        }
        raise(&self.wanted, cookie);
        let completed = self.completed.load(Ordering::Acquire);
        if self.current.load(Ordering::Relaxed) == completed {
            self.begin(completed);
        }
    }

    /// Moves the machine as far as it goes without waiting. True: the period has completed, with
    /// full ordering.
    ///
    /// At most two periods are driven, for a cookie is at most two ahead of `completed`.
    pub fn poll(&self, cookie: u64) -> bool {
        if !self.is_elapsed(cookie) {
            self.want(cookie);
            self.advance(cookie);
            if !self.is_elapsed(cookie) {
                return false;
            }
        }
        // The caller's accesses before and after are ordered, as if it had waited.
        F::full();
        true
    }

    fn advance(&self, target: u64) {
        loop {
            // Acquire pairs with the Release in `begin`: what was unlinked before the period began
            // is unlinked for the `heavy` below too.
            let period = self.current.load(Ordering::Acquire);
            let completed = self.completed.load(Ordering::Acquire);
            if !older(completed, target) {
                return;
            }
            if !older(completed, period) {
                // Idle, or the load of `current` is behind.
                if !older(completed, self.wanted.load(Ordering::Relaxed)) {
                    return;
                }
                self.begin(completed);
                continue;
            }
            // Acquire pairs with the Release in `raise(fenced)`: somebody's `heavy` for this period
            // happened before the scan below.
            if older(self.fenced.load(Ordering::Acquire), period) {
                // Pairs with `light` in every reader's `enter`.
                F::heavy();
                raise(&self.fenced, period);
            }
            if self.is_held_up(period) {
                return;
            }
            raise(&self.completed, period);
        }
    }

    /// `completed` -> in progress. Whoever loses the race finds the period begun.
    fn begin(&self, completed: u64) {
        // Release pairs with the Acquire loads in `enter` and `advance`; Acquire makes the chain of
        // those who began earlier periods whole.
        let _ = self.current.compare_exchange(
            completed,
            completed.wrapping_add(STEP),
            Ordering::AcqRel,
            Ordering::Relaxed,
        );
    }

    /// Whether a section that began before `period` is still open.
    fn is_held_up(&self, period: u64) -> bool {
        // Relaxed: the record was initialised before the registry published it, which is where a
        // scan of this machine found it. See `blocker()`.
        if self.blocker().is_some_and(|r| r.blocks(period) && r.is_alive()) {
            return true;
        }
        // A thread that a fork left behind reads nothing any more.
        match self.readers.iter().find(|r| r.blocks(period) && r.is_alive()) {
            Some(reader) => {
                self.blocker.store(ptr::from_ref(reader).cast_mut(), Ordering::Release);
                true
            }
            None => false,
        }
    }

    #[allow(unsafe_code)]
    fn blocker(&self) -> Option<&Record<ReaderState>> {
        // Acquire pairs with the Release in `is_held_up`: the record's initialisation, seen by
        // whoever stored the pointer, is seen here.
        let record = self.blocker.load(Ordering::Acquire);
        // SAFETY: null, or a record of `readers`, which live as long as this machine.
        unsafe { record.as_ref() }
    }
}

/// Moves `number` forward to `to`, if it is not there or beyond.
fn raise(number: &AtomicU64, to: u64) {
    let mut now = number.load(Ordering::Relaxed);
    while older(now, to) {
        // Release pairs with the Acquire loads of the number: what the writer did before (its
        // fence, its scan) is done for the reader of the number. Acquire makes the same hold for
        // what the previous writer did.
        match number.compare_exchange_weak(now, to, Ordering::AcqRel, Ordering::Relaxed) {
            Ok(_) => return,
            Err(other) => now = other,
        }
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;
    use crate::policy::Asymmetric;

    fn machine(start: u64) -> Machine<Asymmetric> {
        Machine::new(start)
    }

    #[test]
    fn cookie_asks_for_nothing() {
        let m = machine(0);
        let cookie = m.cookie();
        assert!(!m.is_elapsed(cookie));
        assert_eq!(m.current.load(Ordering::Relaxed), 0);
        assert!(m.poll(cookie));
    }

    #[test]
    fn a_period_waits_for_older_sections_only() {
        let m = machine(0);
        let (old, new) = (m.readers().acquire().unwrap(), m.readers().acquire().unwrap());
        m.enter(old);
        let cookie = m.cookie();
        m.want(cookie);
        m.enter(new);
        assert!(!m.poll(cookie));
        assert!(!m.poll(cookie), "the blocker is asked first, and still blocks");
        old.leave();
        assert!(m.poll(cookie));
        assert!(!m.poll(m.cookie()), "the second section is older than this one");
        new.leave();
    }

    #[test]
    fn a_section_that_began_in_the_period_needs_the_next_one() {
        let m = machine(0);
        let (old, new) = (m.readers().acquire().unwrap(), m.readers().acquire().unwrap());
        m.enter(old);
        m.want(m.cookie());
        m.enter(new);
        // The period in progress says nothing about `new`, which may hold what is unlinked now.
        let cookie = m.cookie();
        old.leave();
        assert!(!m.poll(cookie));
        new.leave();
        assert!(m.poll(cookie));
    }

    #[test]
    fn numbers_wrap() {
        let m = machine(0_u64.wrapping_sub(3 * STEP));
        let r = m.readers().acquire().unwrap();
        for _ in 0..8 {
            let before = m.cookie();
            m.enter(r);
            let cookie = m.cookie();
            m.want(cookie);
            assert!(!m.poll(cookie));
            m.enter(r);
            r.leave();
            assert!(!m.poll(cookie), "the outer section is still open");
            r.leave();
            assert!(m.poll(cookie));
            assert!(m.is_elapsed(before));
            assert!(m.is_elapsed(cookie));
        }
    }

    #[test]
    fn a_cookie_of_elsewhere_starts_nothing() {
        let m = machine(0);
        assert!(!m.poll(1000 * STEP));
        assert_eq!(m.current.load(Ordering::Relaxed), 0);
    }
}
