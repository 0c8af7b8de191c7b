//! System calls with more to them than the call: what an answer means, and what follows from it.

pub(crate) mod membarrier;
pub(crate) mod possible_cpus;
