//! One cache entry: an object and the thread's signed delta of references to it.
//!
//! # Who may do what
//! `word` is 0 (empty) or the object's address with a state in its low bits.
//!
//! | from | to | who | what goes with it |
//! |---|---|---|---|
//! | empty | cached | owner | `delta` was set before; the object's count has one more user |
//! | cached | requested | anyone | nothing: the owner's next touch will find it |
//! | cached, requested | revoking | a flusher with the lock | nothing yet |
//! | revoking | committed | that flusher | `taken` was set to the delta it read: it owes the count that delta and the user |
//! | cached, requested, revoking | empty | owner | it owes the count its delta and the user |
//! | committed | empty | owner | it owes the count what `taken` lacks of its delta: its last touch, or nothing |
//!
//! `delta` is written by the owner only. `taken` is written by the flusher that has the lock,
//! before it tries to commit. Nobody waits for anybody.
//!
//! # A touch against a flush
//! The owner adds to its delta without a locked instruction and without saying that it is going to:
//! store the delta, `light()`, look at the word again. The flusher marks the word, `heavy()`, reads
//! the delta. If the owner's fence comes first, the flusher reads a delta with the touch in it. If
//! the flusher's comes first, the owner sees the mark and settles with what the flusher says it has
//! taken. Both can be the case; then `taken` contains the touch, and nothing is left to settle. So
//! a thread may sleep anywhere in a touch, before or after its store, and be flushed.
#![cfg_attr(not(loom), allow(unreachable_pub, reason = "public for models"))]

use super::count::Owed;
use crate::asymmetric::Fences;
use percpu::sync::atomic::{AtomicI64, AtomicUsize, Ordering};

/// The low bits of `word`. Objects are aligned to 8.
const STATE: usize = 3;
const CACHED: usize = 0;
const REQUESTED: usize = 1;
const REVOKING: usize = 2;
const COMMITTED: usize = 3;

/// What became of a touch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Touch {
    /// It is in the delta, and the entry is still cached.
    Done,
    /// The entry is not (or not any more) a cached one of this object; nothing was changed.
    Missed,
    /// It is in the delta, but the entry was marked meanwhile: [`Entry::empty`] settles both.
    Marked,
}

/// See the module's text.
#[derive(Debug, Default)]
pub struct Entry {
    word: AtomicUsize,
    delta: AtomicI64,
    taken: AtomicI64,
}

impl Entry {
    /// Owner: adds to the delta if `object` is cached here.
    #[inline(always)]
    pub fn touch(&self, object: usize, by: i64, fences: impl Fences) -> Touch {
        // Relaxed: only the owner makes an entry cached.
        if self.word.load(Ordering::Relaxed) != object {
            return Touch::Missed;
        }
        // Release pairs with the Acquire in `commit`: who frees the object for this thread does so
        // after what the thread did with it.
        self.delta.store(self.delta.load(Ordering::Relaxed) + by, Ordering::Release);
        // Pairs with `heavy()` between `revoke` and `commit`.
        fences.light();
        if self.word.load(Ordering::Relaxed) == object { Touch::Done } else { Touch::Marked }
    }

    /// Owner: empties the entry, whatever state it is in. The caller makes the change to the
    /// object's count.
    pub fn empty(&self) -> Option<Owed> {
        // Acquire pairs with the Release in `commit`: `taken` is what the flusher owes.
        let mut word = self.word.load(Ordering::Acquire);
        let owed = loop {
            if word == 0 {
                return None;
            }
            let (object, delta) = (word & !STATE, self.delta.load(Ordering::Relaxed));
            if word & STATE == COMMITTED {
                // Nobody else changes it now. Release pairs with the Acquire of the next flusher,
                // which must find this entry's `taken` settled.
                self.word.store(0, Ordering::Release);
                break Owed { object, users: 0, refs: delta - self.taken.load(Ordering::Relaxed) };
            }
            match self.word.compare_exchange(word, 0, Ordering::AcqRel, Ordering::Acquire) {
                Ok(_) => break Owed { object, users: -1, refs: delta },
                Err(now) => word = now,
            }
        };
        Some(owed)
    }

    /// Whether somebody wants the entry emptied, or has taken it over.
    pub fn is_marked(&self) -> bool {
        // Relaxed: `empty` looks again.
        self.word.load(Ordering::Relaxed) & STATE != CACHED
    }

    /// Owner: whether the entry is not empty, whatever its state, because of `object`.
    pub fn holds(&self, object: usize) -> bool {
        // Relaxed: only the owner makes it another object's; `empty` looks again.
        self.word.load(Ordering::Relaxed) & !STATE == object
    }

    /// Owner: caches `object`, with `delta` references counted here. The entry is empty, and the
    /// object's count has been given the user.
    pub fn fill(&self, object: usize, delta: i64) {
        self.delta.store(delta, Ordering::Relaxed);
        // Release pairs with the Acquire in `revoke`: the flusher reads this delta or a later one.
        self.word.store(object | CACHED, Ordering::Release);
    }

    /// Anyone: makes the owner's next touch of `object` empty the entry.
    pub fn request(&self, object: usize) {
        // Relaxed: a failure means that it is cached elsewhere, or marked already.
        let _ = self.word.compare_exchange(
            object | CACHED,
            object | REQUESTED,
            Ordering::Relaxed,
            Ordering::Relaxed,
        );
    }

    /// A flusher with the lock: marks the entry if it caches `only` (or anything). Between this and
    /// [`commit`](Self::commit) comes `heavy()`.
    pub fn revoke(&self, only: Option<usize>) {
        let mut word = self.word.load(Ordering::Relaxed);
        loop {
            let object = word & !STATE;
            if word == 0 || word & STATE == COMMITTED || only.is_some_and(|o| o != object) {
                return;
            }
            // Revoking already: a flusher that a fork left behind.
            // Acquire pairs with the Release in `fill`.
            match self.word.compare_exchange(
                word,
                object | REVOKING,
                Ordering::Acquire,
                Ordering::Relaxed,
            ) {
                Ok(_) => return,
                Err(now) => word = now,
            }
        }
    }

    /// The same flusher, after `heavy()`: takes over the delta of an entry that it revoked, as it
    /// is now, unless the owner was faster. The caller makes the change to the object's count,
    /// which the user that it takes over keeps alive until then.
    pub fn commit(&self) -> Option<Owed> {
        // Relaxed: only this flusher makes an entry revoking.
        let word = self.word.load(Ordering::Relaxed);
        if word & STATE != REVOKING {
            return None;
        }
        // Acquire pairs with the Release in `touch`.
        let delta = self.delta.load(Ordering::Acquire);
        self.taken.store(delta, Ordering::Relaxed);
        let object = word & !STATE;
        // Release pairs with the Acquire in `empty`: the owner sees `taken`.
        let committed = self.word.compare_exchange(
            word,
            object | COMMITTED,
            Ordering::Release,
            Ordering::Relaxed,
        );
        committed.ok().map(|_| Owed { object, users: -1, refs: delta })
    }
}
