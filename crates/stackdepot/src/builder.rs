//! Describing a depot before it is made.

use crate::depot::Depot;
use crate::error::Error;
use crate::eviction::{Evict, Eviction, NoEviction};
use crate::layout::{BUCKETS_LOG2_LIMIT, DEPTH_LIMIT, Shape, TOTAL_LIMIT, record_words};
use crate::memory::{Memory, Region, Sharing};
use crate::open::{Found, create_or_open};
use crate::writer::Writer;
use core::marker::PhantomData;

const DEFAULT_BUCKETS_LOG2: u32 = 12;
const DEFAULT_BUDGET: usize = 64 << 20;
const DEFAULT_DEPTH: usize = 64;
/// Pools of an own reservation that is backed by huge pages are huge pages.
const HUGE_POOL: usize = 2 << 20;

/// Settings of a [`Depot`]. Start with [`Depot::builder`].
///
/// # Examples
/// ```
/// use stackdepot::Depot;
///
/// let small = Depot::builder().expected_stacks(1000).budget_bytes(1 << 20).max_depth(32);
/// let small = small.build_mmap()?;
/// let keep_all = Depot::builder().no_eviction().build_mmap()?;
/// # Ok::<(), stackdepot::Error>(())
/// ```
#[derive(Clone, Debug)]
#[must_use]
pub struct Builder<E = Evict> {
    buckets_log2: u32,
    budget: usize,
    max_depth: usize,
    pool: Option<usize>,
    huge: bool,
    take_over: bool,
    after_exec: bool,
    eviction: PhantomData<E>,
}

impl Depot {
    /// Starts to describe a depot.
    pub fn builder() -> Builder {
        Builder::new()
    }
}

impl Builder {
    fn new() -> Self {
        Self {
            buckets_log2: DEFAULT_BUCKETS_LOG2,
            budget: DEFAULT_BUDGET,
            max_depth: DEFAULT_DEPTH,
            pool: None,
            huge: true,
            take_over: false,
            after_exec: false,
            eviction: PhantomData,
        }
    }
}

impl<E: Eviction> Builder<E> {
    /// 2 to this power buckets of 64 bytes, each for 12 stacks; 0 to 22, default 12. A table that
    /// is too small costs time (stacks go to overflow buckets), one that is too large memory.
    pub fn buckets_log2(mut self, log2: u32) -> Self {
        self.buckets_log2 = log2;
        self
    }

    /// Chooses the number of buckets for so many distinct stacks: 6 to 11 bytes of table for each,
    /// 5.8 to 11.6 stacks for each bucket of 12.
    ///
    /// More stacks than expected, or so many that the buckets are nearly full, cost a second line
    /// for some lookups (one in ten of those that hit at 11.6).
    pub fn expected_stacks(mut self, stacks: usize) -> Self {
        let buckets = (stacks.min(TOTAL_LIMIT) * 5).div_ceil(58).max(1);
        self.buckets_log2 = buckets.next_power_of_two().trailing_zeros().min(BUCKETS_LOG2_LIMIT);
        self
    }

    /// The most memory that an own mapping uses, everything included; at most 1 GiB is, default 64
    /// MiB. A region is its own budget.
    pub fn budget_bytes(mut self, bytes: usize) -> Self {
        self.budget = bytes;
        self
    }

    /// Frames kept of a stack: 1 to 255, default 64.
    pub fn max_depth(mut self, frames: usize) -> Self {
        self.max_depth = frames;
        self
    }

    /// How much the pools grow at a time. Default: a 64th of the budget, between 64 KiB and 2 MiB;
    /// with huge pages 2 MiB.
    pub fn pool_bytes(mut self, bytes: usize) -> Self {
        self.pool = Some(bytes);
        self
    }

    /// Whether an own mapping of 32 MiB or more asks for huge pages; default yes. They save most of
    /// the TLB misses of a large depot, and the first touch of each clears 2 MiB.
    pub fn huge_pages(mut self, huge: bool) -> Self {
        self.huge = huge;
        self
    }

    /// The caller knows that whoever wrote the region before is gone, though its process id may
    /// look alive (another container, a reused number), and that a half-made region is nobody's
    /// work in progress.
    pub fn take_over(mut self, yes: bool) -> Self {
        self.take_over = yes;
        self
    }

    /// The caller knows that no other depot object of this process writes the region: what has its
    /// process id was left by the program that it was before an `exec`.
    pub fn after_exec(mut self, yes: bool) -> Self {
        self.after_exec = yes;
        self
    }

    /// A depot that keeps every stack: no counting, any number of writing processes on one shared
    /// region.
    pub fn no_eviction(self) -> Builder<NoEviction> {
        let Self { buckets_log2, budget, max_depth, pool, huge, take_over, after_exec, .. } = self;
        let eviction = PhantomData;
        Builder { buckets_log2, budget, max_depth, pool, huge, take_over, after_exec, eviction }
    }

    /// Makes a depot in memory of its own: the budget is reserved as address space and mapped pool
    /// by pool.
    ///
    /// # Errors
    /// [`Error::BadSetting`], [`Error::TooSmall`], or [`Error::Memory`].
    ///
    /// # Context
    /// Allocates nothing on the heap; a few system calls.
    #[cfg(not(loom))]
    pub fn build_mmap(self) -> Result<Depot<E>, Error> {
        let huge = self.huge && self.budget >= 16 * HUGE_POOL;
        let shape = self.shape(self.budget, huge);
        // Before anything is reserved.
        crate::layout::Layout::new(shape)?;
        let memory = Memory::reserve(self.budget, huge)?;
        self.assemble(memory, shape, Sharing::Private)
    }

    /// Makes a depot in the caller's memory, or opens the one that is there: then the settings that
    /// shape it are its own and not the builder's.
    ///
    /// What an earlier process left half done is put right: its locks are released.
    ///
    /// # Errors
    /// Whatever is wrong with the region, and [`Error::Busy`] while another process writes one with
    /// eviction; see [`Error`].
    ///
    /// # Context
    /// Allocates nothing on the heap; a few system calls. Of shared memory, table and first pool
    /// are backed now and the other pools as they are mapped, so that a file system without space
    /// shows up as an error (Linux 5.14 or later; before, as SIGBUS).
    pub fn build_in(self, region: Region) -> Result<Depot<E>, Error> {
        let memory = Memory::of(&region)?;
        let shape = self.shape(memory.total() * 8, false);
        self.assemble(memory, shape, region.sharing)
    }

    fn shape(&self, bytes: usize, huge: bool) -> Shape {
        let total = (bytes / 8).min(TOTAL_LIMIT);
        let largest = record_words(self.max_depth.clamp(1, DEPTH_LIMIT)) * 8;
        let by_budget = (bytes / 64).next_power_of_two().clamp(64 << 10, HUGE_POOL);
        let pool = self.pool.unwrap_or(if huge { HUGE_POOL } else { by_budget });
        let pool = pool.max(2 * largest).checked_next_power_of_two().unwrap_or(usize::MAX) / 8;
        Shape {
            evicts: E::EVICTS,
            buckets_log2: self.buckets_log2,
            max_depth: self.max_depth,
            total,
            pool,
        }
    }

    fn assemble(self, memory: Memory, wanted: Shape, sharing: Sharing) -> Result<Depot<E>, Error> {
        // Installs the fork handler now rather than in a signal handler's first save.
        percpu::fork::generation();
        let (layout, found) = create_or_open(&memory, wanted, self.take_over)?;
        if layout.evicts != E::EVICTS {
            return Err(Error::Flavour);
        }
        let writer = Writer::claim(
            &memory,
            &layout,
            sharing,
            found == Found::Existing,
            self.take_over,
            self.after_exec,
        )?;
        Ok(Depot::assemble(memory, layout, sharing, writer))
    }
}
