//! Rows of the reader tables: what the standard library gives, and ours.

use super::case::Readers;
use super::rows::shared;
use super::{flavours, peers, urcu};
use crate::harness::Entry;
use crate::sink::sink;
use std::sync::{Arc, Mutex, RwLock};

/// All rows, in the order of the tables.
pub(super) fn contenders() -> Vec<Entry<Readers>> {
    let mut entries = flavours::readers();
    entries.extend([
        shared(
            "Arc clone + drop",
            || Arc::new(7u64),
            |shared| {
                let own = Arc::clone(shared);
                sink(*own);
            },
        ),
        shared(
            "Mutex std",
            || Mutex::new(7u64),
            |mutex| {
                sink(*mutex.lock().expect("nobody panics with the value"));
            },
        ),
        shared(
            "RwLock std, read",
            || RwLock::new(7u64),
            |lock| {
                sink(*lock.read().expect("nobody panics with the value"));
            },
        ),
        shared(
            "RwLock parking_lot, read",
            || parking_lot::RwLock::new(7u64),
            |lock| {
                sink(*lock.read());
            },
        ),
    ]);
    entries.extend(peers::readers());
    entries.extend(urcu::readers());
    entries
}
