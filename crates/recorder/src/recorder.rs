//! Setting up: the depot, what is loaded, the parts of threads.

use crate::stack_cache::{Keys, Path, StackCache};
use crate::store::Store;
use crate::thread::Thread;
use alloc::boxed::Box;
use alloc::vec::Vec;
use core::fmt;
use core::ptr;
use core::sync::atomic::{AtomicPtr, AtomicUsize, Ordering};
use stackdepot::{Builder, Depot, Region};
use unwind::{Method, Module, Unwinder};
use wire::{Frame, Identity, NoStack, Segment};

/// Counts hits by stack, in one process.
#[derive(Debug)]
pub struct Recorder {
    pub(crate) segment: &'static Segment,
    pub(crate) unwinder: &'static Unwinder,
    pub(crate) store: Store,
    /// For telling stacks apart.
    pub(crate) keys: Keys,
    pub(crate) method: Method,
    /// Most frames, the function's own included.
    pub(crate) depth: usize,
    pub(crate) timed: bool,
    /// By block.
    threads: Box<[AtomicPtr<Thread>]>,
    /// Bytes of the threads' parts.
    thread_bytes: AtomicUsize,
    /// Called when [`Recorder::bytes`] has grown.
    grown: fn(),
    /// What consumers have of it: the newest, which leads to the one before.
    sites: AtomicPtr<Site>,
    /// What the depot asks for more memory.
    reach: *const Reach,
}

/// [`Segment::reach_depot`] of a recorder's segment.
type Reach = dyn Fn(usize) -> bool + Send + Sync;

#[allow(unsafe_code)]
// SAFETY: `reach` is only an address, of something that is both; the rest is both by itself.
unsafe impl Send for Recorder {}
#[allow(unsafe_code)]
// SAFETY: as above.
unsafe impl Sync for Recorder {}

/// Why stacks cannot be recorded.
#[derive(Debug)]
pub enum StartError {
    /// The segment has no room for stacks.
    NoStacks,
    /// No memory.
    Memory,
    /// The depot in the segment cannot be used.
    Depot(stackdepot::Error),
}

impl fmt::Display for StartError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoStacks => f.write_str("the segment has no room for stacks"),
            Self::Memory => f.write_str("no memory for the unwinder"),
            Self::Depot(why) => write!(f, "the depot: {why}"),
        }
    }
}

impl core::error::Error for StartError {}

/// Something that is loaded, for [`Recorder::loaded`].
#[derive(Clone, Debug)]
pub struct Loaded {
    /// Where it is, and where its unwind tables are.
    pub module: Module,
    /// Which file it is.
    pub file: Identity,
}

/// A function to record.
#[derive(Clone, Copy, Debug)]
pub struct Probe {
    /// Address of the probed instruction.
    pub address: u64,
    /// Whether it is the function's first: then, if functions are called, the return address is on
    /// top of the stack.
    pub entry: bool,
    /// Offset of its cell in the blocks.
    pub cell: u32,
    /// Whether its time is taken: the cell has a histogram, and the segment has times of stacks.
    pub timed: bool,
}

/// What a consumer gets with a hit.
pub(crate) struct Site {
    pub(crate) recorder: &'static Recorder,
    pub(crate) probe: Probe,
    /// The probe's address as stacks show it.
    pub(crate) frame: u64,
    pub(crate) method: Method,
    /// The one that was made before.
    before: *const Site,
}

impl Recorder {
    /// Makes the depot, or opens the one that another process has made.
    ///
    /// # Errors
    /// See [`StartError`]. That too many processes write already is none: their hits are counted
    /// without stacks.
    ///
    /// # Context
    /// Allocates, makes system calls. The recorder and all that it makes stay for the life of the
    /// process, unless it is [ended](Recorder::end). `grown` is called when [`Recorder::bytes`] has
    /// grown for a thread that is new, in
    /// the context of [`uprobe::slowly`].
    pub fn start(segment: &'static Segment, grown: fn()) -> Result<&'static Self, StartError> {
        let unwinder = Unwinder::new().ok_or(StartError::Memory)?;
        Self::start_with(Box::leak(Box::new(unwinder)), segment, grown)
    }

    /// [`Recorder::start`] with an unwinder that may have learned something already.
    ///
    /// # Errors
    /// As there.
    pub fn start_with(
        unwinder: &'static Unwinder,
        segment: &'static Segment,
        grown: fn(),
    ) -> Result<&'static Self, StartError> {
        let stacks = segment.stacks().ok_or(StartError::NoStacks)?;
        let reach: Box<Reach> = Box::new(|end| segment.reach_depot(end));
        let reach = Box::into_raw(reach);
        #[allow(unsafe_code)]
        // SAFETY: just made; freed when the depot is gone.
        let store = store(segment, unsafe { &*reach }).inspect_err(|_| free(reach))?;
        let recorder = Self {
            segment,
            unwinder,
            store,
            keys: Keys::random(Path::PAIRS),
            method: if stacks.frame_pointers { Method::FramePointers } else { Method::Tables },
            // One frame of the 256 is for the mark of a stack that is not whole.
            depth: usize::from(stacks.depth).clamp(1, 254),
            timed: stacks.timed,
            threads: (0..segment.shape().blocks).map(|_| AtomicPtr::new(ptr::null_mut())).collect(),
            thread_bytes: AtomicUsize::new(0),
            grown,
            sites: AtomicPtr::new(ptr::null_mut()),
            reach,
        };
        Ok(Box::leak(Box::new(recorder)))
    }

    /// Frees it, with all that was made for its threads and consumers; the unwinder stays.
    ///
    /// # Safety
    /// It was made by this crate, nobody uses it or its consumers, now or later, and all threads'
    /// [words](uprobe::thread_word) are 0 before they use another recorder.
    ///
    /// # Context
    /// As [`Recorder::start`].
    #[allow(unsafe_code)]
    pub unsafe fn end(&'static self) {
        let this = ptr::from_ref(self).cast_mut();
        for place in &self.threads {
            let thread = place.load(Ordering::Acquire);
            if !thread.is_null() {
                // SAFETY: made from a box in `thread`, and nobody's any more.
                drop(unsafe { Box::from_raw(thread) });
            }
        }
        let mut next = self.sites.load(Ordering::Acquire);
        while !next.is_null() {
            // SAFETY: made from a box in `site`, and nobody's any more.
            let site = unsafe { Box::from_raw(next) };
            next = site.before.cast_mut();
        }
        let reach = self.reach.cast_mut();
        // SAFETY: made from a box in `start_with`; the caller's promise.
        drop(unsafe { Box::from_raw(this) });
        // The depot went with it.
        free(reach);
    }

    /// What consumers of a probe have.
    pub(crate) fn site(&'static self, probe: Probe, frame: u64, method: Method) -> &'static Site {
        let new = Site { recorder: self, probe, frame, method, before: ptr::null() };
        let new = Box::leak(Box::new(new));
        let mut before = self.sites.load(Ordering::Relaxed);
        loop {
            new.before = before;
            // Release pairs with the Acquire in `end`.
            let order = (Ordering::Release, Ordering::Relaxed);
            match self.sites.compare_exchange(before, new, order.0, order.1) {
                Ok(_) => return new,
                Err(newer) => before = newer,
            }
        }
    }

    /// Says what is loaded now, and gives each file a number in the segment.
    ///
    /// # Context
    /// Allocates. With signals blocked; not from a consumer that records.
    pub fn loaded(&self, all: Vec<Loaded>) {
        // What is not seen needs no number.
        let number =
            |l: &Loaded| if l.module.unseen { None } else { self.segment.module_of(&l.file) };
        let tagged =
            |l: Loaded| Module { tag: number(&l).map_or(l.module.bias, Frame::tag), ..l.module };
        self.unwinder.set_modules(all.into_iter().map(tagged).collect());
    }

    /// In a fork child, before its first hit.
    pub fn forked(&self) {
        self.unwinder.forked();
    }

    /// No system call is made from now on: stacks for which there is no memory yet are not kept.
    pub fn seal(&self) {
        self.store.seal();
        self.unwinder.seal();
    }

    /// In a fork child of a process that was sealed, behind all other handlers of forks: its number
    /// is `pid`.
    pub fn settled_sealed(&self, pid: u32) {
        self.store.adopt_as(pid);
    }

    /// Memory in this process, beside the segment, in bytes.
    pub fn bytes(&self) -> usize {
        self.unwinder.bytes() + self.thread_bytes.load(Ordering::Relaxed)
    }

    /// Counts a hit that has no stack.
    #[cold]
    pub(crate) fn without(&self, why: NoStack) {
        self.segment.no_stack(why, 1);
    }

    /// The part of the thread with this block. Allocates the first time: not on the way of a hit.
    pub(crate) fn thread(&self, block: usize) -> *mut Thread {
        let Some(place) = self.segment.block_at(block).and_then(|index| self.threads.get(index))
        else {
            return ptr::null_mut();
        };
        let found = place.load(Ordering::Acquire);
        if !found.is_null() {
            #[allow(unsafe_code)]
            // SAFETY: leaked below; the calling thread owns the block, so nobody else uses its
            // part.
            unsafe { &mut *found }.handed_over(self.segment, &self.store);
            return found;
        }
        let index = self.segment.block_at(block).unwrap_or_default();
        let new = Box::into_raw(Box::new(Thread::new(self.segment, &self.store, index)));
        self.thread_bytes.fetch_add(Thread::BYTES, Ordering::Relaxed);
        place.store(new, Ordering::Release);
        (self.grown)();
        new
    }

    /// Lets a thread remember more stacks. Allocates, as above.
    pub(crate) fn grow(&self, thread: &mut Thread) {
        thread.cache.grow();
        self.thread_bytes.fetch_add(StackCache::GROWTH, Ordering::Relaxed);
        (self.grown)();
    }
}

/// Bytes of a depot for each stack that its table is made for. Records are smaller: a depot that
/// fills up has a few overflow buckets behind each, and one that does not wastes little of a table
/// that is there from the start (2 MiB for 512 MiB).
const BYTES_PER_STACK: usize = 2048;

#[allow(unsafe_code)]
fn free(reach: *mut Reach) {
    // SAFETY: callers have it from `Box::into_raw`, and no depot uses it.
    drop(unsafe { Box::from_raw(reach) });
}

fn store(segment: &'static Segment, reach: &'static Reach) -> Result<Store, StartError> {
    let stacks = segment.stacks().ok_or(StartError::NoStacks)?;
    let (base, bytes) = segment.depot_region().ok_or(StartError::NoStacks)?;
    // One more than the depth, for the mark at the end of a stack that is not whole.
    let builder = || {
        Depot::builder()
            .max_depth(usize::from(stacks.depth) + 1)
            .expected_stacks(bytes / BYTES_PER_STACK)
            .after_exec(true)
    };
    #[allow(unsafe_code)]
    // SAFETY: the part of a segment that is mapped as far as `reach` says, as long as the process
    // lives, and that nobody uses otherwise; it may be called in any context.
    let region = || unsafe { Region::growing(base, bytes, reach) };
    fn open<G: stackdepot::Eviction>(
        builder: Builder<G>,
        region: Region,
    ) -> Result<Option<Depot<G>>, StartError> {
        match builder.build_in(region) {
            Ok(depot) => Ok(Some(depot)),
            Err(stackdepot::Error::Busy(_)) => Ok(None),
            Err(why) => Err(StartError::Depot(why)),
        }
    }
    Ok(if stacks.evict {
        open(builder(), region())?.map_or(Store::Closed, Store::Evict)
    } else {
        open(builder().no_eviction(), region())?.map_or(Store::Closed, Store::Keep)
    })
}
