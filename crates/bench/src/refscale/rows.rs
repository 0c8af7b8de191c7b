//! How the rows of the reader tables are made.

use super::case::Readers;
use crate::harness::{Entry, Job, Role};

/// A peer's row: one section after the other. Generic over the closure, so that it is inlined into
/// the loop.
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
