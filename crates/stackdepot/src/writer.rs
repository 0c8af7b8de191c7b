//! Which writer this process is, and which of the others are dead.
//!
//! Whoever writes a region does so under a number from 1 to 31, its slot. A lock in the region is
//! its owner's slot number, so a lock that was left behind (by a thread that a fork did not copy,
//! by a process that was killed) names somebody who is gone and can be taken over.
//!
//! In shared memory the slot is claimed in the header: a word with the process id. In private
//! memory nobody else can write, so the slot is only a number, and every other number is dead; a
//! fork child takes the next one. A depot that evicts has one writing process at a time, because
//! nobody would put the references of one that was killed beside others: there too, every other
//! slot is dead.
//!
//! # States of `identity` (generation:56 | slot:8)
//! own generation and slot 1..=31: may write. Own generation and `REFUSED`: a fork child that may
//! not. Own generation and `ADOPTING`: one thread is finding out. Another generation: a fork child
//! that has not looked yet; the thread whose compare-and-swap succeeds finds out.

use crate::error::Error;
use crate::layout::{Layout, WRITER_SLOTS as SLOTS, head};
use crate::memory::{Memory, Sharing};
use crate::table;
use percpu::sync::atomic::{AtomicU64, Ordering, fence};

const REFUSED: u64 = 0;
const ADOPTING: u64 = 0xff;

#[cfg(not(loom))]
use crate::kernel::{exists, pid};
#[cfg(loom)]
use model::{exists, pid};

#[derive(Debug)]
pub(crate) struct Writer {
    sharing: Sharing,
    /// One writing process at a time.
    exclusive: bool,
    identity: AtomicU64,
    /// 1: the system is asked nothing.
    sealed: AtomicU64,
}

impl Writer {
    /// Becomes a writer of the region; `used` says that there were writers before. With `take_over`
    /// the caller promises that all of them are gone.
    pub(crate) fn claim(
        memory: &Memory,
        layout: &Layout,
        sharing: Sharing,
        used: bool,
        take_over: bool,
        after_exec: bool,
    ) -> Result<Self, Error> {
        let exclusive = layout.evicts;
        if sharing == Sharing::Shared && after_exec {
            release_own(memory, layout);
        }
        if sharing == Sharing::Shared && take_over {
            (1..=SLOTS).for_each(|s| store(memory.words(), s, 0));
        }
        let slot =
            if sharing == Sharing::Shared { claim_slot(memory, layout, exclusive)? } else { 1 };
        if used && (sharing == Sharing::Private || exclusive || take_over) {
            // Nobody else writes, so whatever is locked was left behind. (A private region can hold
            // an old depot too: a file, a copy.)
            unlock_all(memory, layout, |_| true);
        }
        Ok(Self {
            sharing,
            exclusive,
            identity: AtomicU64::new(percpu::fork::generation() << 8 | slot),
            sealed: AtomicU64::new(0),
        })
    }

    /// The slot to lock with; in a fork child the first caller finds one. None: this process may
    /// not write (now).
    pub(crate) fn slot(&self, memory: &Memory, layout: &Layout) -> Option<u64> {
        // Acquire pairs with the Release in `adopt`: locks cleared there are seen cleared.
        let identity = self.identity.load(Ordering::Acquire);
        let generation = percpu::fork::generation();
        if identity >> 8 != generation & (u64::MAX >> 8) {
            return if self.asks_nothing() {
                None
            } else {
                self.adopt(memory, layout, identity, generation)
            };
        }
        Some(identity & 0xff).filter(|s| (1..=SLOTS).contains(s))
    }

    /// See [`Depot::seal`](crate::Depot::seal).
    pub(crate) fn seal(&self) {
        self.sealed.store(1, Ordering::Relaxed);
    }

    fn asks_nothing(&self) -> bool {
        self.sharing == Sharing::Shared && self.sealed.load(Ordering::Relaxed) != 0
    }

    /// In a fork child that can ask nothing, before its first save, whose number is `pid`: takes a
    /// slot that is free. Where only one process may write, nobody can say that the others are
    /// gone.
    pub(crate) fn adopt_as(&self, memory: &Memory, pid: u32) {
        let words = memory.words();
        let claim = |slot: &u64| {
            // Acquire pairs with the Release in `store`: the slot's last owner is done.
            words.get(head::WRITERS + *slot as usize).is_some_and(|word| {
                word.compare_exchange(0, u64::from(pid), Ordering::Acquire, Ordering::Relaxed)
                    .is_ok()
            })
        };
        let free = (1..=SLOTS).filter(|_| !self.exclusive).find(claim);
        let own = percpu::fork::generation() << 8;
        // Release pairs with the Acquire in `slot`.
        self.identity.store(own | free.unwrap_or(REFUSED), Ordering::Release);
    }

    /// Whether this process is the one that counts references, if only one may.
    pub(crate) fn may_read(&self, memory: &Memory, layout: &Layout) -> bool {
        self.sharing == Sharing::Private || !self.exclusive || self.slot(memory, layout).is_some()
    }

    /// Whether a lock of this slot was left behind.
    pub(crate) fn is_dead(&self, words: &[AtomicU64], slot: u64) -> bool {
        if slot == self.identity.load(Ordering::Relaxed) & 0xff {
            return false;
        }
        self.sharing == Sharing::Private
            || self.exclusive
            || (!self.asks_nothing() && !exists(load(words, slot)))
    }

    /// Stops being a writer.
    pub(crate) fn release(&self, words: &[AtomicU64]) {
        let identity = self.identity.load(Ordering::Relaxed);
        // A child that never wrote has its parent's slot number here, which is not its own to
        // release.
        if self.sharing == Sharing::Shared && identity >> 8 == percpu::fork::generation() {
            store(words, identity & 0xff, 0);
        }
    }

    #[cold]
    #[inline(never)]
    fn adopt(&self, memory: &Memory, layout: &Layout, old: u64, generation: u64) -> Option<u64> {
        let own = generation << 8;
        // Relaxed: the child was one thread when it was made, and everything before that is in its
        // past.
        self.identity
            .compare_exchange(old, own | ADOPTING, Ordering::Relaxed, Ordering::Relaxed)
            .ok()?;
        let slot = match self.sharing {
            Sharing::Private => {
                let slot = (old & 0xff) % SLOTS + 1;
                if slot == 1 {
                    // Numbers start again: what the first writer left must not look like ours.
                    unlock_all(memory, layout, |owner| owner == slot);
                }
                slot
            }
            Sharing::Shared => claim_slot(memory, layout, self.exclusive).unwrap_or(REFUSED),
        };
        // Release pairs with the Acquire in `slot`.
        self.identity.store(own | slot, Ordering::Release);
        Some(slot).filter(|s| *s != REFUSED)
    }
}

/// Gives up what this process had before it executed another program.
fn release_own(memory: &Memory, layout: &Layout) {
    let me = pid();
    for slot in (1..=SLOTS).filter(|slot| load(memory.words(), *slot) == me) {
        unlock_all(memory, layout, |owner| owner == slot);
        store(memory.words(), slot, 0);
    }
}

/// Finds a slot in the header: a free one, else one whose process is gone.
fn claim_slot(memory: &Memory, layout: &Layout, exclusive: bool) -> Result<u64, Error> {
    let words = memory.words();
    let me = pid();
    for round in 0..2 {
        for slot in 1..=SLOTS {
            let Some(word) = words.get(head::WRITERS + slot as usize) else { continue };
            let owner = word.load(Ordering::Relaxed);
            let gone = owner != 0 && !exists(owner as u32);
            if (round == 0 && owner != 0) || (round == 1 && !gone) {
                continue;
            }
            // Acquire pairs with the Release in `store`: the slot's last owner is done.
            if word
                .compare_exchange(owner, u64::from(me), Ordering::Acquire, Ordering::Relaxed)
                .is_err()
            {
                continue;
            }
            // Of two exclusive claimants at least one sees the other's claim below: each claims,
            // fences, looks.
            fence(Ordering::SeqCst);
            if let Some(other) = exclusive.then(|| other_writer(words, slot)).flatten() {
                word.store(0, Ordering::Release);
                return Err(Error::Busy(other));
            }
            if gone {
                unlock_all(memory, layout, |owner| owner == slot);
            }
            return Ok(slot);
        }
    }
    Err(Error::Busy(0))
}

/// Unlocks everything whose owner answers to `left_behind`.
#[cold]
fn unlock_all(memory: &Memory, layout: &Layout, left_behind: impl Fn(u64) -> bool) {
    table::release_all(memory.words(), layout, &left_behind);
}

/// A process with another slot that still exists.
fn other_writer(words: &[AtomicU64], mine: u64) -> Option<u32> {
    (1..=SLOTS).filter(|s| *s != mine).map(|s| load(words, s)).find(|p| *p != 0 && exists(*p))
}

fn load(words: &[AtomicU64], slot: u64) -> u32 {
    words
        .get(head::WRITERS + (slot & SLOTS) as usize)
        .map_or(0, |w| w.load(Ordering::Relaxed) as u32)
}

fn store(words: &[AtomicU64], slot: u64, pid: u64) {
    if let Some(w) = words.get(head::WRITERS + (slot & SLOTS) as usize) {
        // Release: whoever claims the slot next comes after this writer's last access.
        w.store(pid, Ordering::Release);
    }
}

/// Models have one process.
#[cfg(loom)]
mod model {
    pub(super) fn exists(pid: u32) -> bool {
        pid != 0
    }

    pub(super) fn pid() -> u32 {
        1
    }
}
