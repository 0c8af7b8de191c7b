//! Rows of the reader tables: what the standard library gives, and ours.

use super::{Readers, flavours, peers, urcu};
use crate::harness::{Entry, Job, Role};
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

/// As [`each`] for a peer, generic over the closure so that it is inlined into the loop.
pub(super) fn shared<S: Sync + 'static>(
    name: &str,
    make: impl Fn() -> S + 'static,
    section: impl Fn(&S) + Copy + Sync + 'static,
) -> Entry<Readers> {
    with_role(name, Role::Peer, make, section)
}

/// As [`shared`] for any role.
pub(super) fn with_role<S: Sync + 'static>(
    name: &str,
    role: Role,
    make: impl Fn() -> S + 'static,
    section: impl Fn(&S) + Copy + Sync + 'static,
) -> Entry<Readers> {
    Entry::new(name, role, move |_: &Readers| {
        let shared = make();
        let job: Job = Box::new(move |_, meter| {
            meter.run(|loops| {
                for _ in 0..loops {
                    section(&shared);
                }
            });
        });
        Some(job)
    })
}

/// A row whose threads keep something of their own between sections.
pub(super) fn with_state<S: Sync + 'static, T>(
    name: &str,
    role: Role,
    make: impl Fn() -> S + 'static,
    state: impl Fn(&S) -> T + Copy + Sync + 'static,
    section: impl Fn(&S, &mut T) + Copy + Sync + 'static,
) -> Entry<Readers> {
    Entry::new(name, role, move |_: &Readers| {
        let shared = make();
        let job: Job = Box::new(move |_, meter| {
            let mut own = state(&shared);
            meter.run(|loops| {
                for _ in 0..loops {
                    section(&shared, &mut own);
                }
            });
        });
        Some(job)
    })
}
