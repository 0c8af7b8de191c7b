//! One use of each of the crates.

use core::sync::atomic::{AtomicUsize, Ordering};
use objpool::ObjectPool;
use percpu::{Mutex, OnceLock};
use reclaim::{hazptr, rcu};
use stackdepot::{Depot, Flags};

/// What the threads use together.
pub(crate) struct Shared {
    depot: Depot,
    pool: ObjectPool<AtomicUsize>,
    value: hazptr::Shared<Counted>,
    first: OnceLock<u64>,
    /// How often all this was used.
    uses: Mutex<usize>,
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
            first: OnceLock::new(),
            uses: Mutex::new(0),
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

        let own = percpu::thread::id().get();
        assert!(*self.first.get_or_init(|| own) <= own, "numbers grow, and the first came first");
        let mut uses = self.uses.lock();
        let before = *uses;
        // Others find the lock held, and sleep.
        percpu::thread::yield_now();
        *uses = before + 1;
    }

    /// Everything that was replaced is dropped, and all objects are back.
    pub(crate) fn finish(self) {
        rcu::synchronize();
        drop(self.value);
        hazptr::Domain::global().reclaim();
        let [made, dropped] = [&MADE, &DROPPED].map(|n| n.load(Ordering::Relaxed));
        assert_eq!(made, dropped);
        assert_eq!(*self.uses.lock() + 1, made, "one was made before");
        let statistics = self.pool.statistics();
        assert_eq!((statistics.misses, statistics.in_use), (0, 0));
    }
}
