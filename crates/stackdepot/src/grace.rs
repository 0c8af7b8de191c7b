//! Grace periods: when may the place of an evicted record be used again?

use percpu::tls::{self, Key};
use reclaim::rcu;

/// What a depot needs to know about its readers.
///
/// A lookup that counts references runs inside [`enter`](Self::enter) (one for a persistent stack needs no section); an evicted record is stamped with [`now`](Self::now) after it was unlinked, and its place is used again when
/// [`elapsed`](Self::elapsed) says that every section that was open at the stamp has ended. An implementation that says so too early makes a depot
/// hand out the wrong stack; it cannot make it touch memory that it does not own.
///
/// # Context
/// All functions are called from wherever the depot is: they must be signal-safe, must not allocate and must not block.
pub trait GracePeriod: Send + Sync {
    /// Whether records may be evicted at all.
    const EVICTS: bool;
    /// An open section; dropping it closes it.
    type Section<'a>
    where
        Self: 'a;

    /// Opens a read-side section. Sections nest. None: there is no memory to keep track of one more thread.
    fn enter(&self) -> Option<Self::Section<'_>>;

    /// A stamp that has elapsed when all sections open now have ended. Orders everything before it like a full fence.
    fn now(&self) -> u64;

    /// Whether a stamp has elapsed; true orders everything after it behind those sections. Starts a grace period if nobody else did, never waits for one.
    fn elapsed(&self, stamp: u64) -> bool;
}

/// No eviction: a saved stack stays for ever, references are not counted, lookups need no section.
#[derive(Clone, Copy, Debug, Default)]
pub struct NoEviction;

impl GracePeriod for NoEviction {
    const EVICTS: bool = false;
    type Section<'a> = ();

    #[inline(always)]
    fn enter(&self) -> Option<Self::Section<'_>> {
        Some(())
    }

    fn now(&self) -> u64 {
        0
    }

    fn elapsed(&self, _stamp: u64) -> bool {
        false
    }
}

/// Eviction by the polled grace periods of [`reclaim::rcu`]'s global domain: the default.
///
/// A save with GET pays one read-side section, about a nanosecond; a hit on a persistent stack without GET pays nothing. A thread's first section may map a page for the thread's record.
#[derive(Clone, Copy, Debug, Default)]
pub struct Rcu;

impl GracePeriod for Rcu {
    const EVICTS: bool = true;
    type Section<'a> = rcu::Guard<'static>;

    #[inline(always)]
    fn enter(&self) -> Option<Self::Section<'_>> {
        // `read_lock` panics where a new thread gets no record; a save may not.
        if tls::get(Key::Rcu).is_null() && rcu::register_thread().is_err() {
            return None;
        }
        Some(rcu::read_lock())
    }

    fn now(&self) -> u64 {
        rcu::get_state().to_bits()
    }

    fn elapsed(&self, stamp: u64) -> bool {
        rcu::poll(rcu::Cookie::from_bits(stamp))
    }
}
