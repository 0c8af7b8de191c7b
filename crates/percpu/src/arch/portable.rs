//! Any processor: thread-local slots from the standard library or pthread keys, and no restartable sequences.

pub(crate) mod area;
pub(crate) mod sequence;
pub(crate) mod tls;
