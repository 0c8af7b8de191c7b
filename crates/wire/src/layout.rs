//! Where everything lies. Offsets in bytes; all fields are native-endian, for both sides run on one
//! machine.
//!
//! A segment has two parts. The *tables* say what to probe: the command line writes them, targets
//! map them read-only. The *counters* are written by everybody. They are two files, or one after
//! the other in one file that the user named ([`head::COUNTERS_AT`]).
//!
//! Files are sparse, and room in them costs nothing: capacities are generous, and what is not used
//! has neither memory nor (in targets) addresses.
//!
//! | tables | at | what |
//! |---|---|---|
//! | header | 0 | [`head`]: magic, version, the shape, lengths of the tables, the control word |
//! | meta | `META_AT` | a text of the command line's: what the recording is of |
//! | objects | `OBJECTS_AT` | [`OBJECT_BYTES`] each |
//! | functions | behind | [`FUNCTION_BYTES`] each |
//! | plans | page-aligned | for each object bytes of the command line's: how its functions are probed |
//!
//! | counters | at | what |
//! |---|---|---|
//! | head | 0 | [`count`]: losses and control words, on lines of their own |
//! | processes | behind | [`PROCESS_BYTES`] each, written by agents |
//! | requests | behind | [`REQUEST_BYTES`] each, by agents, answered by the command line |
//! | reasons | behind | [`REASON_BYTES`] each, texts that outcomes refer to, by agents |
//! | modules | behind | [`MODULE_BYTES`] each, by agents; only where stacks are recorded |
//! | directory | behind | [`ENTRY_BYTES`] for each block: whose it is; see `block` |
//! | outcomes | page-aligned | [`OUTCOME_BYTES`] for each function: what became of it, by agents |
//! | depot | page-aligned | the distinct stacks; `stackdepot`'s |
//! | counts | page-aligned | how often each was met; see `stacks` |
//! | blocks | page-aligned | `block_bytes` each: the cells of one thread |

use crate::cell;
use crate::error::Error;

/// Version of this layout. Any change of a field's place or meaning raises it.
pub const VERSION: u32 = 7;
pub(crate) const MAGIC: u64 = u64::from_le_bytes(*b"TRAPLINE");
pub(crate) const PAGE: usize = 4096;
pub(crate) const HEADER_BYTES: usize = PAGE;
pub(crate) const OBJECT_BYTES: usize = 1024;
pub(crate) const FUNCTION_BYTES: usize = 64;
pub(crate) const PROCESS_BYTES: usize = 256;
pub(crate) const REQUEST_BYTES: usize = OBJECT_BYTES + 64;
pub(crate) const REASON_BYTES: usize = 256;
pub(crate) const MODULE_BYTES: usize = OBJECT_BYTES + 64;
pub(crate) const ENTRY_BYTES: usize = 64;
pub(crate) const OUTCOME_BYTES: usize = 8;
/// Where a module's entry has its state.
pub(crate) const MODULE_STATE: usize = OBJECT_BYTES;

/// Fixed capacities.
pub(crate) const PROCESSES: usize = 4096;
pub(crate) const REQUESTS: usize = 64;
pub(crate) const REASONS: usize = 1024;
pub(crate) const MODULES: usize = 2048;
/// Bytes of text.
pub(crate) const META: usize = 64 << 10;
/// Losses by reason; see [`crate::Loss`].
pub(crate) const LOSSES: usize = 16;

pub(crate) const META_AT: usize = HEADER_BYTES;
pub(crate) const OBJECTS_AT: usize = META_AT + META;

/// Room for plans, for each function that there can be: few take more, on average.
const PLAN_BYTES: usize = 64;

/// No more than this can be asked for.
pub(crate) const FUNCTIONS_LIMIT: usize = 1 << 20;
const OBJECTS_LIMIT: usize = 1 << 14;
const BLOCKS_LIMIT: usize = 1 << 16;
/// Cells are addressed by 31 bits in the stubs.
const BLOCK_BYTES_LIMIT: usize = 1 << 30;
const TOTAL_LIMIT: usize = 1 << 44;
/// Of the depot, and of the counters: indices of cells have 32 bits.
const PART_LIMIT: usize = 1 << 34;

/// Fields of the tables' header, written by the command line.
pub(crate) mod head {
    pub(crate) const MAGIC: usize = 0;
    pub(crate) const VERSION: usize = 8;
    pub(crate) const OBJECTS: usize = 16;
    pub(crate) const FUNCTIONS: usize = 24;
    pub(crate) const BLOCKS: usize = 32;
    pub(crate) const BLOCK_BYTES: usize = 40;
    pub(crate) const BUDGET: usize = 48;
    pub(crate) const PER_THREAD: usize = 56;
    pub(crate) const TABLES: usize = 64;
    pub(crate) const COUNTERS: usize = 72;
    /// Where the counters begin if they are in the same file, else 0.
    pub(crate) const COUNTERS_AT: usize = 80;
    pub(crate) const DEPOT_BYTES: usize = 88;
    pub(crate) const COUNTS_BYTES: usize = 96;
    pub(crate) const STACKS: usize = 104;
    pub(crate) const SCARCE: usize = 112;
    /// These grow.
    pub(crate) const OBJECTS_LEN: usize = 256;
    pub(crate) const FUNCTIONS_LEN: usize = 264;
    pub(crate) const CELLS_END: usize = 272;
    pub(crate) const OBJECTS_AT_START: usize = 280;
    pub(crate) const PLANS_LEN: usize = 288;
    /// 0 run, 1 stop.
    pub(crate) const CONTROL: usize = 320;
    /// Pid of the command line.
    pub(crate) const OWNER: usize = 328;
    /// Questions of agents that the command line is at work on.
    pub(crate) const ANSWERING: usize = 336;
    /// The pid namespace that the command line's pid is in, as [`crate::Owner`] has it.
    pub(crate) const SPACE: usize = 344;
}

/// Fields of the counters' first page.
pub(crate) mod count {
    /// Futex word that agents ring when they post a request.
    pub(crate) const BELL: usize = 0;
    /// Added to by agents.
    pub(crate) const AGENT_BYTES: usize = 64;
    pub(crate) const PROCESSES_LEN: usize = 72;
    pub(crate) const COUNTS_NEXT: usize = 80;
    pub(crate) const FIRST_SIGHTS: usize = 88;
    /// Blocks that were ever taken.
    pub(crate) const BLOCKS_LEN: usize = 128;
    /// Where the next look for a free block begins.
    pub(crate) const CURSOR: usize = 136;
    /// The block that was given back last, plus 1.
    pub(crate) const RETURNED: usize = 144;
    /// Memory that blocks and tables of stacks were given so far.
    pub(crate) const CHARGED: usize = 152;
    /// Memory that the segment really has, as the command line saw it last.
    pub(crate) const MEASURED: usize = 160;
    /// The depot's bytes that are paid for: as far as any process has it mapped.
    pub(crate) const DEPOT_REACHED: usize = 168;
    /// Not 0: somebody has waited for an answer in vain.
    pub(crate) const SILENT: usize = 176;
    /// Calls that returned though they were taken for left.
    pub(crate) const OVERLAPS: usize = 184;
    pub(crate) const LOST: usize = 256;
    pub(crate) const NO_STACK: usize = 384;
    /// Bytes of the log.
    pub(crate) const LOG_LEN: usize = 512;
    /// The log itself.
    pub(crate) const LOG: usize = 1024;
    pub(crate) const LOG_ROOM: usize = 15 << 10;
    pub(crate) const BYTES: usize = LOG + LOG_ROOM;
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
    /// Most bytes for the cells of one thread.
    pub cell_bytes: usize,
    /// Bytes that the segment and an agent may use together (`--max-memory`).
    pub budget: u64,
    /// Keep the counts of ended threads apart as long as there are unused blocks.
    pub per_thread: bool,
    /// The file's pages may run out (`/dev/shm`, a disk): a block gets all its pages before it is
    /// used. Without this, large blocks get theirs as they are touched.
    pub scarce: bool,
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
        let bit = |set: bool, n: u32| u64::from(set) << n;
        u64::from(self.depth)
            | bit(self.frame_pointers, 8)
            | bit(self.timed, 9)
            | bit(self.evict, 10)
    }

    pub(crate) fn from_words(word: u64, depot_bytes: usize, counts_bytes: usize) -> Option<Self> {
        let bit = |n: u32| word >> n & 1 == 1;
        let depth = word as u8;
        let (frame_pointers, timed, evict) = (bit(8), bit(9), bit(10));
        (depth != 0).then_some(Self {
            depot_bytes,
            counts_bytes,
            depth,
            frame_pointers,
            timed,
            evict,
        })
    }
}

/// The validated places of the parts, kept privately: what the other side writes into the header
/// later changes nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Layout {
    pub(crate) shape: Shape,
    /// In the tables.
    pub(crate) functions: usize,
    pub(crate) plans: usize,
    pub(crate) plans_bytes: usize,
    pub(crate) tables_bytes: usize,
    /// In the counters.
    pub(crate) processes: usize,
    pub(crate) requests: usize,
    pub(crate) reasons: usize,
    pub(crate) modules: usize,
    pub(crate) directory: usize,
    pub(crate) outcomes: usize,
    pub(crate) depot: usize,
    pub(crate) counts: usize,
    pub(crate) blocks: usize,
    pub(crate) block_bytes: usize,
    pub(crate) counters_bytes: usize,
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
        let functions = OBJECTS_AT + shape.objects * OBJECT_BYTES;
        let plans = (functions + shape.functions * FUNCTION_BYTES).next_multiple_of(PAGE);
        let plans_bytes = (shape.functions * PLAN_BYTES).next_multiple_of(PAGE);
        let tables_bytes = plans + plans_bytes;
        let processes = count::BYTES;
        let requests = processes + PROCESSES * PROCESS_BYTES;
        let reasons = requests + REQUESTS * REQUEST_BYTES;
        let modules = reasons + REASONS * REASON_BYTES;
        let (depot_bytes, counts_bytes, modules_bytes) = match shape.stacks {
            None => (0, 0, 0),
            Some(stacks) => {
                let sizes = [stacks.depot_bytes, stacks.counts_bytes];
                let bad =
                    |size: usize| size == 0 || size > PART_LIMIT || !size.is_multiple_of(PAGE);
                if sizes.into_iter().any(bad) || stacks.depth == u8::MAX {
                    return Err(Error::TooLarge("stacks"));
                }
                (stacks.depot_bytes, stacks.counts_bytes, MODULES * MODULE_BYTES)
            }
        };
        let directory = (modules + modules_bytes).next_multiple_of(ENTRY_BYTES);
        let outcomes = (directory + shape.blocks * ENTRY_BYTES).next_multiple_of(PAGE);
        let depot = (outcomes + shape.functions * OUTCOME_BYTES).next_multiple_of(PAGE);
        let counts = depot + depot_bytes;
        let blocks = counts + counts_bytes;
        let block_bytes = shape.cell_bytes.next_multiple_of(PAGE);
        let counters_bytes = blocks + shape.blocks * block_bytes;
        if tables_bytes + counters_bytes > TOTAL_LIMIT {
            return Err(Error::TooLarge("segment"));
        }
        Ok(Self {
            shape,
            functions,
            plans,
            plans_bytes,
            tables_bytes,
            processes,
            requests,
            reasons,
            modules,
            directory,
            outcomes,
            depot,
            counts,
            blocks,
            block_bytes,
            counters_bytes,
        })
    }

    pub(crate) fn object(&self, index: usize) -> Option<usize> {
        (index < self.shape.objects).then(|| OBJECTS_AT + index * OBJECT_BYTES)
    }

    pub(crate) fn function(&self, index: usize) -> Option<usize> {
        (index < self.shape.functions).then(|| self.functions + index * FUNCTION_BYTES)
    }

    /// In the part of the outcomes.
    pub(crate) fn outcome(&self, index: usize) -> Option<usize> {
        (index < self.shape.functions).then(|| index * OUTCOME_BYTES)
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

    /// A block's entry in the directory.
    pub(crate) fn entry(&self, index: usize) -> Option<usize> {
        (index < self.shape.blocks).then(|| self.directory + index * ENTRY_BYTES)
    }
}

const _: () = assert!(cell::COUNT_BYTES.is_multiple_of(64), "cells start on cache lines");
const _: () = assert!(count::LOST + LOSSES * 8 <= count::NO_STACK);
const _: () = assert!(count::NO_STACK + 64 <= count::LOG_LEN);
