//! What others offer to keep a configuration while a request uses it.
#![allow(unsafe_code)]

use super::config::Config;
use super::held::{MOST, Scheme};
use arc_swap::{ArcSwap, Cache};
use std::sync::atomic::Ordering;
use std::sync::{Arc, PoisonError, RwLock};

/// Nothing: a configuration that is never replaced. What a request costs without any of them.
pub(super) struct Fixed(Config);

impl Scheme<Config> for Fixed {
    type Own = ();

    fn new(first: Config) -> Self {
        Self(first)
    }

    fn own(&self) {}

    #[inline]
    fn hold(&self, (): &mut (), references: usize, read: &mut impl FnMut(&Config)) {
        (0..references).for_each(|_| read(&self.0));
    }

    fn replace(&self, _next: Config) {}
}

/// An `Arc` for each reference, cloned under a reader-writer lock.
pub(super) struct Locked(RwLock<Arc<Config>>);

impl Scheme<Config> for Locked {
    type Own = ();

    fn new(first: Config) -> Self {
        Self(RwLock::new(Arc::new(first)))
    }

    fn own(&self) {}

    #[inline]
    fn hold(&self, own: &mut (), references: usize, read: &mut impl FnMut(&Config)) {
        let current = Arc::clone(&self.0.read().unwrap_or_else(PoisonError::into_inner));
        read(&current);
        if references > 1 {
            self.hold(own, references - 1, read);
        }
    }

    fn replace(&self, next: Config) {
        let next = Arc::new(next);
        // What was there is dropped outside of the lock.
        let old = {
            let mut current = self.0.write().unwrap_or_else(PoisonError::into_inner);
            std::mem::replace(&mut *current, next)
        };
        drop(old);
    }
}

/// arc-swap: a guard for each reference.
pub(super) struct Swapped(ArcSwap<Config>);

impl Scheme<Config> for Swapped {
    type Own = ();

    fn new(first: Config) -> Self {
        Self(ArcSwap::from_pointee(first))
    }

    fn own(&self) {}

    #[inline]
    fn hold(&self, own: &mut (), references: usize, read: &mut impl FnMut(&Config)) {
        let current = self.0.load();
        read(&current);
        if references > 1 {
            self.hold(own, references - 1, read);
        }
    }

    fn replace(&self, next: Config) {
        self.0.store(Arc::new(next));
    }
}

/// arc-swap's `Cache`, one a worker: looks whether its copy is current, and lends it. Nothing is
/// owned, so nothing is given back.
pub(super) struct SwapCache(Arc<ArcSwap<Config>>);

impl Scheme<Config> for SwapCache {
    type Own = Cache<Arc<ArcSwap<Config>>, Arc<Config>>;

    fn new(first: Config) -> Self {
        Self(Arc::new(ArcSwap::from_pointee(first)))
    }

    fn own(&self) -> Self::Own {
        Cache::new(Arc::clone(&self.0))
    }

    #[inline]
    fn hold(&self, own: &mut Self::Own, references: usize, read: &mut impl FnMut(&Config)) {
        (0..references).for_each(|_| read(own.load()));
    }

    fn replace(&self, next: Config) {
        self.0.store(Arc::new(next));
    }
}

/// crossbeam-epoch: a pin for each reference.
pub(super) struct Epoch(crossbeam_epoch::Atomic<Config>);

impl Scheme<Config> for Epoch {
    type Own = ();

    fn new(first: Config) -> Self {
        Self(crossbeam_epoch::Atomic::new(first))
    }

    fn own(&self) {}

    #[inline]
    fn hold(&self, own: &mut (), references: usize, read: &mut impl FnMut(&Config)) {
        let guard = crossbeam_epoch::pin();
        // SAFETY: what is replaced is destroyed when no guard of its time is left.
        if let Some(current) = unsafe { self.0.load(Ordering::Acquire, &guard).as_ref() } {
            read(current);
        }
        if references > 1 {
            self.hold(own, references - 1, read);
        }
    }

    fn replace(&self, next: Config) {
        let guard = crossbeam_epoch::pin();
        let old = self.0.swap(crossbeam_epoch::Owned::new(next), Ordering::AcqRel, &guard);
        // SAFETY: unlinked from its only place and retired once.
        unsafe { guard.defer_destroy(old) };
        guard.flush();
    }
}

impl Drop for Epoch {
    fn drop(&mut self) {
        let last = std::mem::replace(&mut self.0, crossbeam_epoch::Atomic::null());
        // SAFETY: nobody reads it any more.
        drop(unsafe { last.try_into_owned() });
    }
}

/// haphazard: a hazard pointer for each reference, kept by the worker.
pub(super) struct Haphazard(haphazard::AtomicPtr<Config>);

impl Scheme<Config> for Haphazard {
    type Own = [haphazard::HazardPointer<'static>; MOST];

    fn new(first: Config) -> Self {
        Self(haphazard::AtomicPtr::from(Box::new(first)))
    }

    fn own(&self) -> Self::Own {
        std::array::from_fn(|_| haphazard::HazardPointer::new())
    }

    #[inline]
    fn hold(&self, own: &mut Self::Own, references: usize, read: &mut impl FnMut(&Config)) {
        for holder in &mut own[..references] {
            if let Some(current) = self.0.safe_load(holder) {
                read(current);
            }
        }
        own[..references].iter_mut().for_each(|holder| holder.reset_protection());
    }

    fn replace(&self, next: Config) {
        if let Some(old) = self.0.swap(Box::new(next)) {
            // SAFETY: unlinked from its only place and retired once.
            unsafe { old.retire() };
        }
    }
}

impl Drop for Haphazard {
    fn drop(&mut self) {
        // SAFETY: came from a box, nobody reads it any more.
        drop(unsafe { Box::<Config>::from_raw(self.0.load_ptr()) });
    }
}
