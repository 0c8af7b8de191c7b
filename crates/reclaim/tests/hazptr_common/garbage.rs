//! Retired objects that are counted while they live.

use reclaim::hazptr::{Domain, Head};
use std::sync::atomic::{AtomicUsize, Ordering};

pub(crate) struct Tracked {
    pub(crate) head: Head,
    pub(crate) live: &'static AtomicUsize,
}
reclaim::retirable!(Tracked, head);

impl Drop for Tracked {
    fn drop(&mut self) {
        self.live.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Makes and retires objects; returns the most that were retired and not reclaimed at any time.
pub(crate) fn churn(domain: &Domain, live: &'static AtomicUsize, objects: usize) -> usize {
    let mut most = 0;
    for _ in 0..objects {
        let object = Box::into_raw(Box::new(Tracked { head: Head::new(), live }));
        most = most.max(live.fetch_add(1, Ordering::Relaxed) + 1);
        // SAFETY: never published, retired once.
        unsafe { domain.retire(object) };
    }
    most
}

pub(crate) fn leaked_counter() -> &'static AtomicUsize {
    Box::leak(Box::default())
}
