//! The shared word of a counted object: who caches it, and how many references there are besides.
//!
//! One signed word, `users * 2^40 + refs`. `users` is the number of cache entries that hold the
//! object; each has a signed delta of its own. `refs` is the rest, and may be negative: references
//! taken in one thread's entry can be given back to the word. The number of references is `refs`
//! plus all deltas.
//!
//! The object is dead when the word is 0: no user, so no delta is unknown, and no reference. As
//! both numbers are in one word, exactly one addition makes it 0. (Kept apart, two threads that
//! drop at once can each see the other's half undone, or both see all of it done: free twice, or
//! never.) While there is a user the word is at least 2^39 away from 0, whatever the references do.
#![cfg_attr(not(loom), allow(unreachable_pub, reason = "public for models"))]

use percpu::sync::atomic::{AtomicI64, Ordering};

const USER: i64 = 1 << 40;
/// References are kept this far from where they would reach into the users.
const MOST_REFS: i64 = 1 << 38;

/// See the module's text.
#[derive(Debug)]
pub struct Count(AtomicI64);

/// A change to a [`Count`] that somebody has to make.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
pub struct Owed {
    /// The object's address.
    pub object: usize,
    /// How many users come or go.
    pub users: i64,
    /// How many references come or go.
    pub refs: i64,
}

impl Count {
    /// An object with one reference and no user.
    pub fn one() -> Self {
        Self(AtomicI64::new(1))
    }

    /// Adds users and references; true: the object is dead, and the caller has to free it.
    ///
    /// Aborts (see [`too_many`]) when the references get out of hand, as `Arc` does.
    #[must_use]
    pub fn add(&self, users: i64, refs: i64) -> bool {
        if refs.abs() >= MOST_REFS {
            too_many();
        }
        let change = users * USER + refs;
        // Release: what was done with the object under these references comes before its end.
        // Acquire, for the one who ends it: pairs with the Release of all others. One
        // read-modify-write for both, because "0" is only known afterwards.
        let now = self.0.fetch_add(change, Ordering::AcqRel).wrapping_add(change);
        if Self::refs_of(now).abs() >= MOST_REFS {
            too_many();
        }
        now == 0
    }

    /// Users and references in the word, at some moment.
    pub fn parts(&self) -> (i64, i64) {
        // Relaxed: a statistic.
        let word = self.0.load(Ordering::Relaxed);
        ((word - Self::refs_of(word)) / USER, Self::refs_of(word))
    }

    fn refs_of(word: i64) -> i64 {
        (word << 24) >> 24
    }
}

/// 2^38 references: somebody forgets them in a loop. There is no error to return from a `clone`,
/// and going on would free the object under its users.
#[cold]
#[inline(never)]
fn too_many() -> ! {
    struct Abort;
    impl Drop for Abort {
        fn drop(&mut self) {
            panic!("panic while panicking aborts");
        }
    }
    let _abort = Abort;
    panic!("more than 2^38 references to one object");
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    #[test]
    fn dead_only_without_users_and_references() {
        let count = Count::one();
        assert!(!count.add(1, 0));
        assert!(!count.add(0, -1));
        assert_eq!(count.parts(), (1, 0));
        assert!(!count.add(0, -3));
        assert_eq!(count.parts(), (1, -3));
        assert!(!count.add(1, 0));
        assert!(!count.add(-1, 1));
        assert!(count.add(-1, 2));
    }
}
