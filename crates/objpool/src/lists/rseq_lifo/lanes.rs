//! The memory of the private lists.
#![allow(unsafe_code)]

use crate::{BuildError, memory};
use alloc::boxed::Box;
use percpu::CachePadded;
use percpu::rseq::Gate;
use percpu::rseq::lifo::{Lifo, LifoSlot};
use percpu::sync::atomic::AtomicU64;

/// The entry of object 0. Every push on an empty list reads the link of entry 0, the bottom; the
/// entries on the same lines stay unused, so that nobody writes there. (With objects there, two
/// threads on two CPUs paid 13 to 18 ns for a pair that costs one of them 7.)
pub(super) const FIRST: u32 = 16;

/// Owns what a [`Lifo`] views. Raw pointers, because the view lies beside it in the same structure.
#[derive(Debug)]
pub(super) struct Lanes {
    slots: *mut [CachePadded<LifoSlot>],
    links: *mut [AtomicU64],
    gate: *mut CachePadded<Gate>,
}

// SAFETY: Lanes owns three allocations of types that are Send.
unsafe impl Send for Lanes {}
// SAFETY: it gives out shared references only, to types that are Sync.
unsafe impl Sync for Lanes {}

impl Lanes {
    /// Empty lists for entries up to `entries`.
    pub(super) fn new(entries: usize) -> Result<Self, BuildError> {
        let gate = Gate::new();
        let slots = memory::slice(gate.slots(), |_| CachePadded::new(LifoSlot::default()))?;
        let links = memory::slice(entries + FIRST as usize, |_| AtomicU64::new(0))?;
        Ok(Self {
            slots: Box::into_raw(slots),
            links: Box::into_raw(links),
            gate: Box::into_raw(Box::new(CachePadded::new(gate))),
        })
    }

    /// A view of the lists, at most `limit` entries each.
    ///
    /// # Safety
    /// The view is not used after this value is dropped.
    pub(super) unsafe fn view(&self, limit: u32) -> Lifo<'static> {
        // SAFETY: `new` made the pointer from a box, which only `drop` takes back; the caller stops
        // using the view before.
        let slots = unsafe { &*self.slots };
        // SAFETY: as above.
        let links = unsafe { &*self.links };
        // SAFETY: `new` made the three together; they are private to this list, whose entries are
        // the objects' numbers: a link is written by its object's owner alone.
        unsafe { Lifo::new(slots, links, self.gate_ref(), limit) }
    }

    /// # Safety
    /// As [`view`](Self::view), for the returned references.
    pub(super) unsafe fn parts(&self) -> (&'static Gate, &'static [AtomicU64]) {
        // SAFETY: as in `view`.
        let links = unsafe { &*self.links };
        (self.gate_ref(), links)
    }

    /// The gate, for callers that are bound to stop using it before `drop` (see `view` and
    /// `parts`).
    fn gate_ref(&self) -> &'static Gate {
        // SAFETY: as in `view`; both callers pass the duty on.
        unsafe { &*self.gate }
    }
}

impl Drop for Lanes {
    fn drop(&mut self) {
        // SAFETY: `new` made the pointer from a box, and nothing else takes it back; likewise
        // below.
        drop(unsafe { Box::from_raw(self.slots) });
        // SAFETY: as above.
        drop(unsafe { Box::from_raw(self.links) });
        // SAFETY: as above.
        drop(unsafe { Box::from_raw(self.gate) });
    }
}
