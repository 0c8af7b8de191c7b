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
//! | modules | behind | [`MODULE_BYTES`] each, written by agents; only where stacks are recorded |
//! | meta | behind | a text of the command line's: what the recording is of |
//! | depot | behind, page-aligned | the distinct stacks; `stackdepot`'s |
//! | counts | behind, page-aligned | how often each was met; see `stacks` |
//! | blocks | behind, page-aligned | `block_bytes` each: a header of [`BLOCK_HEADER`] bytes and the cells of one thread |

use crate::cell;
use crate::error::Error;

/// Version of this layout. Any change of a field's place or meaning raises it.
pub const VERSION: u32 = 2;
pub(crate) const MAGIC: u64 = u64::from_le_bytes(*b"TRAPLINE");
pub(crate) const PAGE: usize = 4096;
pub(crate) const HEADER_BYTES: usize = PAGE;
pub(crate) const OBJECT_BYTES: usize = 1024;
pub(crate) const FUNCTION_BYTES: usize = 64;
pub(crate) const PROCESS_BYTES: usize = 256;
pub(crate) const REQUEST_BYTES: usize = OBJECT_BYTES + 64;
pub(crate) const REASON_BYTES: usize = 256;
pub(crate) const MODULE_BYTES: usize = OBJECT_BYTES + 64;
/// Where a module's entry has its state.
pub(crate) const MODULE_STATE: usize = OBJECT_BYTES;
/// Where a block's header has its newest table of stacks.
pub(crate) const BLOCK_TABLE: usize = 64;
/// Bytes in front of a block's first cell.
pub(crate) const BLOCK_HEADER: usize = 256;

/// Fixed capacities.
pub(crate) const PROCESSES: usize = 4096;
pub(crate) const REQUESTS: usize = 64;
pub(crate) const REASONS: usize = 1024;
pub(crate) const MODULES: usize = 4096;
/// Bytes of text.
pub(crate) const META: usize = 64 << 10;
/// Losses by reason; see [`crate::Loss`].
pub(crate) const LOSSES: usize = 16;

/// No more than this can be asked for.
const FUNCTIONS_LIMIT: usize = 1 << 20;
const OBJECTS_LIMIT: usize = 1 << 14;
const BLOCKS_LIMIT: usize = 1 << 16;
/// Cells are addressed by 31 bits in the stubs.
const BLOCK_BYTES_LIMIT: usize = 1 << 30;
const TOTAL_LIMIT: usize = 1 << 44;
/// Of the depot, and of the counters: indices of cells have 32 bits.
const PART_LIMIT: usize = 1 << 34;

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
    pub(crate) const DEPOT_BYTES: usize = 72;
    pub(crate) const COUNTS_BYTES: usize = 80;
    pub(crate) const STACKS: usize = 88;
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
    pub(crate) const COUNTS_NEXT: usize = 472;
    pub(crate) const FIRST_SIGHTS: usize = 480;
    pub(crate) const LOST: usize = 512;
    pub(crate) const NO_STACK: usize = 640;
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
    /// Record call stacks.
    pub stacks: Option<Stacks>,
}

/// How call stacks are recorded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stacks {
    /// Bytes for distinct stacks, a multiple of 4096.
    pub depot_bytes: usize,
    /// Bytes for their counters, a multiple of 4096.
    pub counts_bytes: usize,
    /// Most frames of a stack: 1 to 254.
    pub depth: u8,
    /// By the chain of frame pointers first.
    pub frame_pointers: bool,
    /// The time of each call is added up by stack, too.
    pub timed: bool,
    /// When there is no room, old stacks give way to new ones.
    pub evict: bool,
}

impl Stacks {
    /// As the header has it.
    pub(crate) fn word(self) -> u64 {
        u64::from(self.depth) | u64::from(self.frame_pointers) << 8 | u64::from(self.timed) << 9 | u64::from(self.evict) << 10
    }

    pub(crate) fn from_words(word: u64, depot_bytes: usize, counts_bytes: usize) -> Option<Self> {
        let bit = |n: u32| word >> n & 1 == 1;
        let depth = word as u8;
        (depth != 0).then(|| Self { depot_bytes, counts_bytes, depth, frame_pointers: bit(8), timed: bit(9), evict: bit(10) })
    }
}

/// The validated places of the parts, kept privately: what the other side writes into the header later changes nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Layout {
    pub(crate) shape: Shape,
    pub(crate) functions: usize,
    pub(crate) processes: usize,
    pub(crate) requests: usize,
    pub(crate) reasons: usize,
    pub(crate) modules: usize,
    pub(crate) meta: usize,
    pub(crate) depot: usize,
    pub(crate) counts: usize,
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
        let modules = reasons + REASONS * REASON_BYTES;
        let (depot_bytes, counts_bytes, modules_bytes) = match shape.stacks {
            None => (0, 0, 0),
            Some(stacks) => {
                let sizes = [stacks.depot_bytes, stacks.counts_bytes];
                if sizes.into_iter().any(|size| size == 0 || size > PART_LIMIT || !size.is_multiple_of(PAGE)) || stacks.depth == u8::MAX {
                    return Err(Error::TooLarge("stacks"));
                }
                (stacks.depot_bytes, stacks.counts_bytes, MODULES * MODULE_BYTES)
            }
        };
        let meta = modules + modules_bytes;
        let depot = (meta + META).next_multiple_of(PAGE);
        let counts = depot + depot_bytes;
        let blocks = counts + counts_bytes;
        let block_bytes = (BLOCK_HEADER + shape.cell_bytes).next_multiple_of(PAGE);
        let total = blocks + shape.blocks * block_bytes;
        if total > TOTAL_LIMIT {
            return Err(Error::TooLarge("segment"));
        }
        Ok(Self { shape, functions, processes, requests, reasons, modules, meta, depot, counts, blocks, block_bytes, total })
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

    pub(crate) fn module(&self, index: usize) -> Option<usize> {
        (index < MODULES).then(|| self.modules + index * MODULE_BYTES)
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
const _: () =
    assert!(head::LOST + LOSSES * 8 <= head::NO_STACK && head::NO_STACK + 64 <= head::LOG_PATH, "the losses end before the log's path");
