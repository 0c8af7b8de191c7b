//! The segment as a whole: made, opened, and its header.

use crate::blocks::Blocks;
use crate::descriptor::Descriptor;
use crate::error::Error;
use crate::layout::{
    FUNCTION_BYTES, HEADER_BYTES, LOSSES, Layout, MAGIC, META, META_AT, OBJECT_BYTES, OBJECTS_AT,
    PAGE, Shape, Stacks, VERSION, count, head,
};
use crate::loss::Loss;
use crate::memory::{Access, Memory};
use crate::owner::{Owner, gone};
use crate::spaces::{Places, Spaces};
use alloc::vec;
use alloc::vec::Vec;
use core::ops::Range;
use core::sync::atomic::{AtomicBool, Ordering};
use sys::Errno;

/// What a line of the log says behind the process's number of a program that was executed without
/// the agent; its path and, in brackets, why come behind it.
pub const NOT_FOLLOWED: &str = "not followed: ";

/// A mapped segment.
///
/// # Context
/// Methods are wait-free loads and stores of mappings and may be called from any thread, unless
/// they say otherwise; those that return `Vec`s or `String`s allocate. A file that somebody
/// truncates while it is mapped kills the reader (SIGBUS): segments are memory files, or have mode
/// 0600.
#[derive(Debug)]
pub struct Segment {
    /// The tables up to the plans.
    pub(crate) tables: Memory,
    pub(crate) plans: Memory,
    /// The counters' first parts, up to the outcomes.
    pub(crate) fixed: Memory,
    pub(crate) outcomes: Memory,
    pub(crate) depot: Option<Memory>,
    pub(crate) counts: Option<Memory>,
    pub(crate) blocks: Blocks,
    /// Where the counters begin in their file.
    pub(crate) counters_at: u64,
    pub(crate) layout: Layout,
    /// Mappings stay as they are: [`Segment::seal`].
    pub(crate) sealed: AtomicBool,
}

/// The files of a segment, open for reading; for writing, too, unless only what they say is wanted.
#[derive(Clone, Copy, Debug)]
pub struct Files<'a> {
    /// What to probe.
    pub tables: Descriptor<'a>,
    /// What was counted.
    pub counters: Descriptor<'a>,
    /// The counters come behind the tables, or behind room for a copy of them. Only for making a
    /// segment: the tables say where the counters are.
    pub behind: bool,
}

impl<'a> Files<'a> {
    /// One file with both.
    pub fn one(file: impl Into<Descriptor<'a>>) -> Self {
        let file = file.into();
        Self { tables: file, counters: file, behind: true }
    }
}

/// How much of the parts is mapped at first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Extent {
    /// Everything: the command line, and tests in one process.
    All,
    /// What is used: targets. The depot is at an address with room behind it.
    Used { depot: usize },
}

impl Segment {
    /// Bytes of the larger file, or of the one.
    ///
    /// # Errors
    /// A shape beyond the limits.
    pub fn bytes_of(shape: Shape) -> Result<u64, Error> {
        let layout = Layout::new(shape)?;
        Ok((layout.tables_bytes + layout.counters_bytes) as u64)
    }

    /// Turns empty files into a segment, without mapping its blocks. The files are sparse: what
    /// nobody touches takes no memory.
    ///
    /// # Errors
    /// A shape beyond the limits, and whatever the system says.
    pub fn create_in(files: Files<'_>, shape: Shape) -> Result<Self, Error> {
        let layout = Layout::new(shape)?;
        let at = if files.behind { layout.tables_bytes as u64 } else { 0 };
        let size = |file: Descriptor<'_>, bytes| {
            file.resize(bytes).map_err(|why| Error::System("cannot size the segment", why))
        };
        // In this order: they may be one file.
        size(files.tables, layout.tables_bytes as u64)?;
        size(files.counters, at + layout.counters_bytes as u64)?;
        let this = Self::map(files, (layout, at), Access::Write, Extent::All, Blocks::Unmapped)?;
        if shape.scarce && !this.fill_parts() {
            return Err(Error::System("no room for the segment and its stacks", Errno::ENOSPC));
        }
        let tables = &this.tables;
        tables.store64(head::OBJECTS, shape.objects as u64);
        tables.store64(head::FUNCTIONS, shape.functions as u64);
        tables.store64(head::BLOCKS, shape.blocks as u64);
        tables.store64(head::BLOCK_BYTES, shape.cell_bytes as u64);
        tables.store64(head::BUDGET, shape.budget);
        tables.store64(head::PER_THREAD, u64::from(shape.per_thread));
        tables.store64(head::SCARCE, u64::from(shape.scarce));
        if let Some(stacks) = shape.stacks {
            tables.store64(head::DEPOT_BYTES, stacks.depot_bytes as u64);
            tables.store64(head::COUNTS_BYTES, stacks.counts_bytes as u64);
            tables.store64(head::STACKS, stacks.word());
        }
        tables.store64(head::TABLES, layout.tables_bytes as u64);
        tables.store64(head::COUNTERS, layout.counters_bytes as u64);
        tables.store64(head::COUNTERS_AT, at);
        let owner = Owner::current();
        tables.store32(head::OWNER, owner.pid);
        tables.store32(head::SPACE, owner.space);
        tables.store32(head::VERSION, VERSION);
        if let Some(magic) = tables.u64(head::MAGIC) {
            // Release pairs with the Acquire in `layout_of`: who sees the magic sees the shape.
            magic.store(MAGIC, Ordering::Release);
        }
        Ok(this)
    }

    /// [`Segment::create_in`] one file, with all blocks mapped: for whoever counts in this process.
    ///
    /// # Errors
    /// As there.
    pub fn create<'f>(file: impl Into<Descriptor<'f>>, shape: Shape) -> Result<Self, Error> {
        let file = file.into();
        Self::create_in(Files::one(file), shape)?.with_blocks(file)
    }

    /// Whether the header and the sizes of files are those of a segment.
    ///
    /// # Errors
    /// See [`Error`].
    pub fn check(files: Files<'_>) -> Result<(), Error> {
        layout_of(files).map(drop)
    }

    /// The segment in files that may be closed afterwards, without its blocks.
    ///
    /// # Errors
    /// See [`Error`]; nothing in the files is trusted.
    pub fn open(files: Files<'_>) -> Result<Self, Error> {
        let places = layout_of(files)?;
        Self::map(files, places, Access::Write, Extent::All, Blocks::Unmapped)
    }

    /// [`Segment::open`], where the file of the tables can only be read, as targets get it: what
    /// writes there does nothing.
    ///
    /// # Errors
    /// As there.
    pub fn look_at(files: Files<'_>) -> Result<Self, Error> {
        let places = layout_of(files)?;
        Self::map(files, places, Access::Read, Extent::All, Blocks::Unmapped)
    }

    /// [`Segment::open`] of one file, with all blocks mapped.
    ///
    /// # Errors
    /// As there.
    pub fn from_file<'f>(file: impl Into<Descriptor<'f>>) -> Result<Self, Error> {
        let file = file.into();
        Self::open(Files::one(file))?.with_blocks(file)
    }

    /// The segment in a process that counts: the tables can only be read, blocks are mapped as
    /// threads take them, where `region` says, which is told how much address space is best free
    /// there.
    ///
    /// # Errors
    /// As [`Segment::open`].
    pub fn attach(files: Files<'_>, region: impl FnOnce(usize) -> usize) -> Result<Self, Error> {
        Self::attach_in(files, Places::default(), region)
    }

    /// [`Segment::attach`] in a process that has counted in another segment before, whose blocks
    /// had these places.
    ///
    /// # Errors
    /// As there.
    pub fn attach_in(
        files: Files<'_>,
        places: Places,
        region: impl FnOnce(usize) -> usize,
    ) -> Result<Self, Error> {
        let (layout, at) = layout_of(files)?;
        // First the depot, which grows in its place as blocks do, then they.
        let depot_bytes = layout.shape.stacks.map_or(0, |stacks| stacks.depot_bytes);
        let bytes = depot_bytes + layout.shape.blocks * layout.block_bytes;
        let places = places.or(|| region(bytes));
        let extent = Extent::Used { depot: places.base() };
        let mut this = Self::map(files, (layout, at), Access::Read, extent, Blocks::Unmapped)?;
        let from = this.counters_at + layout.blocks as u64;
        // Never unmapped: all blocks come from it.
        let anchor = Memory::map(files.counters, from, PAGE, PAGE, Access::Write)?.stay();
        let (block_bytes, blocks) = (layout.block_bytes, layout.shape.blocks);
        let spaces = Spaces::new(anchor, places, depot_bytes, block_bytes, blocks);
        this.blocks = Blocks::Spaces(spaces);
        Ok(this)
    }

    /// Ends counting in this process: all blocks are taken out of it. Threads may still write to
    /// where they were, which harms nobody; [`Segment::attach_in`] uses the places again. Nothing
    /// else of the segment is to be used afterwards.
    ///
    /// # Context
    /// Allocates; a system call for each block. Signals are blocked.
    pub fn vacate(&self) -> Places {
        self.blocks.vacate()
    }

    /// Gives everything that anybody may touch its memory now, but for what grows: that gets it as
    /// it does. Where there is none left, whoever touched a page would be killed.
    fn fill_parts(&self) -> bool {
        let depot = |depot: &Memory| depot.populate(0, depot.bytes());
        self.tables.populate(0, OBJECTS_AT)
            && self.fixed.populate(0, self.layout.outcomes)
            && self.depot.as_ref().is_none_or(depot)
    }

    /// Gives an entry of a table of the command line's its memory. False: there is none.
    pub(crate) fn fill_entry(&self, memory: &Memory, at: usize, bytes: usize) -> bool {
        !self.layout.shape.scarce || memory.populate(at, bytes)
    }

    fn with_blocks(mut self, file: Descriptor<'_>) -> Result<Self, Error> {
        let bytes = self.layout.shape.blocks * self.layout.block_bytes;
        let from = self.counters_at + self.layout.blocks as u64;
        self.blocks = Blocks::whole(
            Memory::map(file, from, bytes, bytes, Blocks::ACCESS)?,
            self.layout.block_bytes,
        );
        Ok(self)
    }

    fn map(
        files: Files<'_>,
        (layout, counters_at): (Layout, u64),
        tables: Access,
        extent: Extent,
        blocks: Blocks,
    ) -> Result<Self, Error> {
        let part = |from: usize, first: usize, bytes: usize| {
            let first = if extent == Extent::All { bytes } else { first.min(bytes) };
            Memory::map(files.counters, counters_at + from as u64, first, bytes, Access::Write)
        };
        let depot = |bytes: usize| {
            let from = layout.depot;
            if let Extent::Used { depot } = extent {
                let at = counters_at + from as u64;
                let small =
                    Memory::map_near(Some(depot), files.counters, at, PAGE, bytes, Access::Write)?;
                if small.place() == depot {
                    return Ok(small);
                }
            }
            // Where it cannot grow it is mapped as a whole.
            part(from, bytes, bytes)
        };
        let all = extent == Extent::All;
        let some = if all { layout.plans } else { layout.functions + PAGE };
        let (plans, plans_bytes) = (layout.plans as u64, layout.plans_bytes);
        let first_plans = if all { plans_bytes } else { PAGE };
        let stacks = layout.shape.stacks;
        Ok(Self {
            tables: Memory::map(files.tables, 0, some, layout.plans, tables)?,
            plans: Memory::map(files.tables, plans, first_plans, plans_bytes, tables)?,
            fixed: part(0, layout.outcomes, layout.outcomes)?,
            outcomes: part(layout.outcomes, PAGE, layout.depot - layout.outcomes)?,
            depot: stacks.map(|stacks| depot(stacks.depot_bytes)).transpose()?,
            counts: stacks
                .map(|stacks| part(layout.counts, 16 * PAGE, stacks.counts_bytes))
                .transpose()?,
            blocks,
            counters_at,
            layout,
            sealed: AtomicBool::new(false),
        })
    }

    /// Where in the file of the tables something was written that is not in a copy of it which has
    /// the first so many functions. The lengths come last.
    pub fn tables_since(&self, functions: usize) -> [Range<u64>; 3] {
        let place = |at: usize| self.layout.functions + at * FUNCTION_BYTES;
        let objects = OBJECTS_AT + self.objects_len() * OBJECT_BYTES;
        let parts = [
            place(functions)..place(self.functions_len().max(functions)),
            META_AT..objects,
            0..HEADER_BYTES,
        ];
        parts.map(|part| part.start as u64..part.end as u64)
    }

    /// What there is room for.
    pub fn shape(&self) -> Shape {
        self.layout.shape
    }

    /// Process that made the segment.
    pub fn owner(&self) -> u32 {
        self.tables.load32(head::OWNER)
    }

    /// Whether the process that made it is there, as far as `space` tells, the pid namespace of the
    /// caller ([`Owner::space`]): in another one its number says nothing.
    ///
    /// # Context
    /// At most one system call.
    pub fn owner_lives(&self, space: u32) -> bool {
        space == 0 || self.tables.load32(head::SPACE) != space || !gone(self.owner())
    }

    /// Asks all agents to stop counting: functions that are not armed yet stay unarmed, and nobody
    /// reads what armed ones count from now on.
    pub fn stop(&self) {
        self.tables.store32(head::CONTROL, 1);
    }

    /// Whether [`Segment::stop`] was called.
    pub fn stopped(&self) -> bool {
        self.tables.load32(head::CONTROL) != 0
    }

    /// Counts a loss.
    pub fn lose(&self, loss: Loss, n: u64) {
        if let Some(w) = self.fixed.u64(count::LOST + (loss as usize % LOSSES) * 8) {
            // Relaxed: a counter.
            w.fetch_add(n, Ordering::Relaxed);
        }
    }

    /// How often something was lost for this reason.
    pub fn lost(&self, loss: Loss) -> u64 {
        self.fixed.load64(count::LOST + (loss as usize % LOSSES) * 8)
    }

    /// For an agent: a call that was taken for left has returned. It is counted, without a time.
    pub fn note_overlap(&self) {
        if let Some(w) = self.fixed.u64(count::OVERLAPS) {
            // Relaxed: a counter.
            w.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// How often that was. Not 0: the program copies stacks away and back.
    pub fn overlaps(&self) -> u64 {
        self.fixed.load64(count::OVERLAPS)
    }

    /// For an agent: the memory that it uses in its process, in bytes. The largest of all processes
    /// is kept: they come and go.
    pub fn note_agent_bytes(&self, bytes: u64) {
        if let Some(w) = self.fixed.u64(count::AGENT_BYTES) {
            // Relaxed: a maximum.
            w.fetch_max(bytes, Ordering::Relaxed);
        }
    }

    /// The most memory that an agent said it uses in one process beside the segment, in bytes.
    pub fn agent_bytes(&self) -> u64 {
        self.fixed.load64(count::AGENT_BYTES)
    }

    /// For an agent: adds a line to the log. What has no room is cut.
    ///
    /// # Context
    /// No system call, no allocation.
    pub fn log(&self, line: &[u8]) {
        let room = count::LOG_ROOM as u64;
        let Some(len) = self.fixed.u64(count::LOG_LEN) else { return };
        // Relaxed: the place is the caller's alone; readers may see a line in the making.
        let at = len.fetch_add(line.len() as u64 + 1, Ordering::Relaxed).min(room);
        let line = line.get(..line.len().min((room - at) as usize)).unwrap_or_default();
        let end = at as usize + line.len();
        self.fixed.put_bytes(count::LOG + at as usize, line.len(), line);
        if end < count::LOG_ROOM {
            self.fixed.put_bytes(count::LOG + end, 1, b"\n");
        }
    }

    /// What agents had to say, a line each. Allocates.
    pub fn log_text(&self) -> Vec<u8> {
        let len = self.fixed.load64(count::LOG_LEN).min(count::LOG_ROOM as u64) as usize;
        let mut text = vec![0; len];
        self.fixed.read_exact(count::LOG, &mut text);
        text
    }

    /// What the recording is of: a text that the command line keeps here for whoever finds the
    /// segment later. Allocates.
    pub fn meta(&self) -> Vec<u8> {
        self.tables.get_bytes(META_AT, META)
    }

    /// Keeps such a text. False: it is longer than 65,535 bytes, and is not kept.
    pub fn set_meta(&self, text: &[u8]) -> bool {
        let fits = text.len() < META;
        if fits {
            self.tables.put_bytes(META_AT, META, text);
        }
        fits
    }
}

/// The layout that the header of the tables describes, if it can be believed; and where in their
/// file the counters begin.
fn layout_of(files: Files<'_>) -> Result<(Layout, u64), Error> {
    let bytes = |file: Descriptor<'_>| {
        file.bytes().map_err(|why| Error::System("cannot measure the segment", why))
    };
    if bytes(files.tables)? < HEADER_BYTES as u64 {
        return Err(Error::NotASegment);
    }
    let header = Memory::map(files.tables, 0, HEADER_BYTES, HEADER_BYTES, Access::Read)?;
    // Acquire pairs with the Release in `create_in`.
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
        scarce: header.load64(head::SCARCE) != 0,
        stacks: Stacks::from_words(
            header.load64(head::STACKS),
            size(head::DEPOT_BYTES, "bytes for stacks")?,
            size(head::COUNTS_BYTES, "bytes for their counters")?,
        ),
    };
    let layout =
        Layout::new(shape).map_err(|_| Error::Corrupt("the shape is beyond the limits"))?;
    let at = header.load64(head::COUNTERS_AT);
    if at != layout.tables_bytes as u64 && (at != 0 || files.behind) {
        return Err(Error::Corrupt("the counters are elsewhere"));
    }
    let short = bytes(files.tables)? < layout.tables_bytes as u64
        || bytes(files.counters)? < at + layout.counters_bytes as u64
        || header.load64(head::TABLES) != layout.tables_bytes as u64
        || header.load64(head::COUNTERS) != layout.counters_bytes as u64;
    if short { Err(Error::Corrupt("a file is shorter than its parts")) } else { Ok((layout, at)) }
}
