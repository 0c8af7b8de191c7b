//! Readers of an object that others may replace: enter, read a word, leave.
#![allow(unsafe_code)]

use crate::load::Load;
use coresim::{Picoseconds, Simulation, Throughput, cell};
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

fn run<S: Send + Sync + 'static, L>(
    simulation: &Simulation,
    load: &Load,
    span: Picoseconds,
    setup: fn() -> S,
    start: fn(&S) -> L,
    read: impl Fn(&S, &mut L) + Send + Sync + 'static,
) -> Throughput
where
    L: 'static,
{
    simulation.throughput_with(load.threads, span, setup, move |shared, _| start(shared), read)
}

pub(super) fn hazptr(simulation: &Simulation, load: &Load, span: Picoseconds) -> Throughput {
    let start = |_: &Published| HazardPointer::new();
    run(simulation, load, span, Published::new, start, |published, holder| {
        // SAFETY: the object is never retired.
        if let Some(object) = unsafe { holder.protect(&published.current) } {
            cell::read(&**object);
        }
        holder.reset();
    })
}

pub(super) fn rcu(simulation: &Simulation, load: &Load, span: Picoseconds) -> Throughput {
    run(
        simulation,
        load,
        span,
        Published::new,
        |_| (),
        |published, ()| {
            let _section = rcu::read_lock();
            published.read();
        },
    )
}

pub(super) fn srcu<K: Flavour + 'static>(
    simulation: &Simulation,
    load: &Load,
    span: Picoseconds,
) -> Throughput
where
    SrcuDomain<K>: Send + Sync,
{
    let setup = || (SrcuDomain::<K>::new(), Published::new());
    run(
        simulation,
        load,
        span,
        setup,
        |_| (),
        |(domain, published), ()| {
            let _section = domain.read_lock();
            published.read();
        },
    )
}

pub(super) fn percpu_ref(simulation: &Simulation, load: &Load, span: Picoseconds) -> Throughput {
    let setup = || (PercpuRef::new(|| ()), Published::new());
    run(
        simulation,
        load,
        span,
        setup,
        |_| (),
        |(count, published), ()| {
            count.get().expect("nobody kills it");
            published.read();
            count.put().expect("it was got");
        },
    )
}

pub(super) fn cached(simulation: &Simulation, load: &Load, span: Picoseconds) -> Throughput {
    let setup = || CachedArc::new(CachePadded::new(7u64));
    run(
        simulation,
        load,
        span,
        setup,
        |_| (),
        |shared, ()| {
            let own = CachedArc::clone(shared);
            cell::read(&**own);
        },
    )
}

/// What `Arc` and kref do: one count.
pub(super) fn one_count(simulation: &Simulation, load: &Load, span: Picoseconds) -> Throughput {
    let setup = || (CachePadded::new(AtomicUsize::new(1)), Published::new());
    run(
        simulation,
        load,
        span,
        setup,
        |_| (),
        |(count, published), ()| {
            count.fetch_add(1, Ordering::Relaxed);
            published.read();
            count.fetch_sub(1, Ordering::Release);
        },
    )
}

/// A count for each CPU, as percpu_ref has it, but side by side: what padding is for.
pub(super) fn packed_counts(simulation: &Simulation, load: &Load, span: Picoseconds) -> Throughput {
    let setup = || {
        let counts = (0..coresim::thread::cpus()).map(|_| AtomicUsize::new(0));
        (counts.collect::<Box<[_]>>(), Published::new())
    };
    run(
        simulation,
        load,
        span,
        setup,
        |_| (),
        |(counts, published), ()| {
            let count = &counts[coresim::thread::cpu()];
            count.store(count.load(Ordering::Relaxed) + 1, Ordering::Release);
            published.read();
            count.store(count.load(Ordering::Relaxed) - 1, Ordering::Release);
        },
    )
}
