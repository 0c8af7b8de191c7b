//! What the engine holds.

use crate::instance::{CHUNK, CHUNKS, PER_CHUNK};
use crate::process;

/// Memory and places for pending returns in use.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Statistics {
    /// Chunks that threads hold (a thread keeps its chunks to its end), or that wait for a return
    /// on a thread that is gone.
    pub chunks: usize,
    /// Chunks that were ever held: more than were held at once, for a CPU takes a fresh one before
    /// it takes back what another CPU has.
    pub most_chunks: usize,
    /// Calls that can be pending in those.
    pub places: usize,
    /// Calls that can be pending at once in the whole process.
    pub limit: usize,
    /// Bytes of records that were ever in use.
    pub bytes: usize,
}

/// What the engine holds now; all zero before it was started.
pub fn statistics() -> Statistics {
    process::global().map_or_else(Statistics::default, |global| {
        let pool = global.pool.statistics();
        let most = pool.high_water;
        Statistics {
            chunks: pool.in_use,
            most_chunks: most,
            places: pool.in_use * PER_CHUNK,
            limit: CHUNKS * PER_CHUNK,
            bytes: most * CHUNK,
        }
    })
}
