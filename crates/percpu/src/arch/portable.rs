//! Any processor: thread-local storage of the standard library, no restartable sequences.

pub(crate) mod area;
pub(crate) mod sequence;
#[cfg(any(feature = "std", loom))]
pub(crate) mod tls;
#[cfg(not(any(feature = "std", loom)))]
pub(crate) mod words;
