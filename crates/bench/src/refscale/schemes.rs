//! Ways to replace an object that readers may be looking at: one trait for the writers' table and
//! for the stalled reader.
#![allow(unsafe_code)]

use percpu::CachePadded;
use reclaim::hazptr::{Domain, HazardPointer, Head, Retirable};
use reclaim::rcu;
use reclaim::srcu::{Fast, SrcuDomain};
use seize::Guard as _;
use std::ptr::NonNull;
use std::sync::Arc;
use std::sync::atomic::{AtomicPtr, AtomicU64, Ordering};

/// Objects reclaimed so far, by one scheme instance.
pub(super) type Tally = Arc<CachePadded<AtomicU64>>;

/// What is published: 32 bytes, of which the tally is only there when somebody counts.
pub(super) struct Object {
    pub(super) value: u64,
    pub(super) tally: Option<Tally>,
}

impl Drop for Object {
    fn drop(&mut self) {
        if let Some(tally) = &self.tally {
            tally.fetch_add(1, Ordering::Relaxed); // a statistic
        }
    }
}

/// One way to reclaim.
pub(super) trait Scheme: Sync + Sized + 'static {
    /// Name of the row.
    const NAME: &'static str;

    /// With one current object.
    fn new(first: Object) -> Self;

    /// Publishes `next` and retires the object that was current.
    fn replace(&self, next: Object);

    /// Calls `f` while a reader (the calling thread) stands on the current object.
    fn stall(&self, f: impl FnOnce());
}

/// The floor: allocation and free without anybody reading.
pub(super) struct AllocOnly(AtomicPtr<Object>);

impl Scheme for AllocOnly {
    const NAME: &'static str = "allocate + publish + free at once";

    fn new(first: Object) -> Self {
        Self(AtomicPtr::new(Box::into_raw(Box::new(first))))
    }

    #[inline]
    fn replace(&self, next: Object) {
        let old = self.0.swap(Box::into_raw(Box::new(next)), Ordering::AcqRel);
        // SAFETY: came from a box, and nobody reads it.
        drop(unsafe { Box::from_raw(old) });
    }

    fn stall(&self, f: impl FnOnce()) {
        f();
    }
}

impl Drop for AllocOnly {
    fn drop(&mut self) {
        // SAFETY: came from a box, and nobody reads it.
        drop(unsafe { Box::from_raw(*self.0.get_mut()) });
    }
}

/// An object with a hazard-pointer head inside.
struct Node {
    head: Head,
    object: Object,
}

reclaim::retirable!(Node, head);

const _: () = assert!(size_of::<Node>() <= 64, "the node stays in malloc's smallest classes");

/// Our hazard pointers.
pub(super) struct Hazptr {
    domain: Domain,
    current: AtomicPtr<Node>,
}

fn node(object: Object) -> *mut Node {
    Box::into_raw(Box::new(Node { head: Head::new(), object }))
}

impl Scheme for Hazptr {
    const NAME: &'static str = "hazptr";

    fn new(first: Object) -> Self {
        Self { domain: Domain::new(), current: AtomicPtr::new(node(first)) }
    }

    #[inline]
    fn replace(&self, next: Object) {
        let old = self.current.swap(node(next), Ordering::AcqRel);
        // SAFETY: came from a box, was just unlinked from its only place, and is retired once.
        unsafe { self.domain.retire(old) };
    }

    fn stall(&self, f: impl FnOnce()) {
        let mut holder = HazardPointer::new();
        // SAFETY: the pointer always points to a node, which is unlinked before it is retired.
        let object = unsafe { holder.protect(&self.current) }.expect("never null");
        f();
        assert_ne!(object.object.value, u64::MAX);
    }
}

impl Drop for Hazptr {
    fn drop(&mut self) {
        // SAFETY: came from a box, nobody reads it any more.
        unsafe { Node::reclaim(*self.current.get_mut()) };
    }
}

/// An object with a callback head inside.
#[repr(C)]
struct Queued {
    head: rcu::Head,
    object: Object,
}

fn queued(object: Object) -> *mut Queued {
    Box::into_raw(Box::new(Queued { head: rcu::Head::new(), object }))
}

/// # Safety
/// `head` is the first field of a boxed `Queued` that nobody else has.
unsafe fn free_queued(head: NonNull<rcu::Head>) {
    // SAFETY: the caller's promise; `Queued` is repr(C) with the head first.
    drop(unsafe { Box::from_raw(head.cast::<Queued>().as_ptr()) });
}

/// Writers run the callbacks that are due once in so many replacements.
const RUN_EVERY: u64 = 512;

/// Our RCU: intrusive callbacks, run by the writer every now and then.
pub(super) struct Rcu {
    domain: rcu::Domain,
    current: AtomicPtr<Queued>,
    calls: CachePadded<AtomicU64>,
}

impl Scheme for Rcu {
    const NAME: &'static str = "rcu call";

    fn new(first: Object) -> Self {
        Self {
            domain: rcu::Domain::new(),
            current: AtomicPtr::new(queued(first)),
            calls: CachePadded::default(),
        }
    }

    #[inline]
    fn replace(&self, next: Object) {
        let old = self.current.swap(queued(next), Ordering::AcqRel);
        if let Some(head) = NonNull::new(old.cast::<rcu::Head>()) {
            // SAFETY: the head is the first field of an unlinked box that is queued once; the
            // callback frees the whole.
            unsafe { self.domain.call(head, free_queued) };
        }
        if self.calls.fetch_add(1, Ordering::Relaxed) % RUN_EVERY == RUN_EVERY - 1 {
            self.domain.run_callbacks();
        }
    }

    fn stall(&self, f: impl FnOnce()) {
        let reader = self.domain.reader().expect("memory for one reader");
        let _section = reader.lock();
        f();
    }
}

impl Drop for Rcu {
    fn drop(&mut self) {
        // SAFETY: came from a box, nobody reads it any more.
        drop(unsafe { Box::from_raw(*self.current.get_mut()) });
    }
}

/// Our fence-less SRCU.
pub(super) struct SrcuFast {
    domain: SrcuDomain<Fast>,
    current: AtomicPtr<Queued>,
    calls: CachePadded<AtomicU64>,
}

impl Scheme for SrcuFast {
    const NAME: &'static str = "srcu-fast call";

    fn new(first: Object) -> Self {
        Self {
            domain: SrcuDomain::new(),
            current: AtomicPtr::new(queued(first)),
            calls: CachePadded::default(),
        }
    }

    #[inline]
    fn replace(&self, next: Object) {
        let old = self.current.swap(queued(next), Ordering::AcqRel);
        if let Some(head) = NonNull::new(old.cast::<rcu::Head>()) {
            // SAFETY: the head is the first field of an unlinked box that is queued once; the
            // callback frees the whole.
            unsafe { self.domain.call(head, free_queued) };
        }
        if self.calls.fetch_add(1, Ordering::Relaxed) % RUN_EVERY == RUN_EVERY - 1 {
            self.domain.run_callbacks();
        }
    }

    fn stall(&self, f: impl FnOnce()) {
        let _section = self.domain.read_lock();
        f();
    }
}

impl Drop for SrcuFast {
    fn drop(&mut self) {
        // SAFETY: came from a box, nobody reads it any more.
        drop(unsafe { Box::from_raw(*self.current.get_mut()) });
    }
}

/// crossbeam-epoch.
pub(super) struct Crossbeam(crossbeam_epoch::Atomic<Object>);

impl Scheme for Crossbeam {
    const NAME: &'static str = "crossbeam-epoch";

    fn new(first: Object) -> Self {
        Self(crossbeam_epoch::Atomic::new(first))
    }

    #[inline]
    fn replace(&self, next: Object) {
        let guard = crossbeam_epoch::pin();
        let old = self.0.swap(crossbeam_epoch::Owned::new(next), Ordering::AcqRel, &guard);
        // SAFETY: unlinked from its only place and retired once.
        unsafe { guard.defer_destroy(old) };
    }

    fn stall(&self, f: impl FnOnce()) {
        let _guard = crossbeam_epoch::pin();
        f();
    }
}

impl Drop for Crossbeam {
    fn drop(&mut self) {
        let last = std::mem::replace(&mut self.0, crossbeam_epoch::Atomic::null());
        // SAFETY: nobody reads it any more.
        drop(unsafe { last.try_into_owned() });
    }
}

/// haphazard's global domain.
pub(super) struct Haphazard(haphazard::AtomicPtr<Object>);

impl Scheme for Haphazard {
    const NAME: &'static str = "haphazard";

    fn new(first: Object) -> Self {
        Self(haphazard::AtomicPtr::from(Box::new(first)))
    }

    #[inline]
    fn replace(&self, next: Object) {
        if let Some(old) = self.0.swap(Box::new(next)) {
            // SAFETY: unlinked from its only place and retired once.
            unsafe { old.retire() };
        }
    }

    fn stall(&self, f: impl FnOnce()) {
        let mut holder = haphazard::HazardPointer::new();
        let object = self.0.safe_load(&mut holder).expect("never null");
        f();
        assert_ne!(object.value, u64::MAX);
    }
}

impl Drop for Haphazard {
    fn drop(&mut self) {
        // SAFETY: came from a box, nobody reads it any more.
        drop(unsafe { Box::<Object>::from_raw(self.0.load_ptr()) });
    }
}

/// seize.
pub(super) struct Seize {
    collector: seize::Collector,
    current: AtomicPtr<Object>,
}

impl Scheme for Seize {
    const NAME: &'static str = "seize";

    fn new(first: Object) -> Self {
        Self {
            collector: seize::Collector::new(),
            current: AtomicPtr::new(Box::into_raw(Box::new(first))),
        }
    }

    #[inline]
    fn replace(&self, next: Object) {
        let guard = self.collector.enter();
        let old = guard.swap(&self.current, Box::into_raw(Box::new(next)), Ordering::AcqRel);
        // SAFETY: came from a box, unlinked from its only place and retired once.
        unsafe { guard.defer_retire(old, seize::reclaim::boxed) };
    }

    fn stall(&self, f: impl FnOnce()) {
        let guard = self.collector.enter();
        guard.protect(&self.current, Ordering::Acquire);
        f();
    }
}

impl Drop for Seize {
    fn drop(&mut self) {
        // SAFETY: came from a box, nobody reads it any more.
        drop(unsafe { Box::from_raw(*self.current.get_mut()) });
    }
}

/// sdd, the reclamation of scc.
pub(super) struct Sdd(sdd::AtomicOwned<Object>);

impl Scheme for Sdd {
    const NAME: &'static str = "sdd";

    fn new(first: Object) -> Self {
        Self(sdd::AtomicOwned::new(first))
    }

    #[inline]
    fn replace(&self, next: Object) {
        // Dropping what comes out retires it.
        drop(self.0.swap((Some(sdd::Owned::new(next)), sdd::Tag::None), Ordering::AcqRel));
    }

    fn stall(&self, f: impl FnOnce()) {
        let _guard = sdd::Guard::new();
        f();
    }
}

/// papaya: replaces the value of one key.
pub(super) struct Papaya(papaya::HashMap<u64, Object, foldhash::fast::FixedState>);

impl Scheme for Papaya {
    const NAME: &'static str = "papaya insert";

    fn new(first: Object) -> Self {
        let map = papaya::HashMap::builder()
            .hasher(foldhash::fast::FixedState::default())
            .resize_mode(papaya::ResizeMode::Blocking)
            .build();
        map.pin().insert(0, first);
        Self(map)
    }

    #[inline]
    fn replace(&self, next: Object) {
        self.0.pin().insert(0, next);
    }

    fn stall(&self, f: impl FnOnce()) {
        let pinned = self.0.pin();
        assert!(pinned.get(&0).is_some());
        f();
    }
}

/// arc-swap: counts instead of waiting.
pub(super) struct Arcs(arc_swap::ArcSwap<Object>);

impl Scheme for Arcs {
    const NAME: &'static str = "arc-swap store";

    fn new(first: Object) -> Self {
        Self(arc_swap::ArcSwap::from_pointee(first))
    }

    #[inline]
    fn replace(&self, next: Object) {
        self.0.store(Arc::new(next));
    }

    fn stall(&self, f: impl FnOnce()) {
        let object = self.0.load();
        f();
        assert_ne!(object.value, u64::MAX);
    }
}
