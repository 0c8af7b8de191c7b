//! No data race in what saves, fetches and puts.
//!
//! A short stress of each primitive over plain memory, for ThreadSanitizer (`scripts/test tsan`):
//! it is right in any build, and there it must not give a single report. A `main` of its own: the
//! test harness hands results over in ways that ThreadSanitizer cannot see.
#![cfg_attr(loom, allow(unused, reason = "models are tests of their own"))]

fn main() {
    #[cfg(not(loom))]
    races::all();
}

#[cfg(not(loom))]
mod racing;

#[cfg(not(loom))]
mod races {
    use super::racing::race;
    use stackdepot::{Depot, Eviction, Flags};

    pub(super) fn all() {
        let evicting = Depot::builder().buckets_log2(3).build_mmap().expect("memory");
        depot("depot, evicting", &evicting, true);
        assert_eq!(evicting.iter().count(), 0, "all were put");
        assert!(evicting.stats().reused > 0, "records were used again: {:?}", evicting.stats());
        let keeping = Depot::builder().buckets_log2(3).no_eviction();
        depot("depot, keeping", &keeping.build_mmap().expect("memory"), false);
    }

    fn depot<E: Eviction>(name: &str, depot: &Depot<E>, put: bool) {
        race(name, 4, 10_000, |thread, round| {
            let depth = (round + thread as u64) % 9 + 1;
            let frames: Vec<u64> = (0..depth).map(|i| i * 7 + round % 61 + 1).collect();
            let handle = depot.save(&frames, Flags::GET | Flags::CAN_GROW);
            if handle.is_none() {
                assert!(depot.stats().contended > 0, "{:?}", depot.stats());
                return;
            }
            let mut buffer = [0; 64];
            assert_eq!(depot.fetch(handle, &mut buffer), Ok(&frames[..]));
            if put {
                depot.put(handle).expect("one reference");
            }
        });
        assert_eq!((depot.stats().corrupt, depot.stats().bad_puts), (0, 0));
    }
}
