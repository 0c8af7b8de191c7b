//! Reader rows of trapline's own flavours, and the floor.
#![allow(unsafe_code)]

use super::case::Readers;
use super::rows::{with_role, with_state};
use crate::harness::{Entry, Role};
use crate::sink::sink;
use percpu::CachePadded;
use reclaim::cached::CachedArc;
use reclaim::hazptr::{self, HazardPointer};
use reclaim::percpu_ref::PercpuRef;
use reclaim::rcu;
use reclaim::srcu::{Fast, Flavour, Normal, SrcuDomain};
use std::sync::atomic::{AtomicPtr, Ordering};

/// An object behind a pointer that never changes during the measurement.
pub(super) struct Published {
    current: CachePadded<AtomicPtr<u64>>,
    _object: Box<u64>,
}

impl Published {
    pub(super) fn new() -> Self {
        let mut object = Box::new(7u64);
        Self { current: CachePadded::new(AtomicPtr::new(&raw mut *object)), _object: object }
    }

    pub(super) fn pointer(&self) -> &AtomicPtr<u64> {
        &self.current
    }

    /// Reads the object.
    #[inline(always)]
    pub(super) fn read(&self) {
        // as every reader of a replaceable object has to load it
        let object = self.current.load(Ordering::Acquire);
        // SAFETY: the object lives as long as `self`.
        sink(unsafe { object.read() });
    }
}

/// The floor and our rows.
pub(super) fn readers() -> Vec<Entry<Readers>> {
    vec![
        with_role("none", Role::Floor, Published::new, |published| published.read()),
        with_state(
            "hazptr, kept holder",
            Role::Ours,
            Published::new,
            |_| HazardPointer::new(),
            |published, holder| {
                // SAFETY: the object is never retired while the measurement runs.
                if let Some(object) = unsafe { holder.protect(published.pointer()) } {
                    sink(*object);
                }
                holder.reset();
            },
        ),
        with_role("hazptr, slot from TLS", Role::Ours, Published::new, |published| {
            let read = |object: Option<&u64>| {
                if let Some(object) = object {
                    sink(*object);
                }
            };
            // SAFETY: the object is never retired while the measurement runs.
            unsafe { hazptr::read(published.pointer(), read) };
        }),
        with_role("rcu", Role::Ours, Published::new, |published| {
            let _section = rcu::read_lock();
            published.read();
        }),
        srcu::<Normal>("srcu"),
        srcu::<Fast>("srcu-fast"),
        with_role(
            "percpu_ref",
            Role::Ours,
            || (PercpuRef::new(|| ()), Published::new()),
            |(count, published)| {
                // A count that nobody kills or switches refuses nothing.
                let got = count.get();
                published.read();
                let put = count.put();
                debug_assert!(got.is_ok() && put.is_ok());
            },
        ),
        with_role(
            "cached ref",
            Role::Ours,
            || CachedArc::new(7u64),
            |shared| {
                let own = CachedArc::clone(shared);
                sink(*own);
            },
        ),
    ]
}

fn srcu<K: Flavour + 'static>(name: &str) -> Entry<Readers>
where
    SrcuDomain<K>: Sync,
{
    with_role(
        name,
        Role::Ours,
        || (SrcuDomain::<K>::new(), Published::new()),
        |(domain, published)| {
            let _section = domain.read_lock();
            published.read();
        },
    )
}
