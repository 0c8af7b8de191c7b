//! The segment as a whole: made, opened, and its header.

use crate::error::Error;
use crate::layout::{BLOCK_HEADER, HEADER_BYTES, LOSSES, Layout, MAGIC, META, Shape, Stacks, VERSION, head};
use crate::loss::Loss;
use crate::memory::Memory;
use std::fs::File;
use std::path::Path;
use std::sync::atomic::Ordering;

/// A mapped segment.
///
/// # Context
/// All methods are wait-free loads and stores of the mapping and may be called from any thread; those that return `Vec`s or `String`s allocate. A file that
/// somebody truncates while it is mapped kills the reader (SIGBUS): segments are made with mode 0600.
#[derive(Debug)]
pub struct Segment {
    pub(crate) memory: Memory,
    pub(crate) layout: Layout,
}

impl Segment {
    /// Turns the empty `file` (open for reading and writing) into a segment. The file is sparse: what nobody touches takes no memory.
    ///
    /// # Errors
    /// A shape beyond the limits, and whatever the system says.
    pub fn create(file: &File, shape: Shape) -> Result<Self, Error> {
        let layout = Layout::new(shape)?;
        file.set_len(layout.total as u64).map_err(|e| Error::Io("cannot size the segment", e))?;
        let memory = Memory::map(file, layout.total)?;
        memory.store64(head::OBJECTS, shape.objects as u64);
        memory.store64(head::FUNCTIONS, shape.functions as u64);
        memory.store64(head::BLOCKS, shape.blocks as u64);
        memory.store64(head::BLOCK_BYTES, shape.cell_bytes as u64);
        memory.store64(head::BUDGET, shape.budget);
        memory.store64(head::PER_THREAD, u64::from(shape.per_thread));
        if let Some(stacks) = shape.stacks {
            memory.store64(head::DEPOT_BYTES, stacks.depot_bytes as u64);
            memory.store64(head::COUNTS_BYTES, stacks.counts_bytes as u64);
            memory.store64(head::STACKS, stacks.word());
        }
        memory.store64(head::TOTAL, layout.total as u64);
        memory.store32(head::OWNER, std::process::id());
        memory.store32(head::VERSION, VERSION);
        if let Some(magic) = memory.u64(head::MAGIC) {
            // Release pairs with the Acquire in `from_file`: who sees the magic sees the shape.
            magic.store(MAGIC, Ordering::Release);
        }
        Ok(Self { memory, layout })
    }

    /// Opens the segment at `path` for reading and writing.
    ///
    /// # Errors
    /// See [`Error`]; nothing in the file is trusted.
    pub fn open(path: &Path) -> Result<Self, Error> {
        let file = File::options().read(true).write(true).open(path).map_err(|e| Error::Io("cannot open the segment", e))?;
        Self::from_file(&file)
    }

    /// The segment in an open file, which may be closed afterwards.
    ///
    /// # Errors
    /// As [`Segment::open`].
    pub fn from_file(file: &File) -> Result<Self, Error> {
        let bytes = file.metadata().map_err(|e| Error::Io("cannot measure the segment", e))?.len();
        let bytes = usize::try_from(bytes).map_err(|_| Error::TooLarge("file"))?;
        if bytes < HEADER_BYTES {
            return Err(Error::NotASegment);
        }
        let header = Memory::map(file, HEADER_BYTES)?;
        // Acquire pairs with the Release in `create`.
        if header.u64(head::MAGIC).is_none_or(|m| m.load(Ordering::Acquire) != MAGIC) {
            return Err(Error::NotASegment);
        }
        let found = header.load32(head::VERSION);
        if found != VERSION {
            return Err(Error::Version { found, wanted: VERSION });
        }
        let size = |at, what| usize::try_from(header.load64(at)).map_err(|_| Error::Corrupt(what));
        let shape = Shape {
            objects: size(head::OBJECTS, "number of objects")?,
            functions: size(head::FUNCTIONS, "number of functions")?,
            blocks: size(head::BLOCKS, "number of blocks")?,
            cell_bytes: size(head::BLOCK_BYTES, "size of a block")?,
            budget: header.load64(head::BUDGET),
            per_thread: header.load64(head::PER_THREAD) != 0,
            stacks: Stacks::from_words(
                header.load64(head::STACKS),
                size(head::DEPOT_BYTES, "bytes for stacks")?,
                size(head::COUNTS_BYTES, "bytes for their counters")?,
            ),
        };
        let layout = Layout::new(shape).map_err(|_| Error::Corrupt("the shape is beyond the limits"))?;
        if layout.total as u64 != header.load64(head::TOTAL) || layout.total > bytes {
            return Err(Error::Corrupt("the file is shorter than its parts"));
        }
        Ok(Self { memory: Memory::map(file, layout.total)?, layout })
    }

    /// What there is room for.
    pub fn shape(&self) -> Shape {
        self.layout.shape
    }

    /// Bytes of address space.
    pub fn bytes(&self) -> usize {
        self.memory.bytes()
    }

    /// Process that made the segment.
    pub fn owner(&self) -> u32 {
        self.memory.load32(head::OWNER)
    }

    /// Asks all agents to stop counting: functions that are not armed yet stay unarmed, and nobody reads what armed ones count from now on.
    pub fn stop(&self) {
        self.memory.store32(head::CONTROL, 1);
    }

    /// Whether [`Segment::stop`] was called.
    pub fn stopped(&self) -> bool {
        self.memory.load32(head::CONTROL) != 0
    }

    /// Counts a loss.
    pub fn lose(&self, loss: Loss, n: u64) {
        if let Some(w) = self.memory.u64(head::LOST + (loss as usize % LOSSES) * 8) {
            // Relaxed: a counter.
            w.fetch_add(n, Ordering::Relaxed);
        }
    }

    /// How often something was lost for this reason.
    pub fn lost(&self, loss: Loss) -> u64 {
        self.memory.load64(head::LOST + (loss as usize % LOSSES) * 8)
    }

    /// For an agent: the memory that it uses in its process, in bytes. The largest of all processes is kept: they come and go.
    pub fn note_agent_bytes(&self, bytes: u64) {
        if let Some(w) = self.memory.u64(head::AGENT_BYTES) {
            // Relaxed: a maximum.
            w.fetch_max(bytes, Ordering::Relaxed);
        }
    }

    /// The most memory that an agent said it uses in one process beside the segment, in bytes.
    pub fn agent_bytes(&self) -> u64 {
        self.memory.load64(head::AGENT_BYTES)
    }

    /// Where agents write their log; empty: nowhere.
    pub fn log_path(&self) -> Vec<u8> {
        self.memory.get_bytes(head::LOG_PATH, head::LOG_PATH_ROOM)
    }

    /// Says where agents write their log, up to 511 bytes.
    pub fn set_log_path(&self, path: &[u8]) {
        self.memory.put_bytes(head::LOG_PATH, head::LOG_PATH_ROOM, path.get(..head::LOG_PATH_ROOM - 1).unwrap_or(path));
    }

    /// What the recording is of: a text that the command line keeps here for whoever finds the segment later. Allocates.
    pub fn meta(&self) -> Vec<u8> {
        self.memory.get_bytes(self.layout.meta, META)
    }

    /// Keeps such a text. False: it is longer than 65,535 bytes, and is not kept.
    pub fn set_meta(&self, text: &[u8]) -> bool {
        let fits = text.len() < META;
        if fits {
            self.memory.put_bytes(self.layout.meta, META, text);
        }
        fits
    }

    /// Bytes in front of the first cell of a block.
    pub const fn block_header() -> usize {
        BLOCK_HEADER
    }
}
