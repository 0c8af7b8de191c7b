//! Where everything lies. Offsets in bytes; all fields are native-endian, for both sides run on one machine.
//!
//! | part | at | what |
//! |---|---|---|
//! | header | 0 | [`head`]: magic, version, the shape, then counters and control words on lines of their own |
//! | objects | `HEADER_BYTES` | [`OBJECT_BYTES`] each, written by the command line |
//! | functions | behind | [`FUNCTION_BYTES`] each, written by the command line, states by agents |
//! | processes | behind | [`PROCESS_BYTES`] each, written by agents |
//! | requests | behind | [`REQUEST_BYTES`] each, written by agents, answered by the command line |
//! | reasons | behind | [`REASON_BYTES`] each, texts that functions refer to, written by agents |
//! | blocks | behind, page-aligned | `block_bytes` each: a header of [`BLOCK_HEADER`] bytes and the cells of one thread |

use crate::cell;
use crate::error::Error;

/// Version of this layout. Any change of a field's place or meaning raises it.
pub const VERSION: u32 = 1;
pub(crate) const MAGIC: u64 = u64::from_le_bytes(*b"TRAPLINE");
pub(crate) const PAGE: usize = 4096;
pub(crate) const HEADER_BYTES: usize = PAGE;
pub(crate) const OBJECT_BYTES: usize = 1024;
pub(crate) const FUNCTION_BYTES: usize = 64;
pub(crate) const PROCESS_BYTES: usize = 256;
pub(crate) const REQUEST_BYTES: usize = OBJECT_BYTES + 64;
pub(crate) const REASON_BYTES: usize = 256;
/// Bytes in front of a block's first cell.
pub(crate) const BLOCK_HEADER: usize = 256;

/// Fixed capacities.
pub(crate) const PROCESSES: usize = 4096;
pub(crate) const REQUESTS: usize = 64;
pub(crate) const REASONS: usize = 1024;
/// Losses by reason; see [`crate::Loss`].
pub(crate) const LOSSES: usize = 16;

/// No more than this can be asked for.
const FUNCTIONS_LIMIT: usize = 1 << 20;
const OBJECTS_LIMIT: usize = 1 << 14;
const BLOCKS_LIMIT: usize = 1 << 16;
/// Cells are addressed by 31 bits in the stubs.
const BLOCK_BYTES_LIMIT: usize = 1 << 30;
const TOTAL_LIMIT: usize = 1 << 44;

/// Fields of the header.
pub(crate) mod head {
    pub(crate) const MAGIC: usize = 0;
    pub(crate) const VERSION: usize = 8;
    pub(crate) const OBJECTS: usize = 16;
    pub(crate) const FUNCTIONS: usize = 24;
    pub(crate) const BLOCKS: usize = 32;
    pub(crate) const BLOCK_BYTES: usize = 40;
    pub(crate) const BUDGET: usize = 48;
    pub(crate) const PER_THREAD: usize = 56;
    pub(crate) const TOTAL: usize = 64;
    /// Written by the command line as tables grow.
    pub(crate) const OBJECTS_LEN: usize = 256;
    pub(crate) const FUNCTIONS_LEN: usize = 264;
    pub(crate) const CELLS_END: usize = 272;
    /// Written by the command line: 0 run, 1 stop.
    pub(crate) const CONTROL: usize = 320;
    /// Futex word that agents ring when they post a request.
    pub(crate) const BELL: usize = 384;
    /// Pid of the command line.
    pub(crate) const OWNER: usize = 392;
    /// Added to by agents.
    pub(crate) const AGENT_BYTES: usize = 448;
    pub(crate) const PROCESSES_LEN: usize = 456;
    pub(crate) const BLOCKS_LEN: usize = 464;
    pub(crate) const LOST: usize = 512;
    pub(crate) const LOG_PATH: usize = 1024;
    pub(crate) const LOG_PATH_ROOM: usize = 512;
}

/// What a segment has room for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Shape {
    /// Programs and libraries.
    pub objects: usize,
    /// Functions.
    pub functions: usize,
    /// Threads that can count at the same time (of all processes together).
    pub blocks: usize,
    /// Bytes for the cells of one thread.
    pub cell_bytes: usize,
    /// Bytes that the agents may use (`--max-memory`).
    pub budget: u64,
    /// Keep the counts of ended threads apart as long as there are unused blocks.
    pub per_thread: bool,
}

/// The validated places of the parts, kept privately: what the other side writes into the header later changes nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Layout {
    pub(crate) shape: Shape,
    pub(crate) functions: usize,
    pub(crate) processes: usize,
    pub(crate) requests: usize,
    pub(crate) reasons: usize,
    pub(crate) blocks: usize,
    pub(crate) block_bytes: usize,
    pub(crate) total: usize,
}

impl Layout {
    pub(crate) fn new(shape: Shape) -> Result<Self, Error> {
        let limits = [
            (shape.objects, OBJECTS_LIMIT, "objects"),
            (shape.functions, FUNCTIONS_LIMIT, "functions"),
            (shape.blocks, BLOCKS_LIMIT, "blocks"),
            (shape.cell_bytes, BLOCK_BYTES_LIMIT, "cells of a thread"),
        ];
        for (asked, limit, what) in limits {
            if asked > limit || asked == 0 {
                return Err(Error::TooLarge(what));
            }
        }
        let functions = HEADER_BYTES + shape.objects * OBJECT_BYTES;
        let processes = functions + shape.functions * FUNCTION_BYTES;
        let requests = processes + PROCESSES * PROCESS_BYTES;
        let reasons = requests + REQUESTS * REQUEST_BYTES;
        let blocks = (reasons + REASONS * REASON_BYTES).next_multiple_of(PAGE);
        let block_bytes = (BLOCK_HEADER + shape.cell_bytes).next_multiple_of(PAGE);
        let total = blocks + shape.blocks * block_bytes;
        if total > TOTAL_LIMIT {
            return Err(Error::TooLarge("segment"));
        }
        Ok(Self { shape, functions, processes, requests, reasons, blocks, block_bytes, total })
    }

    pub(crate) fn object(&self, index: usize) -> Option<usize> {
        (index < self.shape.objects).then(|| HEADER_BYTES + index * OBJECT_BYTES)
    }

    pub(crate) fn function(&self, index: usize) -> Option<usize> {
        (index < self.shape.functions).then(|| self.functions + index * FUNCTION_BYTES)
    }

    pub(crate) fn process(&self, index: usize) -> Option<usize> {
        (index < PROCESSES).then(|| self.processes + index * PROCESS_BYTES)
    }

    pub(crate) fn request(&self, index: usize) -> Option<usize> {
        (index < REQUESTS).then(|| self.requests + index * REQUEST_BYTES)
    }

    pub(crate) fn reason(&self, index: usize) -> Option<usize> {
        (index < REASONS).then(|| self.reasons + index * REASON_BYTES)
    }

    pub(crate) fn block(&self, index: usize) -> Option<usize> {
        (index < self.shape.blocks).then(|| self.blocks + index * self.block_bytes)
    }

    /// Bytes of cells in a block.
    pub(crate) fn cells(&self) -> usize {
        self.block_bytes - BLOCK_HEADER
    }
}

const _: () = assert!(cell::COUNT_BYTES.is_multiple_of(64) && BLOCK_HEADER.is_multiple_of(64), "cells start on cache lines");
const _: () = assert!(head::LOST + LOSSES * 8 <= head::LOG_PATH, "the losses end before the log's path");
