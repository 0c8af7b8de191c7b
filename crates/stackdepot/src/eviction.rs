//! Whether a depot forgets stacks that nobody holds any more.

/// What becomes of a stack whose last reference was put: [`Evict`] or [`NoEviction`].
pub trait Eviction: sealed::Sealed + Send + Sync + 'static {
    /// Whether references are counted and records evicted.
    const EVICTS: bool;
}

/// A stack that was saved with [`Flags::GET`](crate::Flags::GET) goes with its last reference: the
/// default.
#[derive(Clone, Copy, Debug, Default)]
pub struct Evict;

/// A saved stack stays for ever, and references are not counted.
#[derive(Clone, Copy, Debug, Default)]
pub struct NoEviction;

impl Eviction for Evict {
    const EVICTS: bool = true;
}

impl Eviction for NoEviction {
    const EVICTS: bool = false;
}

mod sealed {
    pub trait Sealed {}

    impl Sealed for super::Evict {}
    impl Sealed for super::NoEviction {}
}
