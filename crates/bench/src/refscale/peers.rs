//! Reader rows of crates from crates.io.
#![allow(unsafe_code)]

use super::case::Readers;
use super::flavours::Published;
use super::rows::{shared, with_state};
use crate::harness::{Entry, Role};
use crate::sink::sink;
use arc_swap::{ArcSwap, Cache};
use seize::Guard as _;
use std::sync::Arc;
use std::sync::atomic::Ordering;

/// Rows of the peers.
pub(super) fn readers() -> Vec<Entry<Readers>> {
    vec![
        shared(
            "crossbeam-epoch pin",
            || crossbeam_epoch::Atomic::new(7u64),
            |current| {
                let guard = crossbeam_epoch::pin();
                // SAFETY: the object is never retired.
                if let Some(object) = unsafe { current.load(Ordering::Acquire, &guard).as_ref() } {
                    sink(*object);
                }
            },
        ),
        with_state(
            "haphazard, kept holder",
            Role::Peer,
            || haphazard::AtomicPtr::<u64>::from(Box::new(7u64)),
            |_| haphazard::HazardPointer::new(),
            |current, holder| {
                if let Some(object) = current.safe_load(holder) {
                    sink(*object);
                }
                holder.reset_protection();
            },
        ),
        shared(
            "haphazard, new holder",
            || haphazard::AtomicPtr::<u64>::from(Box::new(7u64)),
            |current| {
                let mut holder = haphazard::HazardPointer::new();
                if let Some(object) = current.safe_load(&mut holder) {
                    sink(*object);
                }
            },
        ),
        shared(
            "seize",
            || (seize::Collector::new(), Published::new()),
            |(collector, published)| {
                let guard = collector.enter();
                let object = guard.protect(published.pointer(), Ordering::Acquire);
                // SAFETY: the object is never retired.
                sink(unsafe { object.read() });
            },
        ),
        shared(
            "sdd",
            || sdd::AtomicOwned::new(7u64),
            |current| {
                let guard = sdd::Guard::new();
                if let Some(object) = current.load(Ordering::Acquire, &guard).as_ref() {
                    sink(*object);
                }
            },
        ),
        shared("papaya get", map, |map| {
            if let Some(object) = map.pin().get(&7) {
                sink(*object);
            }
        }),
        shared(
            "arc-swap load",
            || ArcSwap::from_pointee(7u64),
            |current| {
                sink(**current.load());
            },
        ),
        with_state(
            "arc-swap Cache",
            Role::Peer,
            || Arc::new(ArcSwap::from_pointee(7u64)),
            |current| Cache::new(Arc::clone(current)),
            |_, cache| {
                sink(**cache.load());
            },
        ),
    ]
}

fn map() -> papaya::HashMap<u64, u64, foldhash::fast::FixedState> {
    let map = papaya::HashMap::builder()
        .hasher(foldhash::fast::FixedState::default())
        .resize_mode(papaya::ResizeMode::Blocking)
        .build();
    (0..64).for_each(|key| {
        map.pin().insert(key, key);
    });
    map
}
