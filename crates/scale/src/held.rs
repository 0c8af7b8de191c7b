//! Ways to keep a configuration while a request uses it: what our schemes do for a server whose
//! configuration is replaced now and then. `trapline-bench http` includes this file, too: what the
//! model runs is what the server runs.
#![allow(unsafe_code)]

use percpu::sync::atomic::{AtomicPtr, Ordering};
use reclaim::cached::CachedArc;
use reclaim::hazptr::{HazardPointer, Shared};
use reclaim::percpu_ref::PercpuRef;
use reclaim::rcu;
use reclaim::srcu::{Normal, SrcuDomain};

/// The most references that a request takes.
pub const MOST: usize = 16;

/// A way to keep a configuration of type `C`.
pub trait Scheme<C>: Send + Sync + Sized + 'static {
    /// What a worker keeps from request to request.
    type Own;

    /// With a first configuration.
    fn new(first: C) -> Self;

    /// For a worker, on its thread.
    fn own(&self) -> Self::Own;

    /// Takes `references` references to what is current, each while those before are held; calls
    /// `read` with each; gives them back.
    fn hold(&self, own: &mut Self::Own, references: usize, read: &mut impl FnMut(&C));

    /// Publishes the next configuration. The old one goes when nobody holds it.
    fn replace(&self, next: C);
}

/// The current one of objects that come from boxes.
struct Current<T>(AtomicPtr<T>);

impl<T> Current<T> {
    fn new(first: T) -> Self {
        Self(AtomicPtr::new(Box::into_raw(Box::new(first))))
    }

    /// # Safety
    /// What [`replace`](Self::replace) returns is not dropped while the result is used.
    unsafe fn get(&self) -> &T {
        // SAFETY: it comes from a box; the caller's promise. Acquire pairs with the swap.
        unsafe { &*self.0.load(Ordering::Acquire) }
    }

    fn replace(&self, next: T) -> Box<T> {
        let old = self.0.swap(Box::into_raw(Box::new(next)), Ordering::AcqRel);
        // SAFETY: from a box, and taken out of its only place just now.
        unsafe { Box::from_raw(old) }
    }
}

impl<T> Drop for Current<T> {
    fn drop(&mut self) {
        // SAFETY: from a box, and nobody uses it any more.
        drop(unsafe { Box::from_raw(self.0.load(Ordering::Relaxed)) });
    }
}

/// A hazard pointer for each reference, kept by the worker.
pub struct Hazptr<C: Send + Sync + 'static>(Shared<C>);

impl<C: Send + Sync + 'static> Scheme<C> for Hazptr<C> {
    type Own = [HazardPointer; MOST];

    fn new(first: C) -> Self {
        Self(Shared::new(first))
    }

    fn own(&self) -> Self::Own {
        HazardPointer::array()
    }

    #[inline]
    fn hold(&self, own: &mut Self::Own, references: usize, read: &mut impl FnMut(&C)) {
        for holder in &mut own[..references] {
            if let Some(current) = self.0.load(holder) {
                read(current);
            }
        }
        own[..references].iter_mut().for_each(|holder| holder.reset());
    }

    fn replace(&self, next: C) {
        self.0.store(next);
    }
}

/// A section for each reference.
pub struct Rcu<C>(Current<C>);

impl<C: Send + Sync + 'static> Scheme<C> for Rcu<C> {
    type Own = ();

    fn new(first: C) -> Self {
        Self(Current::new(first))
    }

    fn own(&self) {}

    #[inline]
    fn hold(&self, own: &mut (), references: usize, read: &mut impl FnMut(&C)) {
        let _section = rcu::read_lock();
        // SAFETY: what is replaced waits for a grace period, and the section is open.
        read(unsafe { self.0.get() });
        if references > 1 {
            self.hold(own, references - 1, read);
        }
    }

    fn replace(&self, next: C) {
        rcu::defer_drop(self.0.replace(next));
        rcu::run_callbacks();
    }
}

/// A section of one domain for each reference.
pub struct Srcu<C: Send + 'static> {
    current: Current<C>,
    /// Dropped last: what it has been given goes then.
    domain: SrcuDomain<Normal>,
}

impl<C: Send + Sync + 'static> Scheme<C> for Srcu<C> {
    type Own = ();

    fn new(first: C) -> Self {
        Self { current: Current::new(first), domain: SrcuDomain::new() }
    }

    fn own(&self) {}

    #[inline]
    fn hold(&self, own: &mut (), references: usize, read: &mut impl FnMut(&C)) {
        let _section = self.domain.read_lock();
        // SAFETY: what is replaced waits for the domain's sections, and one is open.
        read(unsafe { self.current.get() });
        if references > 1 {
            self.hold(own, references - 1, read);
        }
    }

    fn replace(&self, next: C) {
        self.domain.defer_drop(self.current.replace(next));
        self.domain.run_callbacks();
    }
}

/// A count in the object, which is found in an RCU section.
pub struct Counted<C: Send + Sync + 'static>(Current<Object<C>>);

struct Object<C> {
    count: PercpuRef,
    value: C,
}

impl<C> Object<C> {
    fn new(value: C) -> Self {
        Self { count: PercpuRef::new(|| ()), value }
    }
}

impl<C: Send + Sync + 'static> Counted<C> {
    fn get(&self) -> &Object<C> {
        loop {
            let _section = rcu::read_lock();
            // SAFETY: it goes a grace period after its last reference, and the section is open.
            let object = unsafe { self.0.get() };
            // Or it has just been replaced.
            if object.count.try_get_live() {
                return object;
            }
        }
    }

    /// # Safety
    /// The object was replaced, and this was its last reference.
    unsafe fn gone(object: *const Object<C>) {
        // SAFETY: from a box, which `replace` gave up.
        rcu::defer_drop(unsafe { Box::from_raw(object.cast_mut()) });
    }
}

impl<C: Send + Sync + 'static> Scheme<C> for Counted<C> {
    type Own = ();

    fn new(first: C) -> Self {
        Self(Current::new(Object::new(first)))
    }

    fn own(&self) {}

    #[inline]
    fn hold(&self, own: &mut (), references: usize, read: &mut impl FnMut(&C)) {
        let object = self.get();
        read(&object.value);
        if references > 1 {
            self.hold(own, references - 1, read);
        }
        if object.count.put().expect("it was got") {
            // SAFETY: only what was killed comes to zero, and that was replaced.
            unsafe { Self::gone(object) };
        }
    }

    fn replace(&self, next: C) {
        let old = Box::into_raw(self.0.replace(Object::new(next)));
        // SAFETY: whoever puts the last reference frees it, and the first reference is put by this.
        if unsafe { &*old }.count.kill().expect("killed once") {
            // SAFETY: as above.
            unsafe { Self::gone(old) };
        }
        rcu::run_callbacks();
    }
}

/// An owning handle for each reference, cloned from one that is found in an RCU section.
pub struct Cached<C: Send + Sync + 'static>(Current<CachedArc<C>>);

impl<C: Send + Sync + 'static> Scheme<C> for Cached<C> {
    type Own = ();

    fn new(first: C) -> Self {
        Self(Current::new(CachedArc::new(first)))
    }

    fn own(&self) {}

    #[inline]
    fn hold(&self, own: &mut (), references: usize, read: &mut impl FnMut(&C)) {
        let handle = {
            let _section = rcu::read_lock();
            // SAFETY: what is replaced waits for a grace period, and the section is open.
            CachedArc::clone(unsafe { self.0.get() })
        };
        read(&handle);
        if references > 1 {
            self.hold(own, references - 1, read);
        }
    }

    fn replace(&self, next: C) {
        let old = self.0.replace(CachedArc::new(next));
        CachedArc::request_flush(&old);
        rcu::defer_drop(old);
        rcu::run_callbacks();
    }
}
