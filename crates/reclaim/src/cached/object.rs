//! The counted object behind a [`CachedArc`](super::CachedArc), with its type erased: cache entries
//! know addresses only.
#![allow(unsafe_code)]

use super::count::{Count, Owed};
use crate::panics::Panics;
use alloc::boxed::Box;
use core::ptr::{self, NonNull};
use percpu::sync::atomic::{AtomicBool, AtomicPtr, Ordering};

/// What every counted object starts with.
#[derive(Debug)]
#[repr(C, align(8))]
pub(super) struct Header {
    pub(super) count: Count,
    /// False: threads use the count and no entry. Only looked at when an entry would be filled.
    cacheable: AtomicBool,
    free: unsafe fn(NonNull<Header>),
    /// Links dead objects until they are freed.
    next_dead: AtomicPtr<Header>,
}

/// A header and its value, in one box.
#[repr(C)]
pub(super) struct Inner<T> {
    pub(super) header: Header,
    pub(super) value: T,
}

impl<T> Inner<T> {
    pub(super) fn boxed(value: T) -> NonNull<Self> {
        let header = Header {
            count: Count::one(),
            cacheable: AtomicBool::new(true),
            free: free::<T>,
            next_dead: AtomicPtr::new(ptr::null_mut()),
        };
        NonNull::from(Box::leak(Box::new(Self { header, value })))
    }
}

/// # Safety
/// The header is that of an `Inner<T>` from a box, whose count has become 0.
unsafe fn free<T>(header: NonNull<Header>) {
    // SAFETY: the header is the first field (`repr(C)`), the box is the caller's alone.
    drop(unsafe { Box::from_raw(header.cast::<Inner<T>>().as_ptr()) });
}

impl Header {
    pub(super) fn is_cacheable(&self) -> bool {
        // Relaxed: ordered by the fences in `local::get_missed` and `flush::set_caching`.
        self.cacheable.load(Ordering::Relaxed)
    }

    pub(super) fn set_cacheable(&self, cacheable: bool) {
        self.cacheable.store(cacheable, Ordering::Relaxed);
    }
}

/// Dead objects that are to be freed where user code may run. Dropping it frees them.
#[derive(Debug, Default)]
pub(super) struct Dead(Option<NonNull<Header>>);

// SAFETY: dead objects are this value's alone, and all of them are `Send` (asked for by
// `CachedArc`).
unsafe impl Send for Dead {}

/// Dead objects that were found where user code may not run: in a `clone`. A stack, taken whole.
static LIMBO: AtomicPtr<Header> = AtomicPtr::new(ptr::null_mut());

/// Whether dead objects wait for somebody who may free them.
pub(super) fn is_limbo_empty() -> bool {
    // Relaxed: a hint, which keeps their number small.
    LIMBO.load(Ordering::Relaxed).is_null()
}

impl Dead {
    /// Those that wait in limbo.
    pub(super) fn from_limbo() -> Self {
        if is_limbo_empty() {
            return Self::default();
        }
        // Acquire pairs with the Release in `leave`.
        Self(NonNull::new(LIMBO.swap(ptr::null_mut(), Ordering::Acquire)))
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.is_none()
    }

    /// Makes a change that was owed to an object's count; keeps the object if that was its end.
    pub(super) fn settle(&mut self, owed: Owed) {
        if (owed.users, owed.refs) == (0, 0) {
            // The flusher took everything, and the object may be gone by now.
            return;
        }
        let Some(header) = NonNull::new(ptr::with_exposed_provenance_mut::<Header>(owed.object))
        else {
            return;
        };
        // SAFETY: who owes the object a change is what keeps it alive: a user, or a reference of
        // the touch that is being settled.
        let alive = unsafe { header.as_ref() };
        if alive.count.add(owed.users, owed.refs) {
            // Relaxed: dead, so nobody else has it.
            alive
                .next_dead
                .store(self.0.map_or(ptr::null_mut(), NonNull::as_ptr), Ordering::Relaxed);
            self.0 = Some(header);
        }
    }

    /// Leaves them in limbo, for whoever comes next and may free them.
    pub(super) fn leave(mut self) {
        while let Some(dead) = self.take() {
            // SAFETY: dead, and not freed yet.
            let header = unsafe { dead.as_ref() };
            let mut first = LIMBO.load(Ordering::Relaxed);
            loop {
                header.next_dead.store(first, Ordering::Relaxed);
                // Release pairs with the Acquire in `from_limbo`: the link, and the object.
                match LIMBO.compare_exchange_weak(
                    first,
                    dead.as_ptr(),
                    Ordering::Release,
                    Ordering::Relaxed,
                ) {
                    Ok(_) => break,
                    Err(now) => first = now,
                }
            }
        }
    }

    /// Frees them, with the panics for the caller.
    pub(super) fn free(&mut self, panics: &mut Panics) {
        while self.free_one(panics) {}
    }

    /// Frees one of them, with its panic for the caller; false: there is none.
    pub(super) fn free_one(&mut self, panics: &mut Panics) -> bool {
        let Some(header) = self.take() else { return false };
        // SAFETY: dead, and not freed yet.
        let free = unsafe { header.as_ref() }.free;
        // SAFETY: `boxed` made the object and this function for it, and its count has become 0.
        panics.catch(|| unsafe { free(header) });
        true
    }

    fn take(&mut self) -> Option<NonNull<Header>> {
        let header = self.0.take()?;
        // SAFETY: dead, and not freed yet.
        let dead = unsafe { header.as_ref() };
        // Relaxed: dead, so nobody else has it.
        self.0 = NonNull::new(dead.next_dead.load(Ordering::Relaxed));
        Some(header)
    }
}

impl Drop for Dead {
    /// The first panic of a value's drop goes on.
    fn drop(&mut self) {
        if !self.is_empty() {
            let mut panics = Panics::none();
            self.free(&mut panics);
            panics.resume();
        }
    }
}
