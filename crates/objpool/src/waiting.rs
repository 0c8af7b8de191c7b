//! Who waits for an object, and whether the pool is closed.
//!
//! # States
//! One word, 0 in a pool that is open and for which nobody waits; every push that does not end in a
//! restartable sequence reads it, after the object is back:
//!
//! ```text
//! state   [ generation: 31 | waiters: 32 | closed: 1 ]
//! turn    a count of wake-ups, on which waiters sleep
//! ```
//!
//! - `waiters` and `generation`: a waiter adds itself ([`Waiting::enter`]) and takes itself off
//!   ([`Waiter`]'s drop), by compare-and-swap. The last one takes the generation off, too.
//! - In a fork child the generation is not the process's: the waiters are the parent's, and whoever
//!   comes first forgets them ([`Waiting::forget_parents`]). If the thread that called `fork` is
//!   one of them (from a signal handler), `turn` makes it look, and it enters again.
//! - `closed`: set once, never taken back.
//! - `turn`: advanced by whoever wakes, before waking.
//!
//! # No wake-up is lost
//! ```text
//! push:    object back;  barrier;  state?      -> turn + 1, wake one
//! waiter:  state + 1;    barrier;  loop { turn?; pop; sleep while turn is the same }
//! ```
//! The barriers are the list's ([`FreeList::settle`](crate::FreeList) and `hold`): at least one
//! side sees the other. So a push that reads 0 is seen by the pop. One that reads a waiter advances
//! `turn`: if it does so after the waiter has read it, the kernel lets nobody fall asleep on the
//! old one, or wakes; if before, the pop that follows sees the object.
//!
//! One wake-up per push is enough: whoever is woken looks once more, and finds an object or the
//! list empty. Let a waiter sleep and no operation be in progress. At its last look the list was
//! empty; each push since then woke a waiter (this one kept sleeping, so there was one), which took
//! an object, or saw the list empty again. As many objects went as came.
//!
//! A wake-up that finds nobody asleep is not kept, and need not be: see above, `turn` was advanced.
//! It would take 2^32 of them between a waiter's look and its sleep to be taken for none.

#![cfg_attr(not(loom), allow(unreachable_pub, reason = "what the models in `tests/` use"))]

use percpu::fork;
use percpu::sync::atomic::{AtomicU64, Ordering};
use percpu::sync::{Deadline, Futex};

const CLOSED: u64 = 1;
const WAITER: u64 = 1 << 1;
const GENERATION: u64 = 1 << 33;
const WAITERS: u64 = GENERATION - WAITER;

/// See the module's text.
#[derive(Debug)]
pub struct Waiting {
    state: AtomicU64,
    turn: Futex,
}

/// The fork generation as the state has it.
fn generation() -> u64 {
    // Shifting drops the upper bits: 2^31 forks, each in the child of the last, begin anew.
    fork::generation().wrapping_mul(GENERATION)
}

impl Waiting {
    /// Open, and nobody waits.
    pub fn new() -> Self {
        Self { state: AtomicU64::new(0), turn: Futex::new() }
    }

    /// Whether there is nothing to look after: nobody waits, and the pool is open.
    #[inline(always)]
    pub fn is_quiet(&self) -> bool {
        // SeqCst pairs with `enter` and `close`; the list's barrier stands between the push and
        // this (`FreeList::settle`).
        self.state.load(Ordering::SeqCst) == 0
    }

    /// Whether the pool is closed.
    #[inline(always)]
    pub fn is_closed(&self) -> bool {
        // SeqCst: as `is_quiet`.
        self.state.load(Ordering::SeqCst) & CLOSED != 0
    }

    /// From now on the pool is closed. True for the first call. Wakes nobody.
    pub fn close(&self) -> bool {
        // SeqCst pairs with `is_quiet`.
        self.state.fetch_or(CLOSED, Ordering::SeqCst) & CLOSED == 0
    }

    /// One more waiter.
    pub fn enter(&self) -> Waiter<'_> {
        let generation = generation();
        let mut state = self.state.load(Ordering::Relaxed);
        loop {
            state = self.forget_parents(state);
            let next = (state & (WAITERS | CLOSED)) + WAITER + generation;
            // SeqCst pairs with `is_quiet`; the list's `hold` stands between this and the pop.
            match self.state.compare_exchange(state, next, Ordering::SeqCst, Ordering::Relaxed) {
                Ok(_) => return Waiter { waiting: self, generation },
                Err(now) => state = now,
            }
        }
    }

    /// An object is back: wakes one waiter, if there is one.
    pub fn wake_one(&self) {
        let state = self.forget_parents(self.state.load(Ordering::SeqCst));
        if state & WAITERS != 0 {
            self.turn.advance();
            self.turn.wake_one();
        }
    }

    /// There is nothing to wait for any more.
    pub fn wake_all(&self) {
        // SeqCst: as `is_quiet`.
        if self.state.load(Ordering::SeqCst) & WAITERS != 0 {
            self.turn.advance();
            self.turn.wake_all();
        }
    }

    /// Drops what `state` says of waiters that a fork has left behind. Returns the state without.
    pub fn forget_parents(&self, mut state: u64) -> u64 {
        while state & WAITERS != 0 && state & !(WAITERS | CLOSED) != generation() {
            let next = state & CLOSED;
            // Relaxed: nothing is read in their place. The one of them that may be here, asleep in
            // a call that a signal handler interrupted, is made to look by `turn`.
            match self.state.compare_exchange(state, next, Ordering::Relaxed, Ordering::Relaxed) {
                Ok(_) => {
                    self.turn.advance();
                    self.turn.wake_all();
                    return next;
                }
                Err(now) => state = now,
            }
        }
        state
    }

    /// [`is_closed`](Self::is_closed) for a pop, which in a fork child may open what makes pushes
    /// read the state: the parent's waiters are forgotten first.
    #[cold]
    #[inline(never)]
    pub fn is_closed_to_pops(&self) -> bool {
        self.forget_parents(self.state.load(Ordering::SeqCst)) & CLOSED != 0
    }
}

/// A thread that waits; dropping it takes it off.
#[derive(Debug)]
pub struct Waiter<'w> {
    waiting: &'w Waiting,
    generation: u64,
}

impl Waiter<'_> {
    /// Whether this is the process in which the waiter entered. In a fork child it has to enter
    /// again.
    pub fn is_current(&self) -> bool {
        self.generation == generation()
    }

    /// What [`sleep`](Self::sleep) compares: read before looking whether to sleep.
    pub fn turn(&self) -> u32 {
        self.waiting.turn.load()
    }

    /// Sleeps unless somebody has advanced the turn. False: `until` is over, and this thread was
    /// not woken.
    pub fn sleep(&self, turn: u32, until: Option<&Deadline>) -> bool {
        self.waiting.turn.wait(turn, until)
    }
}

impl Drop for Waiter<'_> {
    fn drop(&mut self) {
        let mut state = self.waiting.state.load(Ordering::Relaxed);
        // Otherwise forgotten.
        while state & WAITERS != 0 && state & !(WAITERS | CLOSED) == self.generation {
            let rest = state - WAITER;
            let next = if rest & WAITERS == 0 { rest & CLOSED } else { rest };
            // Relaxed: a push that reads the old state wakes for nothing.
            match self.waiting.state.compare_exchange(
                state,
                next,
                Ordering::Relaxed,
                Ordering::Relaxed,
            ) {
                Ok(_) => return,
                Err(now) => state = now,
            }
        }
    }
}
