//! One use of each of the crates.

use core::sync::atomic::{AtomicUsize, Ordering};
use objpool::ObjectPool;
use reclaim::{hazptr, rcu};
use stackdepot::{Depot, Flags};

/// What the threads use together.
pub(crate) struct Shared {
    depot: Depot,
    pool: ObjectPool<AtomicUsize>,
    value: hazptr::Shared<Counted>,
}

static MADE: AtomicUsize = AtomicUsize::new(0);
static DROPPED: AtomicUsize = AtomicUsize::new(0);

struct Counted(usize);

impl Counted {
    fn new() -> Self {
        Self(MADE.fetch_add(1, Ordering::Relaxed))
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        DROPPED.fetch_add(1, Ordering::Relaxed);
    }
}

impl Shared {
    pub(crate) fn new() -> Self {
        let depot = Depot::builder().expected_stacks(1000).budget_bytes(1 << 20);
        Self {
            depot: depot.build_mmap().expect("memory"),
            pool: ObjectPool::new(8, |_| AtomicUsize::new(0)).expect("memory"),
            value: hazptr::Shared::new(Counted::new()),
        }
    }

    pub(crate) fn exercise(&self) {
        let stack = [0x40_1000, 0x40_2000, percpu::thread::id().get()];
        let handle = self.depot.save(&stack, Flags::CAN_GROW);
        assert_eq!(self.depot.fetch(handle, &mut [0; 8]).expect("saved"), stack);

        let object = self.pool.pop().expect("more objects than threads");
        assert_eq!(object.fetch_add(1, Ordering::Relaxed), 0, "nobody else has it");
        object.store(0, Ordering::Relaxed);
        drop(object);

        let mut hazard = hazptr::HazardPointer::new();
        let seen = self.value.load(&mut hazard).expect("never empty").0;
        self.value.store(Counted::new());
        assert!(seen < MADE.load(Ordering::Relaxed));

        drop(rcu::read_lock());
        percpu::fence::heavy();
    }

    /// Everything that was replaced is dropped, and all objects are back.
    pub(crate) fn finish(self) {
        rcu::synchronize();
        drop(self.value);
        hazptr::Domain::global().reclaim();
        let [made, dropped] = [&MADE, &DROPPED].map(|n| n.load(Ordering::Relaxed));
        assert_eq!(made, dropped);
        let statistics = self.pool.statistics();
        assert_eq!((statistics.misses, statistics.in_use), (0, 0));
    }
}
