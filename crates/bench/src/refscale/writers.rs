//! Rows of the writers' tables: what it costs to replace an object.

use super::case::Writers;
use super::schemes::{
    AllocOnly, Arcs, Crossbeam, Haphazard, Hazptr, Object, Papaya, Rcu, Scheme, Sdd, Seize,
    SrcuFast,
};
use crate::harness::{Entry, Job, Role};
use percpu::CachePadded;

/// All rows, in the order of the tables.
pub(super) fn contenders() -> Vec<Entry<Writers>> {
    vec![
        scheme::<AllocOnly>(Role::Floor),
        scheme::<Hazptr>(Role::Ours),
        scheme::<Rcu>(Role::Ours),
        scheme::<SrcuFast>(Role::Ours),
        scheme::<Crossbeam>(Role::Peer),
        scheme::<Haphazard>(Role::Peer),
        scheme::<Seize>(Role::Peer),
        scheme::<Sdd>(Role::Peer),
        scheme::<Papaya>(Role::Peer),
        scheme::<Arcs>(Role::Peer),
    ]
}

fn scheme<S: Scheme>(role: Role) -> Entry<Writers> {
    Entry::new(S::NAME, role, |case: &Writers| {
        let places: Vec<CachePadded<S>> = (0..case.0)
            .map(|_| CachePadded::new(S::new(Object { value: 0, tally: None })))
            .collect();
        let job: Job = Box::new(move |seat, meter| {
            let place = &*places[seat.index];
            meter.run(|ops| {
                for value in 0..ops {
                    place.replace(Object { value, tally: None });
                }
            });
        });
        Some(job)
    })
}
