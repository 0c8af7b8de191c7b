//! No data race in what pops, pushes and closes.
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
#[path = "racing/value.rs"]
mod value;

#[cfg(not(loom))]
mod races {
    use super::racing::race;
    use super::value::Value;
    use objpool::{
        Bitmap, CasLifo, FlagArray, FlatArray, FreeList, ObjectPool, PerCpuList, RingArray,
        RseqLifo,
    };

    pub(super) fn all() {
        list::<RseqLifo>("the default");
        list::<FlagArray>("flag array");
        list::<Bitmap>("bitmap");
        list::<PerCpuList>("per-CPU list");
        list::<RingArray>("ring array");
        list::<FlatArray>("flat array");
        list::<CasLifo>("CAS list");
    }

    /// Objects change hands, are written by each owner, and one of them leaves now and then.
    fn list<L: FreeList>(name: &str) {
        let pool: ObjectPool<Value, L> =
            ObjectPool::with_list(6, |i| Value::new(i as u64)).expect("six objects");
        race(name, 6, 4_000, |_, _| {
            for mut value in [pool.pop(), pool.pop()].into_iter().flatten() {
                value.check();
                let next = value.number + 1;
                value.number = next;
                value.copies.fill(next);
            }
        });
        let statistics = pool.statistics();
        assert_eq!(statistics.in_use, 0);
        assert!(statistics.hits > 0);
        // Free objects are dropped by whoever finds them, outstanding ones by who pushes them.
        race(name, 6, 8, |thread, round| {
            if thread == 0 && round == 4 {
                pool.close();
            }
            drop(pool.pop());
        });
        assert!(pool.is_closed());
    }
}
