//! The bucket table: cache lines of twelve tagged handles.
//!
//! ```text
//! word 0:  tags of slots 0..8, one byte each
//! word 1:  tags of slots 8..12 | link:27 to an overflow bucket, in words | owner:5 of the lock,
//!          0 when unlocked
//! word 2..8: two slots each, a slot being fine tag:5 | position of the record:27, or 0 when empty
//! ```
//!
//! A lookup reads one line, compares all tags at once, and goes on to a record only where 13 bits
//! of the hash agree: a hit touches the line and the record, a miss (mostly) the line alone. Chains
//! of records, the usual form, cost a cache miss for every record in front of the right one. A full
//! bucket continues in an overflow bucket from the pools, which stays linked for ever.
//!
//! # Who may write what
//! The lock's holder fills empty slots, sets tags and links overflow buckets: that makes
//! de-duplication exact, since whoever holds the lock sees every stack of the bucket. Emptying a
//! slot needs no lock: only the one whose put ended the record does it. Every write is a
//! compare-and-swap of one word, so the table is whole at each instant, also when a thread vanishes
//! between two of them.
//!
//! A tag is a hint and may be stale; the slot is what counts. A reader that sees the tag before the
//! slot, or the slot before the tag, misses, and a miss looks again under the lock.

use crate::compare::bytes_equal;
use crate::handle::{LOC_BITS, LOC_MASK};
use crate::layout::{BUCKET_WORDS, BUCKETS_LOG2_LIMIT, Layout, WRITER_SLOTS};
use percpu::sync::atomic::{AtomicU64, Ordering};
use percpu::sync::hint;

/// Stacks that fit into one bucket.
const SLOTS: usize = 12;
const OWNER_SHIFT: u32 = 59;
const LINK_SHIFT: u32 = 32;
/// How often a locked bucket is tried before the save gives up: a few microseconds, many times what
/// the holder needs unless it was preempted.
#[cfg(not(loom))]
const SPINS: usize = 200;
#[cfg(loom)]
const SPINS: usize = 2;

/// The bucket's number begins at bit 37, above tag, fine tag and checksum; times the words of a
/// bucket.
const BUCKET_SHIFT: u32 = 37 - BUCKET_WORDS.trailing_zeros();

const _: () = assert!(37 + BUCKETS_LOG2_LIMIT <= 64, "the hash has bits for every bucket");
const _: () =
    assert!(LINK_SHIFT + LOC_BITS == OWNER_SHIFT, "link and owner share the upper half of word 1");
const _: () = assert!(
    WRITER_SLOTS == (1 << (64 - OWNER_SHIFT)) - 1,
    "every writer's number fits the owner field"
);

pub(crate) type Bucket = [AtomicU64; BUCKET_WORDS];

/// Which part of a 64-bit hash goes where: low 8 bits tag, 5 bits fine tag, 24 bits checksum (see
/// `record`), then the bucket.
#[derive(Clone, Copy)]
pub(crate) struct Key {
    hash: u64,
}

impl Key {
    #[inline(always)]
    pub(crate) fn new(hash: u64) -> Self {
        Self { hash }
    }

    #[inline(always)]
    fn tag(self) -> u8 {
        self.hash as u8
    }

    /// The slot's content for a record at `loc`.
    #[inline(always)]
    fn slot(self, loc: usize) -> u32 {
        (self.hash >> 8 << LOC_BITS) as u32 | loc as u32
    }

    /// First word of the bucket.
    #[inline(always)]
    fn bucket(self, layout: &Layout) -> usize {
        layout.table + ((self.hash >> BUCKET_SHIFT) as usize & layout.bucket_mask)
    }
}

#[inline(always)]
fn bucket_at(words: &[AtomicU64], at: usize) -> Option<&Bucket> {
    words.get(at..)?.first_chunk()
}

/// The bucket that word 1 links to.
#[inline(always)]
fn linked<'m>(words: &'m [AtomicU64], layout: &Layout, word1: u64) -> Option<&'m Bucket> {
    let at = (word1 >> LINK_SHIFT) as usize & LOC_MASK as usize;
    if at < layout.pools { None } else { bucket_at(words, at) }
}

/// Whether word 1 links to nothing.
fn is_end(word1: u64) -> bool {
    (word1 >> LINK_SHIFT) as u32 & LOC_MASK == 0
}

/// A bucket and its overflow buckets.
#[inline(always)]
fn chain<'m>(
    words: &'m [AtomicU64],
    layout: &'m Layout,
    at: usize,
) -> impl Iterator<Item = &'m Bucket> {
    core::iter::successors(bucket_at(words, at), |b| {
        // Acquire pairs with the Release in Locked::link: the linked bucket was empty when it was
        // linked.
        linked(words, layout, b[1].load(Ordering::Acquire))
    })
    .take(layout.chain)
}

#[inline(always)]
fn slot_word(slot: usize) -> (usize, u32) {
    (2 + slot / 2, (slot as u32 % 2) * 32)
}

/// Positions of the records whose slots agree with a key in all 13 bits.
///
/// A struct with a `next` of its own rather than a closure or `Iterator`, for this is the hot loop
/// and has to be compiled into its caller.
pub(crate) struct Candidates<'m> {
    bucket: &'m Bucket,
    /// Slots still to be looked at, a bit each.
    matches: u32,
    links: usize,
}

impl<'m> Candidates<'m> {
    #[inline(always)]
    pub(crate) fn new(words: &'m [AtomicU64], layout: &Layout, key: Key) -> Option<Self> {
        Some(Self::enter(bucket_at(words, key.bucket(layout))?, key, 0))
    }

    #[inline(always)]
    fn enter(bucket: &'m Bucket, key: Key, links: usize) -> Self {
        Self { bucket, matches: bytes_equal(bucket, key.tag()) & ((1 << SLOTS) - 1), links }
    }

    #[inline(always)]
    pub(crate) fn next(
        &mut self,
        words: &'m [AtomicU64],
        layout: &Layout,
        key: Key,
    ) -> Option<usize> {
        loop {
            while self.matches != 0 {
                let (word, shift) = slot_word(self.matches.trailing_zeros() as usize);
                self.matches &= self.matches - 1;
                // The remainder is the index, and tells the compiler so. Acquire pairs with the
                // Release in Locked::publish: the record is complete.
                let slot =
                    (self.bucket[word % BUCKET_WORDS].load(Ordering::Acquire) >> shift) as u32;
                let loc = slot & LOC_MASK;
                if slot ^ loc == key.slot(0) && loc != 0 {
                    return Some(loc as usize);
                }
            }
            if self.links >= layout.chain {
                return None;
            }
            // Acquire as in `chain`.
            *self = Self::enter(
                linked(words, layout, self.bucket[1].load(Ordering::Acquire))?,
                key,
                self.links + 1,
            );
        }
    }
}

/// Empties the slot that holds the record at `loc`. False if none does. Only for the one whose put
/// ended that record: nobody else may empty it, and nobody reuses the record before.
pub(crate) fn unlink(words: &[AtomicU64], layout: &Layout, key: Key, loc: usize) -> bool {
    let wanted = key.slot(loc);
    chain(words, layout, key.bucket(layout)).any(|bucket| {
        (0..SLOTS).any(|slot| {
            let (word, shift) = slot_word(slot);
            // Release for form's sake: the free list orders it before the next use of the record.
            swap_slot(&bucket[word], shift, wanted, 0, Ordering::Release)
        })
    })
}

/// Replaces one half of a word if it is `from`.
fn swap_slot(word: &AtomicU64, shift: u32, from: u32, to: u32, success: Ordering) -> bool {
    let mut now = word.load(Ordering::Relaxed);
    while (now >> shift) as u32 == from {
        let next = now & !(u64::from(u32::MAX) << shift) | u64::from(to) << shift;
        match word.compare_exchange_weak(now, next, success, Ordering::Relaxed) {
            Ok(_) => return true,
            // The neighbour changed, or this slot did.
            Err(seen) => now = seen,
        }
    }
    false
}

/// Whether a slot holds the record at `loc`. Exact for whoever has a reference on it.
pub(crate) fn holds(words: &[AtomicU64], layout: &Layout, key: Key, loc: usize) -> bool {
    let wanted = key.slot(loc);
    chain(words, layout, key.bucket(layout)).any(|bucket| {
        (0..SLOTS).any(|slot| {
            let (word, shift) = slot_word(slot);
            // Relaxed: a reference on the record came after the slot was filled (`enliven`).
            (bucket[word].load(Ordering::Relaxed) >> shift) as u32 == wanted
        })
    })
}

/// Locks a key's bucket, its overflow buckets included. None if somebody else keeps it; `is_dead`
/// says whether the lock of a writer was left behind.
pub(crate) fn lock<'m>(
    words: &'m [AtomicU64],
    layout: &Layout,
    key: Key,
    is_dead: impl Fn(u64) -> bool,
    me: u64,
) -> Option<Locked<'m>> {
    let at = key.bucket(layout);
    let control = &bucket_at(words, at)?[1];
    let mut asked = false;
    for _ in 0..SPINS {
        let now = control.load(Ordering::Relaxed);
        let owner = now >> OWNER_SHIFT;
        let free = owner == 0 || (!asked && is_dead(owner));
        // Asking can be a system call: once.
        asked |= owner != 0;
        if free {
            let locked = now & !(u64::MAX << OWNER_SHIFT) | me << OWNER_SHIFT;
            // Acquire pairs with the Release in Locked::drop: everything published under the lock
            // before is seen.
            if control
                .compare_exchange_weak(now, locked, Ordering::Acquire, Ordering::Relaxed)
                .is_ok()
            {
                return Some(Locked { at, control });
            }
        }
        hint::spin_loop();
    }
    None
}

/// A bucket that no other thread fills, until dropped.
///
/// The words given to its methods are to be looked up after locking: the last holder may have
/// linked a bucket in a pool that was not mapped before.
pub(crate) struct Locked<'m> {
    at: usize,
    control: &'m AtomicU64,
}

impl Locked<'_> {
    /// Puts the record at `loc` into an empty slot, and then makes it live. False, and not live, if
    /// there is none.
    pub(crate) fn publish(
        &self,
        words: &[AtomicU64],
        layout: &Layout,
        key: Key,
        loc: usize,
        enliven: impl Fn(),
    ) -> bool {
        chain(words, layout, self.at).any(|bucket| {
            (0..SLOTS).any(|slot| {
                let (word, shift) = slot_word(slot);
                // Relaxed: slots are filled under this lock only.
                if (bucket[word].load(Ordering::Relaxed) >> shift) as u32 != 0 {
                    return false;
                }
                set_tag(bucket, slot, u64::from(key.tag()));
                #[cfg(loom)]
                if crate::broken::is(crate::broken::Twin::EnlivensFirst) {
                    enliven();
                }
                // Release pairs with the Acquire in Candidates::next: frames and tag come first.
                let filled = swap_slot(&bucket[word], shift, 0, key.slot(loc), Ordering::Release);
                enliven();
                filled
            })
        })
    }

    /// Whether the chain has an end, where a bucket can be appended.
    pub(crate) fn has_end(&self, words: &[AtomicU64], layout: &Layout) -> bool {
        // Relaxed: the word changes under this lock only.
        chain(words, layout, self.at)
            .last()
            .is_some_and(|end| is_end(end[1].load(Ordering::Relaxed)))
    }

    /// Appends an overflow bucket at `at`, fresh words. False if the chain's end is not one.
    pub(crate) fn link(&self, words: &[AtomicU64], layout: &Layout, at: usize) -> bool {
        let Some(end) = chain(words, layout, self.at).last() else { return false };
        let Some(fresh) = bucket_at(words, at) else { return false };
        // Fresh words are zero unless somebody scribbled there. Relaxed: published below.
        fresh.iter().for_each(|w| w.store(0, Ordering::Relaxed));
        let now = end[1].load(Ordering::Relaxed);
        let linked = now | (at as u64) << LINK_SHIFT;
        // Release pairs with the Acquire in `chain` and Candidates::enter. The word changes under
        // this lock only.
        is_end(now)
            && end[1].compare_exchange(now, linked, Ordering::Release, Ordering::Relaxed).is_ok()
    }
}

impl Drop for Locked<'_> {
    fn drop(&mut self) {
        // Release pairs with the Acquire in `lock`.
        self.control.fetch_and(!(u64::MAX << OWNER_SHIFT), Ordering::Release);
    }
}

fn set_tag(bucket: &Bucket, slot: usize, tag: u64) {
    let (word, shift) = (slot / 8, slot % 8 * 8);
    let now = bucket[word].load(Ordering::Relaxed);
    // Only the lock's holder writes tags, so adding the difference changes this byte alone,
    // whatever happens to the others meanwhile. Relaxed: see `publish`.
    bucket[word].fetch_xor((now >> shift & 0xff ^ tag) << shift, Ordering::Relaxed);
}

/// Unlocks every bucket whose owner answers to `left_behind`.
#[cold]
pub(crate) fn release_all(words: &[AtomicU64], layout: &Layout, left_behind: impl Fn(u64) -> bool) {
    for i in 0..layout.buckets() {
        let Some(bucket) = bucket_at(words, layout.table + i * BUCKET_WORDS) else { return };
        let now = bucket[1].load(Ordering::Relaxed);
        if now >> OWNER_SHIFT != 0 && left_behind(now >> OWNER_SHIFT) {
            // Relaxed: the owner is gone, nobody waits for a message from it.
            bucket[1].fetch_and(!(u64::MAX << OWNER_SHIFT), Ordering::Relaxed);
        }
    }
}

/// Positions of the records in all slots, bucket by bucket. For walks while others write: a
/// position can be stale or nonsense.
pub(crate) struct Slots<'m> {
    words: &'m [AtomicU64],
    layout: &'m Layout,
    next_bucket: usize,
    current: Option<&'m Bucket>,
    slot: usize,
    links: usize,
}

impl<'m> Slots<'m> {
    pub(crate) fn new(words: &'m [AtomicU64], layout: &'m Layout) -> Self {
        Self { words, layout, next_bucket: 0, current: None, slot: SLOTS, links: 0 }
    }
}

impl Iterator for Slots<'_> {
    type Item = usize;

    fn next(&mut self) -> Option<usize> {
        loop {
            if let Some(bucket) = self.current.filter(|_| self.slot < SLOTS) {
                let (word, shift) = slot_word(self.slot);
                self.slot += 1;
                // Relaxed: whoever uses the position validates the record.
                let loc = (bucket[word].load(Ordering::Relaxed) >> shift) as u32 & LOC_MASK;
                if loc != 0 {
                    return Some(loc as usize);
                }
                continue;
            }
            self.slot = 0;
            // All walks together follow no more links than there can be overflow buckets: a loop
            // ends.
            let link = self
                .current
                .and_then(|b| linked(self.words, self.layout, b[1].load(Ordering::Relaxed)));
            if let Some(overflow) = link.filter(|_| self.links < self.layout.total / BUCKET_WORDS) {
                self.links += 1;
                self.current = Some(overflow);
                continue;
            }
            if self.next_bucket == self.layout.buckets() {
                return None;
            }
            self.current =
                bucket_at(self.words, self.layout.table + self.next_bucket * BUCKET_WORDS);
            self.next_bucket += 1;
        }
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    #[test]
    fn setting_a_tag_leaves_the_rest_of_the_word() {
        let bucket: Bucket = core::array::from_fn(|_| AtomicU64::new(0x1122_3344_5566_7788));
        set_tag(&bucket, 9, 0xab);
        assert_eq!(bucket[1].load(Ordering::Relaxed), 0x1122_3344_5566_ab88);
        set_tag(&bucket, 7, 0xcd);
        assert_eq!(bucket[0].load(Ordering::Relaxed), 0xcd22_3344_5566_7788);
    }
}
