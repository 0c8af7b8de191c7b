//! What the tests of hazard pointers share: objects that count their drops, and a domain for each
//! test.
#![allow(dead_code, reason = "each test file uses a part")]

use reclaim::hazptr::{Domain, Head, Policy};
use std::ptr;
use std::sync::Arc;
use std::sync::atomic::{AtomicPtr, AtomicUsize, Ordering};

/// Counts its drops in a counter of the test's.
pub(crate) struct Counted {
    pub(crate) head: Head,
    pub(crate) value: u64,
    pub(crate) drops: Arc<AtomicUsize>,
}
reclaim::retirable!(Counted, head);

impl Drop for Counted {
    fn drop(&mut self) {
        self.drops.fetch_add(1, Ordering::SeqCst);
    }
}

pub(crate) struct Fixture {
    pub(crate) domain: &'static Domain,
    pub(crate) drops: Arc<AtomicUsize>,
}

impl Fixture {
    pub(crate) fn new(policy: Policy) -> Self {
        Self { domain: Box::leak(Box::new(Domain::with_policy(policy))), drops: Arc::default() }
    }

    pub(crate) fn object(&self, value: u64) -> *mut Counted {
        Box::into_raw(Box::new(Counted {
            head: Head::new(),
            value,
            drops: Arc::clone(&self.drops),
        }))
    }

    pub(crate) fn retire(&self, object: *mut Counted) {
        // SAFETY: the tests retire objects from `object` once, after unlinking them.
        unsafe { self.domain.retire(object) };
    }

    pub(crate) fn drops(&self) -> usize {
        self.drops.load(Ordering::SeqCst)
    }
}

pub(crate) fn inline() -> Fixture {
    Fixture::new(Policy::Inline)
}

/// Unlinks what `src` holds.
pub(crate) fn unlink<T>(src: &AtomicPtr<T>) -> *mut T {
    src.swap(ptr::null_mut(), Ordering::AcqRel)
}
