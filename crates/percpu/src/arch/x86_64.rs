//! x86-64: initial-exec thread-local storage and restartable sequences.

pub(crate) mod area;
mod rseq_abi;
pub(crate) mod sequence;
#[cfg(feature = "std")]
pub(crate) mod tls;
#[cfg(not(feature = "std"))]
pub(crate) mod words;
