//! Reading a depot: what the process that writes it and one that only maps it have in common.

use crate::error::FetchError;
use crate::handle::Handle;
use crate::layout::{DEPTH_LIMIT, Layout};
use crate::record::{self, NoRecord, PERSISTENT, Record};
use crate::stats::Stats;
use crate::table::Slots;
use core::iter::FusedIterator;
use percpu::sync::atomic::{AtomicU64, Ordering};

/// Copies that a writer kept tearing are given up after so many tries: each needs an eviction and a
/// reuse of the same record meanwhile.
const TRIES: usize = 16;

/// How many references a stack has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refs {
    /// Never evicted.
    Persistent,
    /// Evicted after so many puts.
    Counted(u32),
}

/// One stack met by [`iter`](crate::Depot::iter).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Entry {
    /// Its handle, without user bits.
    pub handle: Handle,
    /// Its references when it was met.
    pub refs: Refs,
    /// How many frames it has.
    pub depth: usize,
}

/// Words and the shape they were checked to have.
#[derive(Clone, Copy)]
pub(crate) struct View<'m> {
    pub(crate) words: &'m [AtomicU64],
    pub(crate) layout: &'m Layout,
}

impl<'m> View<'m> {
    /// What looks like the live record that a handle names.
    #[inline(always)]
    pub(crate) fn record(self, handle: Handle) -> Result<Record<'m>, NoRecord> {
        self.record_at(handle.loc() as usize)
    }

    fn record_at(self, loc: usize) -> Result<Record<'m>, NoRecord> {
        if loc < self.layout.pools {
            return Err(NoRecord::Nowhere);
        }
        Record::at(self.words, loc, self.layout.max_depth)
    }

    pub(crate) fn fetch(self, handle: Handle, buf: &mut [u64]) -> Result<&[u64], FetchError> {
        if handle.is_none() {
            return Err(FetchError::NoHandle);
        }
        for _ in 0..TRIES {
            let record = self.record(handle).map_err(|none| match none {
                NoRecord::Dead => FetchError::Evicted,
                NoRecord::Nowhere => FetchError::BadHandle,
            })?;
            let depth = record.depth();
            if buf.len() < depth {
                return Err(FetchError::BufferTooShort(depth));
            }
            match record.copy(&mut buf[..depth]) {
                Ok(_) => return Ok(&buf[..depth]),
                Err(seen) if record::references(seen) == 0 => return Err(FetchError::Evicted),
                // Torn by an eviction and a reuse, or no record at all.
                Err(_) => {}
            }
        }
        Err(FetchError::BadHandle)
    }

    pub(crate) fn stats(self) -> Stats {
        Stats::read(self.words, self.layout)
    }

    pub(crate) fn iter(self) -> Iter<'m> {
        Iter { view: self, slots: Slots::new(self.words, self.layout) }
    }
}

/// A buffer that any stack of any depot fits into.
pub(crate) fn any_depth() -> [u64; DEPTH_LIMIT] {
    [0; DEPTH_LIMIT]
}

/// The live stacks of a depot. See [`Depot::iter`](crate::Depot::iter).
pub struct Iter<'m> {
    view: View<'m>,
    slots: Slots<'m>,
}

impl Iterator for Iter<'_> {
    type Item = Entry;

    fn next(&mut self) -> Option<Entry> {
        loop {
            let loc = self.slots.next()?;
            let Ok(record) = self.view.record_at(loc) else { continue };
            // Relaxed: a snapshot of one word.
            let head = record.head().load(Ordering::Relaxed);
            let refs = match record::references(head) {
                0 => continue,
                PERSISTENT => Refs::Persistent,
                n => Refs::Counted(n),
            };
            return Some(Entry {
                handle: Handle::at(loc as u32),
                refs,
                depth: record::depth(head),
            });
        }
    }
}

impl FusedIterator for Iter<'_> {}

impl core::fmt::Debug for Iter<'_> {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("Iter").finish_non_exhaustive()
    }
}
