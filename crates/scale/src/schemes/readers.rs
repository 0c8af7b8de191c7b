//! Readers of an object that others may replace: enter, read a word, leave.
#![allow(unsafe_code)]

use crate::load::Load;
use coresim::{Throughput, cell};
use percpu::CachePadded;
use percpu::sync::atomic::{AtomicPtr, AtomicUsize, Ordering};
use reclaim::cached::CachedArc;
use reclaim::hazptr::HazardPointer;
use reclaim::percpu_ref::PercpuRef;
use reclaim::rcu;
use reclaim::srcu::{Flavour, SrcuDomain};

/// An object on lines of its own, behind a pointer that does not change.
struct Published {
    current: CachePadded<AtomicPtr<CachePadded<u64>>>,
    _object: Box<CachePadded<u64>>,
}

impl Published {
    fn new() -> Self {
        let mut object = Box::new(CachePadded::new(7));
        Self { current: CachePadded::new(AtomicPtr::new(&raw mut *object)), _object: object }
    }

    fn read(&self) {
        let object = self.current.load(Ordering::Acquire);
        // SAFETY: the object lives as long as `self`.
        cell::read(unsafe { &**object });
    }
}

/// Readers of an object that something protects.
fn protected<P: Send + Sync + 'static>(
    load: &Load<'_>,
    by: impl FnOnce() -> P + 'static,
    read: impl Fn(&P, &Published) + Send + Sync + 'static,
) -> Throughput {
    load.shared(move || (by(), Published::new()), move |(by, published)| read(by, published))
}

pub(super) fn hazptr(load: &Load<'_>) -> Throughput {
    let start = |_: &Published, _| HazardPointer::new();
    load.each(Published::new, start, |published, holder| {
        // SAFETY: the object is never retired.
        if let Some(object) = unsafe { holder.protect(&published.current) } {
            cell::read(&**object);
        }
        holder.reset();
    })
}

pub(super) fn rcu(load: &Load<'_>) -> Throughput {
    load.shared(Published::new, |published| {
        let _section = rcu::read_lock();
        published.read();
    })
}

pub(super) fn srcu<K: Flavour + 'static>(load: &Load<'_>) -> Throughput
where
    SrcuDomain<K>: Send + Sync,
{
    protected(load, SrcuDomain::<K>::new, |domain, published| {
        let _section = domain.read_lock();
        published.read();
    })
}

pub(super) fn percpu_ref(load: &Load<'_>) -> Throughput {
    let count = || PercpuRef::new(|| ());
    protected(load, count, |count: &PercpuRef<_>, published| {
        count.get().expect("nobody kills it");
        published.read();
        count.put().expect("it was got");
    })
}

pub(super) fn cached(load: &Load<'_>) -> Throughput {
    load.shared(
        || CachedArc::new(CachePadded::new(7u64)),
        |shared| {
            let own = CachedArc::clone(shared);
            cell::read(&**own);
        },
    )
}

/// What `Arc` and kref do: one count.
pub(super) fn one_count(load: &Load<'_>) -> Throughput {
    let count = || CachePadded::new(AtomicUsize::new(1));
    protected(load, count, |count: &CachePadded<AtomicUsize>, published| {
        count.fetch_add(1, Ordering::Relaxed);
        published.read();
        count.fetch_sub(1, Ordering::Release);
    })
}

/// A count for each CPU, as percpu_ref has it, but side by side: what padding is for.
pub(super) fn packed_counts(load: &Load<'_>) -> Throughput {
    let counts = || (0..coresim::thread::cpus()).map(|_| AtomicUsize::new(0)).collect();
    protected(load, counts, |counts: &Vec<AtomicUsize>, published| {
        let count = &counts[coresim::thread::cpu()];
        count.store(count.load(Ordering::Relaxed) + 1, Ordering::Release);
        published.read();
        count.store(count.load(Ordering::Relaxed) - 1, Ordering::Release);
    })
}
