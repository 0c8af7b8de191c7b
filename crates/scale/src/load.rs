//! What a scheme is run with.

use coresim::Picoseconds;

/// How much a machine has to do.
#[derive(Clone, Copy, Debug)]
pub struct Load {
    /// Threads, on CPUs of their own while there are some.
    pub threads: usize,
    /// What a thread does with an object before it gives it back.
    pub work: Picoseconds,
}
