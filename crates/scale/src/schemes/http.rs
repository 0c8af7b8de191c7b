//! The handler of `trapline-bench http`: each request takes some references to a configuration that
//! is replaced a hundred times a second, and gives them back. The rest of a request is work that no
//! other worker sees.

use crate::held::Scheme;
use crate::load::Load;
use coresim::{Picoseconds, Throughput, cell, hint, time};
use percpu::CachePadded;
use percpu::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

/// The configuration, on a line of its own.
pub(super) type Config = CachePadded<u64>;

/// Between two replacements.
const PERIOD: Picoseconds = 10_000_000_000;
/// As long as that a run has to be: then it has one, at any time of it.
pub(super) const SPAN: Picoseconds = PERIOD;

/// A worker; the first one replaces the configuration, too.
struct Worker<O> {
    own: O,
    replaces_at: Option<Picoseconds>,
}

/// Requests that take so many references.
pub(super) fn run<S: Scheme<Config>, const REFERENCES: usize>(load: &Load<'_>) -> Throughput {
    let work = load.work;
    let start = |scheme: &S, thread| Worker {
        own: scheme.own(),
        replaces_at: (thread == 0).then(|| time::now() + PERIOD),
    };
    load.each(
        || S::new(Config::default()),
        start,
        move |scheme, worker| {
            if let Some(at) = worker.replaces_at.as_mut().filter(|at| time::now() >= **at) {
                *at += PERIOD;
                scheme.replace(Config::default());
            }
            scheme.hold(&mut worker.own, REFERENCES, &mut |config| cell::read(&**config));
            time::work(work);
        },
    )
}

/// What an `Arc` behind a reader-writer lock is for the machine: the lock's word and the count's,
/// and the allocation that is replaced.
pub(super) struct Locked {
    /// Readers, or [`WRITER`].
    lock: CachePadded<AtomicUsize>,
    current: CachePadded<AtomicU64>,
    /// By the parity of the current one's number: the count of one that is held meanwhile is
    /// another line.
    counts: [CachePadded<AtomicUsize>; 2],
    value: Config,
}

const WRITER: usize = 1 << 32;

impl Scheme<Config> for Locked {
    type Own = ();

    fn new(value: Config) -> Self {
        let (lock, current, counts) = Default::default();
        Self { lock, current, counts, value }
    }

    fn own(&self) {}

    fn hold(&self, own: &mut (), references: usize, read: &mut impl FnMut(&Config)) {
        let mut readers = self.lock.load(Ordering::Relaxed);
        while let Err(now) = self.lock.compare_exchange(
            readers & !WRITER,
            (readers & !WRITER) + 1,
            Ordering::Acquire,
            Ordering::Relaxed,
        ) {
            readers = now;
            hint::spin_loop();
        }
        let count = &self.counts[self.current.load(Ordering::Relaxed) as usize % 2];
        count.fetch_add(1, Ordering::Relaxed);
        self.lock.fetch_sub(1, Ordering::Release);
        read(&self.value);
        if references > 1 {
            self.hold(own, references - 1, read);
        }
        count.fetch_sub(1, Ordering::Release);
    }

    fn replace(&self, _next: Config) {
        let taken =
            || self.lock.compare_exchange(0, WRITER, Ordering::Acquire, Ordering::Relaxed).is_ok();
        while !taken() {
            hint::spin_loop();
        }
        self.current.fetch_add(1, Ordering::Relaxed);
        self.lock.store(0, Ordering::Release);
    }
}
