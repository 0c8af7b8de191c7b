//! x86-64: initial-exec thread-local storage and restartable sequences.

pub(crate) mod area;
pub(crate) mod sequence;
pub(crate) mod tls;
