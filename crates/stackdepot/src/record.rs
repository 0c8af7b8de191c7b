//! One saved stack: a head word and its frames.
//!
//! ```text
//! head: | references:32 | checksum:24 | depth:8 |   frames: one word each, room for an even number
//! ```
//!
//! # States
//! | references | state | may write the frames |
//! |---|---|---|
//! | 0 | building: off every list; in no bucket, or at the end of it in one | the builder |
//! | 0 | dead: in a bucket until its last putter has unlinked it | the putter |
//! | 0 | free: on a free list, which keeps its link in the head (see `free`) | nobody |
//! | 1 ..= `PERSISTENT` - 1 | live, so many references | nobody |
//! | `PERSISTENT` | live for ever | nobody |
//!
//! building -> live: the builder, under the bucket's lock, after a slot names the record. live ->
//! live with another count, live -> dead: anyone who holds a reference, or who takes one by way of
//! a slot, by compare-and-swap that never starts at 0. dead -> free: the one whose compare-and-swap
//! reached 0. free -> building: whom the free list gives the record.
//!
//! A word that was a record's head once is one for ever, of the same size class; what else is in it
//! changes only while nobody has a reference.
//!
//! # Records are used again at once
//! Nothing waits for the lookups that still stand on an evicted record (as the kernel's slabs that
//! are "typesafe by RCU", without the RCU, because no memory is ever given back). So a lookup that
//! came by a slot may stand on a record that is being filled with another stack. It takes its
//! reference first, on condition that depth and checksum are those that it seeks, and compares the
//! frames then: from that moment they cannot change. If they are others, it puts the reference back
//! as any holder would. Had it compared before, the record could have become another between the
//! two.
//!
//! A grace period here would cost what it saves: with more threads than CPUs some reader is always
//! preempted inside of its section, and all that was evicted in that time (hundreds of thousands of
//! records, for a few dozen that live) would have to wait.
//!
//! Depth and checksum change only while building. The checksum is 24 bits of the stack's hash: a
//! filter on lookup, and the proof that a copy taken while others write is a whole one.

use crate::compare::differs;
use crate::hash;
use crate::layout::record_words;
use percpu::sync::atomic::{AtomicU64, Ordering, fence};

/// References of a record that is never evicted.
pub(crate) const PERSISTENT: u32 = u32::MAX;
const ONE: u64 = 1 << 32;

/// Depth and checksum: what does not change while a record lives.
pub(crate) fn identity(hash: u64, depth: usize) -> u32 {
    ((hash >> 13) as u32) << 8 | depth as u32
}

#[inline(always)]
pub(crate) fn references(head: u64) -> u32 {
    (head >> 32) as u32
}

#[inline(always)]
pub(crate) fn depth(head: u64) -> usize {
    (head & 0xff) as usize
}

/// A record that lies inside the usable words, with a depth that fits. Not necessarily a real one:
/// positions can come from anybody.
#[derive(Clone, Copy)]
pub(crate) struct Record<'m> {
    head: &'m AtomicU64,
    frames: &'m [AtomicU64],
}

/// Why there is no live record at a position.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum NoRecord {
    /// No references: evicted, or never one.
    Dead,
    /// No record can be there.
    Nowhere,
}

/// What became of an attempt to change the references.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Change {
    /// The count was 0, or the record another by now: nothing changed.
    Dead,
    /// Persistent before: nothing changed.
    Already,
    /// Persistent now; the count was this.
    Became(u32),
    /// Counted; the count is now this.
    Count(u32),
}

impl<'m> Record<'m> {
    /// The live record at `loc`, if its head names at most `max_depth` frames that lie inside
    /// `words`.
    ///
    /// # Errors
    /// Why there is none.
    #[inline(always)]
    pub(crate) fn at(
        words: &'m [AtomicU64],
        loc: usize,
        max_depth: usize,
    ) -> Result<Self, NoRecord> {
        let (head, rest) =
            words.get(loc..).and_then(<[_]>::split_first).ok_or(NoRecord::Nowhere)?;
        // Relaxed: depth only bounds the slice here; users of the frames validate what they read.
        let now = head.load(Ordering::Relaxed);
        let depth = depth(now);
        if references(now) == 0 {
            return Err(NoRecord::Dead);
        }
        match rest.get(..depth) {
            Some(frames) if depth != 0 && depth <= max_depth => Ok(Self { head, frames }),
            _ => Err(NoRecord::Nowhere),
        }
    }

    /// The record at `loc`, which came from a slot, for as many frames; not yet looked at.
    #[inline(always)]
    pub(crate) fn candidate(words: &'m [AtomicU64], loc: usize, depth: usize) -> Option<Self> {
        let (head, rest) = words.get(loc..)?.split_first()?;
        Some(Self { head, frames: rest.get(..depth)? })
    }

    /// Whether the frames are these. Certain only while the caller has a reference.
    #[inline(always)]
    pub(crate) fn holds(&self, frames: &[u64]) -> bool {
        // Relaxed: written before `enliven` (Release), which the reference came after (Acquire in
        // `get`).
        !differs(self.frames, frames)
    }

    /// Whether this is the persistent stack `frames`. Needs no section: what is persistent once
    /// stays so, and its frames were written before it was.
    #[inline(always)]
    pub(crate) fn is_kept(words: &[AtomicU64], loc: usize, identity: u32, frames: &[u64]) -> bool {
        let Some((head, rest)) = words.get(loc..).and_then(<[_]>::split_first) else {
            return false;
        };
        // Acquire pairs with the Release in `enliven` (a record that was persistent from the start)
        // and in `keep` and `get` (one that became so; the frames are older still, and came with
        // the slot): the frames read below are those of the persistent record, whoever was here
        // before.
        if head.load(Ordering::Acquire) != u64::from(PERSISTENT) << 32 | u64::from(identity) {
            return false;
        }
        rest.get(..frames.len()).is_some_and(|theirs| !differs(theirs, frames))
    }

    /// How many frames it had when it was looked up.
    pub(crate) fn depth(&self) -> usize {
        self.frames.len()
    }

    pub(crate) fn head(&self) -> &'m AtomicU64 {
        self.head
    }

    /// 64-bit hash of the frames as they are now.
    pub(crate) fn hash(&self) -> u64 {
        hash::hash_shared(self.frames)
    }

    /// Overwrites the frames, so that whoever still uses an evicted record shows up in a test.
    pub(crate) fn poison(&self) {
        for w in self.frames {
            w.store(0xdead_dead_dead_dead, Ordering::Relaxed);
        }
    }

    /// Copies the frames to `out` if they are a whole, live record: `Ok` is its head, else the head
    /// that was seen last.
    ///
    /// A sequence-lock read: head, frames, head again. It pairs with `write`, whose first store
    /// makes the count 0 before the frames change, and `enliven`, which comes after them. A record
    /// that was recycled between the two reads into one with the same depth and checksum is told by
    /// the checksum of the copy.
    pub(crate) fn copy(&self, out: &mut [u64]) -> Result<u64, u64> {
        // Relaxed loads with fences rather than Acquire loads: the memory may be mapped read-only.
        let before = self.head.load(Ordering::Relaxed);
        // Pairs with the Release in `enliven`: a live head means that the frames below are at least
        // as new as it.
        fence(Ordering::Acquire);
        if references(before) == 0 || depth(before) != self.frames.len() {
            return Err(before);
        }
        for (o, w) in out.iter_mut().zip(self.frames) {
            *o = w.load(Ordering::Relaxed);
        }
        // Pairs with the Release fence in `write`: a frame of the next record means that the load
        // below sees the count at 0, or later.
        fence(Ordering::Acquire);
        let after = self.head.load(Ordering::Relaxed);
        let whole = before as u32 == after as u32 && references(after) != 0;
        if whole && identity(hash::hash(out), out.len()) == after as u32 {
            Ok(after)
        } else {
            Err(after)
        }
    }
}

/// Fills the record at `loc`, which the caller owns: it is fresh or came from a free list. It stays
/// without references. False if it does not lie inside `words`.
pub(crate) fn write(words: &[AtomicU64], loc: usize, identity: u32, frames: &[u64]) -> bool {
    let Some([head, rest @ ..]) = words.get(loc..loc + record_words(frames.len())) else {
        return false;
    };
    // The sequence lock's first store: nobody's copy of the old contents is whole from here on.
    head.store(u64::from(identity), Ordering::Relaxed);
    // Pairs with the second Acquire fence in `copy`.
    fence(Ordering::Release);
    for (w, f) in rest.iter().zip(frames) {
        // Relaxed: published by `enliven`.
        w.store(*f, Ordering::Relaxed);
    }
    true
}

/// Gives the record at `loc`, which the caller wrote, its first references. Not before a slot names
/// it: a lookup that comes by a slot that named this place before takes it for good, and a put of
/// what it took wants to find the slot.
pub(crate) fn enliven(words: &[AtomicU64], loc: usize, identity: u32, references: u32) {
    if let Some(head) = words.get(loc) {
        // The sequence lock's second store; Release pairs with the first Acquire fence in `copy`
        // and the Acquire in `is_kept`.
        head.store(u64::from(references) << 32 | u64::from(identity), Ordering::Release);
    }
}

/// Increment unless zero: takes a reference on a live record of this identity.
///
/// The count saturates: one below the end it turns persistent, for nobody could count the puts any
/// more.
#[inline(always)]
pub(crate) fn get(head: &AtomicU64, identity: u32) -> Change {
    let mut now = head.load(Ordering::Relaxed);
    loop {
        let count = references(now);
        #[cfg(loom)]
        if count == 0
            && now as u32 == identity
            && crate::broken::is(crate::broken::Twin::IncrementsZero)
        {
            head.fetch_add(ONE, Ordering::AcqRel);
            return Change::Count(1);
        }
        if count == 0 || now as u32 != identity {
            return Change::Dead;
        }
        if count == PERSISTENT {
            // Pairs with the Release in `enliven` and `keep`, as the compare-and-swap below does.
            fence(Ordering::Acquire);
            return Change::Already;
        }
        // Acquire pairs with the Release in `enliven` (the frames) and in `put` (what an earlier
        // holder did with the record is over). Release hands that on to the put that frees it.
        match head.compare_exchange_weak(now, now + ONE, Ordering::AcqRel, Ordering::Relaxed) {
            Ok(_) if count + 1 == PERSISTENT => return Change::Became(count),
            Ok(_) => return Change::Count(count + 1),
            Err(seen) => now = seen,
        }
    }
}

/// What [`take`] got.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Taken {
    /// Nothing: it is not the record that was sought.
    Not,
    /// A reference on the stack that was sought, with what became of the count.
    Found(Change),
    /// A reference on another stack, which has to be put back.
    Other(Change),
}

/// Takes a reference on a record that came by way of a slot, and compares its frames then: before,
/// they may become others at any time.
#[inline(always)]
pub(crate) fn take(record: &Record<'_>, identity: u32, frames: &[u64]) -> Taken {
    #[cfg(loom)]
    if crate::broken::is(crate::broken::Twin::ComparesFirst) {
        return match record.holds(frames).then(|| get(record.head, identity)) {
            None | Some(Change::Dead) => Taken::Not,
            Some(change) => Taken::Found(change),
        };
    }
    match get(record.head, identity) {
        Change::Dead => Taken::Not,
        change if record.holds(frames) => Taken::Found(change),
        change => Taken::Other(change),
    }
}

/// Makes a record persistent that the caller has a reference on, which goes into that.
#[inline(always)]
pub(crate) fn keep(head: &AtomicU64) -> Change {
    let mut now = head.load(Ordering::Relaxed);
    loop {
        match references(now) {
            0 => return Change::Dead,
            PERSISTENT => return Change::Already,
            count => {
                let kept = u64::from(PERSISTENT) << 32 | u64::from(now as u32);
                // Orderings as in `get`.
                match head.compare_exchange_weak(now, kept, Ordering::AcqRel, Ordering::Relaxed) {
                    Ok(_) => return Change::Became(count),
                    Err(seen) => now = seen,
                }
            }
        }
    }
}

/// Drops a reference on a record of this identity.
pub(crate) fn put(head: &AtomicU64, identity: u32) -> Change {
    let mut now = head.load(Ordering::Relaxed);
    loop {
        match references(now) {
            _ if now as u32 != identity => return Change::Dead,
            0 => return Change::Dead,
            PERSISTENT => return Change::Already,
            // Release: this holder's use of the record comes before its eviction. Acquire: the
            // evictor comes after every other holder's use.
            count => match head.compare_exchange_weak(
                now,
                now - ONE,
                Ordering::AcqRel,
                Ordering::Relaxed,
            ) {
                Ok(_) => return Change::Count(count - 1),
                Err(seen) => now = seen,
            },
        }
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;
    use std::vec::Vec;

    fn words(n: usize) -> Vec<AtomicU64> {
        (0..n).map(|_| AtomicU64::new(0)).collect()
    }

    #[test]
    fn written_records_compare_and_copy() {
        let words = words(40);
        for n in 1..=17u64 {
            let frames: Vec<u64> = (1..=n).collect();
            let id = identity(hash::hash(&frames), frames.len());
            assert!(write(&words, 3, id, &frames));
            enliven(&words, 3, id, 1);
            let record = Record::candidate(&words, 3, frames.len()).unwrap();
            assert!(record.holds(&frames));
            let mut other = frames.clone();
            *other.last_mut().unwrap() ^= 1;
            assert!(!record.holds(&other));
            let mut out = std::vec![0; frames.len()];
            assert!(Record::at(&words, 3, 64).unwrap().copy(&mut out).is_ok());
            assert_eq!(out, frames);
        }
    }

    #[test]
    fn records_do_not_reach_beyond_the_words() {
        let words = words(8);
        let frames = [1, 2, 3, 4, 5, 6];
        let id = identity(hash::hash(&frames), 6);
        assert!(!write(&words, 2, id, &frames));
        assert!(!write(&words, 1000, id, &frames));
        assert_eq!(Record::at(&words, 4, 64).err(), Some(NoRecord::Dead));
        words[4].store(1 << 32 | u64::from(id), Ordering::Relaxed);
        let nowhere = Some(NoRecord::Nowhere);
        assert_eq!(Record::at(&words, 4, 64).err(), nowhere, "6 frames do not fit behind word 4");
        assert_eq!(Record::at(&words, 8, 64).err(), nowhere);
        assert!(Record::candidate(&words, 4, 6).is_none());
    }

    #[test]
    fn a_torn_copy_is_refused() {
        let words = words(8);
        let frames = [1, 2, 3, 4];
        let id = identity(hash::hash(&frames), 4);
        assert!(write(&words, 0, id, &frames));
        enliven(&words, 0, id, 1);
        words[2].store(99, Ordering::Relaxed);
        let mut out = [0; 4];
        assert!(Record::at(&words, 0, 64).unwrap().copy(&mut out).is_err(), "the checksum tells");
    }

    #[test]
    fn counts_saturate_and_never_leave_zero() {
        const ID: u32 = 0x1234;
        let head = AtomicU64::new(u64::from(ID));
        assert_eq!(
            (get(&head, ID), put(&head, ID), keep(&head)),
            (Change::Dead, Change::Dead, Change::Dead)
        );
        head.store(u64::from(PERSISTENT - 2) << 32 | u64::from(ID), Ordering::Relaxed);
        assert_eq!(
            (get(&head, ID + 1), put(&head, ID + 1)),
            (Change::Dead, Change::Dead),
            "another record"
        );
        assert_eq!(get(&head, ID), Change::Count(PERSISTENT - 1));
        assert_eq!(get(&head, ID), Change::Became(PERSISTENT - 1));
        assert_eq!(
            (get(&head, ID), put(&head, ID), keep(&head)),
            (Change::Already, Change::Already, Change::Already)
        );
    }
}
