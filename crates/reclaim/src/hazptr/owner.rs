//! Owners: retired objects that have to be gone together (folly calls them cohorts).
//!
//! An owner is a counter of the objects that were retired in its name and not reclaimed yet. The
//! handle and each object have a share in it; whoever gives up the last share frees it. So dropping
//! the handle early is safe: its objects are then reclaimed like any others.
#![allow(unsafe_code)]
#![cfg_attr(loom, allow(dead_code, reason = "models have no domains"))]

use core::ptr::NonNull;
use percpu::sync::atomic::{AtomicUsize, Ordering};

#[cfg(feature = "alloc")]
use alloc::boxed::Box;

/// The handle's share, above every possible number of objects.
const HANDLE: usize = 1 << (usize::BITS - 1);

/// `shares`: number of unreclaimed objects, plus [`HANDLE`] while the handle exists.
#[derive(Debug)]
pub(crate) struct Shares {
    shares: AtomicUsize,
}

/// One object's share, as kept in its head.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct OwnerRef(NonNull<Shares>);

impl OwnerRef {
    /// For keeping it in an atomic.
    pub(crate) fn as_ptr(self) -> *mut Shares {
        self.0.as_ptr()
    }

    /// # Safety
    /// The pointer came from [`as_ptr`](Self::as_ptr).
    pub(crate) unsafe fn from_raw(shares: NonNull<Shares>) -> Self {
        Self(shares)
    }

    /// Gives up an object's share, after its deleter has run.
    ///
    /// # Safety
    /// The share exists and is given up once.
    pub(crate) unsafe fn done(self) {
        // SAFETY: the share keeps the counter alive.
        let shares = unsafe { self.0.as_ref() };
        // Release pairs with the Acquire in `Owner::pending`: who sees the objects gone sees all
        // that their deleters did. Acquire pairs with the other Releases here, for the last one,
        // who frees the counter.
        if shares.shares.fetch_sub(1, Ordering::AcqRel) == 1 {
            // SAFETY: that was the last share.
            unsafe { free(self.0) };
        }
    }
}

/// # Safety
/// No share is left.
unsafe fn free(shares: NonNull<Shares>) {
    #[cfg(feature = "alloc")]
    {
        // SAFETY: `Owner::new` made it from a box; the caller saw the last share go.
        drop(unsafe { Box::from_raw(shares.as_ptr()) });
    }
    #[cfg(not(feature = "alloc"))]
    let _ = shares;
}

/// A group of retired objects that can be waited for: everything that one probe, plug-in or
/// connection has retired.
///
/// Retire into it with [`Domain::retire_for`](super::Domain::retire_for), wait with
/// [`Domain::reclaim_owner`](super::Domain::reclaim_owner).
#[derive(Debug)]
pub struct Owner(OwnerRef);

// SAFETY: the counter is atomic and lives until the last share is gone.
unsafe impl Send for Owner {}
// SAFETY: likewise.
unsafe impl Sync for Owner {}

impl Owner {
    /// An owner without objects.
    ///
    /// # Context
    /// Allocates.
    #[cfg(feature = "alloc")]
    pub fn new() -> Self {
        let shares = Box::new(Shares { shares: AtomicUsize::new(HANDLE) });
        Self(OwnerRef(NonNull::from(Box::leak(shares))))
    }

    /// How many of its objects are not reclaimed yet.
    pub fn pending(&self) -> usize {
        // Acquire pairs with the Release in `OwnerRef::done`.
        self.shares().shares.load(Ordering::Acquire) & !HANDLE
    }

    /// To be compared with the shares of objects; no share itself.
    pub(crate) fn as_ref(&self) -> OwnerRef {
        self.0
    }

    /// A share for one more object.
    pub(crate) fn share(&self) -> OwnerRef {
        // Relaxed: the object is handed over by the list that it goes on, and the counter cannot
        // vanish while the handle is there.
        self.shares().shares.fetch_add(1, Ordering::Relaxed);
        self.0
    }

    fn shares(&self) -> &Shares {
        // SAFETY: the handle's share keeps the counter alive.
        unsafe { self.0.0.as_ref() }
    }
}

#[cfg(feature = "alloc")]
impl Default for Owner {
    fn default() -> Self {
        Self::new()
    }
}

impl Drop for Owner {
    fn drop(&mut self) {
        // Acquire and Release as in `OwnerRef::done`.
        if self.shares().shares.fetch_sub(HANDLE, Ordering::AcqRel) == HANDLE {
            // SAFETY: that was the last share.
            unsafe { free(self.0.0) };
        }
    }
}
