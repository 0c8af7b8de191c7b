//! Concurrent maps with a fast hash: what one would use without a depot. Keys are boxed slices,
//! found by a borrowed slice first.

use super::store::Store;
use foldhash::fast::RandomState;
use std::collections::HashMap;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU32, Ordering};

type Key = Box<[u64]>;

/// Hands out the numbers that the maps store.
#[derive(Default)]
struct Numbers(AtomicU32);

impl Numbers {
    fn next(&self) -> u32 {
        self.0.fetch_add(1, Ordering::Relaxed) // only has to differ
    }
}

/// A hash map behind one lock.
pub(super) struct Locked(Mutex<HashMap<Key, u32, RandomState>>);

impl Store for Locked {
    const NAME: &'static str = "Mutex<HashMap>";

    fn new(_depth: usize, _distinct: u64) -> Self {
        Self(Mutex::default())
    }

    #[inline]
    fn save(&self, frames: &[u64], _number: u64) -> u32 {
        let mut map = self.0.lock().expect("nobody panics with the map");
        if let Some(number) = map.get(frames) {
            return *number;
        }
        let number = map.len() as u32;
        map.insert(frames.into(), number);
        number
    }
}

/// DashMap.
#[derive(Default)]
pub(super) struct Dash {
    map: dashmap::DashMap<Key, u32, RandomState>,
    numbers: Numbers,
}

impl Store for Dash {
    const NAME: &'static str = "DashMap";

    fn new(_depth: usize, _distinct: u64) -> Self {
        Self::default()
    }

    #[inline]
    fn save(&self, frames: &[u64], _number: u64) -> u32 {
        if let Some(number) = self.map.get(frames) {
            return *number;
        }
        *self.map.entry(frames.into()).or_insert_with(|| self.numbers.next())
    }
}

/// scc's read-optimised map.
#[derive(Default)]
pub(super) struct Index {
    map: scc::HashIndex<Key, u32, RandomState>,
    numbers: Numbers,
}

impl Store for Index {
    const NAME: &'static str = "scc HashIndex";

    fn new(_depth: usize, _distinct: u64) -> Self {
        Self::default()
    }

    #[inline]
    fn save(&self, frames: &[u64], _number: u64) -> u32 {
        if let Some(number) = self.map.peek_with(frames, |_, number| *number) {
            return number;
        }
        *self.map.entry_sync(frames.into()).or_insert_with(|| self.numbers.next()).get()
    }
}
