//! Our pools, by their raw interface: the default one, and each of the others.
#![allow(unsafe_code)]

use super::case::{Flow, OBJECT_SIZE, PoolCase};
use super::source::RawSource;
use super::workload::{self, raw};
use crate::harness::{Entry, Role};
use objpool::{
    Bitmap, Builder, CasLifo, FlatArray, FreeList, ObjectPool, PerCpuList, Pooled, RawPool,
    RingArray, RseqLifo,
};
use std::alloc::Layout;
use std::ptr::NonNull;

/// Rows that targets name.
pub(super) const DEFAULT: &str = "default pool";
/// The same through guards.
pub(super) const GUARDS: &str = "default pool, guards";
/// The reference-counted list, the kernel's first design.
pub(super) const CAS_LIFO: &str = "CAS LIFO";
/// The default pool where restartable sequences are refused.
pub(super) const WITHOUT_RSEQ: &str = "default pool, no rseq";

/// A pool as a source.
struct Ours<L: FreeList>(RawPool<L>);

impl<L: FreeList> RawSource for Ours<L> {
    #[inline(always)]
    fn take(&self) -> Option<NonNull<u64>> {
        self.0.pop().map(NonNull::cast)
    }

    #[inline(always)]
    fn give(&self, object: NonNull<u64>) {
        // SAFETY: came from `take` and is given back once.
        let pushed = unsafe { self.0.push(object.cast()) };
        debug_assert!(pushed.is_ok(), "a popped object can be pushed");
    }
}

fn pool<L: FreeList>(case: &PoolCase, rseq: bool) -> Ours<L> {
    let layout = Layout::from_size_align(OBJECT_SIZE, 8).expect("a valid layout");
    Ours(Builder::new(case.capacity(), layout).rseq(rseq).build().expect("memory for the pool"))
}

/// All our rows.
pub(super) fn contenders() -> Vec<Entry<PoolCase>> {
    let rseq = percpu::rseq::available();
    let mut entries = Vec::new();
    if rseq {
        entries.push(raw(DEFAULT, Role::Ours, |case| Some(pool::<RseqLifo>(case, true))));
        entries.push(Entry::new(GUARDS, Role::Ours, |case: &PoolCase| {
            (case.flow == Flow::SameThread).then(|| workload::same_thread(Guards::new(case), case))
        }));
    } else {
        let why = "no restartable sequences here: see the row without";
        entries.push(Entry::absent(DEFAULT, Role::Ours, why));
        entries.push(Entry::absent(GUARDS, Role::Ours, why));
    }
    entries.extend([
        raw(WITHOUT_RSEQ, Role::Ours, |case| Some(pool::<RseqLifo>(case, false))),
        raw("bitmap", Role::Ours, |case| Some(pool::<Bitmap>(case, true))),
        raw("per-CPU list", Role::Ours, |case| Some(pool::<PerCpuList>(case, true))),
        raw("ring array", Role::Ours, |case| Some(pool::<RingArray>(case, true))),
        raw("flat array", Role::Ours, |case| Some(pool::<FlatArray>(case, true))),
        raw(CAS_LIFO, Role::Ours, |case| Some(pool::<CasLifo>(case, true))),
    ]);
    entries
}

/// The default pool for the latency run.
pub(super) fn default_pool(case: &PoolCase) -> Option<impl RawSource + use<>> {
    Some(pool::<RseqLifo>(case, true))
}

type Object = [u64; OBJECT_SIZE / 8];

/// The default pool by its guards, which return the object when they are dropped.
struct Guards(ObjectPool<Object>);

impl Guards {
    fn new(case: &PoolCase) -> Self {
        Self(
            ObjectPool::new(case.capacity(), |_| [0; OBJECT_SIZE / 8])
                .expect("memory for the pool"),
        )
    }
}

impl super::source::Source for Guards {
    type Item<'a> = Pooled<'a, Object>;

    #[inline(always)]
    fn take(&self) -> Option<Pooled<'_, Object>> {
        self.0.pop()
    }

    #[inline(always)]
    fn write(item: &mut Pooled<'_, Object>, value: u64) {
        super::source::write(NonNull::from(&mut **item).cast(), value);
    }

    #[inline(always)]
    fn give<'a>(&'a self, item: Pooled<'a, Object>) {
        drop(item);
    }
}
